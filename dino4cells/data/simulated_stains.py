"""The stains of one simulated cell: microtubules, ER and DNA of its body (`simulated_cell`), and a protein in one of several places.

Legend: as in `simulated_cell`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dino4cells.data.simulated_cell import FIELD_UM, Anatomy, Image, Points, draw_anatomy

Noise = Callable[[float], Image]

CHANNELS = ("microtubules", "protein", "nucleus", "ER")
# Terms of the Human Protein Atlas.
LOCALIZATIONS = ("Nucleoplasm", "Nucleoli", "Nuclear membrane", "Cytosol", "Mitochondria", "Plasma membrane", "Vesicles")


def draw_cell(localization: str, cell_line: str, pixels: int, rng: np.random.Generator) -> Image:
    """Draw one cell.

    Args:
        localization: where the protein is, one of `LOCALIZATIONS`.
        cell_line: the shape, one of `CELL_LINES`.
        pixels: side of the fine grid, which covers `FIELD_UM`.
        rng: the only source of randomness.

    Returns:
        float32 (4, pixels, pixels) in the order of `CHANNELS`, at least 0. Every channel sums to the area of the cell (in fine pixels): the
        amount of a stain says nothing about where it is, which keeps the classes apart from mean intensity.
    """
    anatomy = draw_anatomy(cell_line, pixels, rng)

    def noise(scale_um: float) -> Image:
        return texture(rng, pixels, scale_um)

    stains = np.stack(
        [
            _microtubules(anatomy, rng),
            _protein(localization, anatomy, noise, rng),
            _dna(anatomy, noise),
            _endoplasmic_reticulum(anatomy, noise, rng),
        ]
    )
    area = anatomy.cell.mask().sum()
    image: Image = stains * (area / stains.sum(axis=(1, 2), keepdims=True))
    return image


@lru_cache(maxsize=64)
def gaussian_rows(out: int, inner: int, sigma: float) -> Image:
    """Matrix (out, inner) that resamples a line of `inner` samples to `out` under a Gaussian of `sigma`, in units of the line's length.

    Two of them blur and resize an image in two small matrix products: `rows @ image @ rows.T`. Each row sums to 1.
    """
    to = (np.arange(out) + 0.5)[:, None] / out
    source = (np.arange(inner) + 0.5)[None, :] / inner
    weights = np.exp(-0.5 * ((to - source) / max(sigma, 0.3 / inner)) ** 2)
    rows: Image = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows


def texture(rng: np.random.Generator, pixels: int, scale_um: float) -> Image:
    """Smooth Gaussian noise of mean 0, standard deviation 1 and correlation length `scale_um`."""
    nodes = int(min(pixels, np.ceil(1.5 * FIELD_UM / scale_um)))
    rows = gaussian_rows(pixels, nodes, scale_um / FIELD_UM)
    spread = np.sqrt((rows**2).sum(axis=1))
    rows = rows / spread[:, None]
    image: Image = rows @ rng.standard_normal((nodes, nodes), dtype=np.float32) @ rows.T
    return image


def _dna(anatomy: Anatomy, noise: Noise) -> Image:
    chromatin = np.clip(1 + 0.22 * noise(0.7) + 0.14 * noise(1.8), 0.3, 2)
    rim = 1 + 0.25 * anatomy.nucleus.rim(0.5, 0.6)  # heterochromatin lines the envelope
    image: Image = anatomy.nucleus.mask() * chromatin * rim * (1 - 0.6 * anatomy.nucleoli_YX)
    return image


def _endoplasmic_reticulum(anatomy: Anatomy, noise: Noise, rng: np.random.Generator) -> Image:
    # Ridges of |noise| near 0 form a connected net of tubules; around the nucleus the net closes into sheets.
    net = np.exp(-3.0 * np.abs(noise(0.9))) + 0.7 * np.exp(-3.0 * np.abs(noise(1.5)))
    outside = np.maximum(-anatomy.nucleus.depth_YX, 0)
    near = np.exp(-outside / rng.uniform(3.5, 6.0))
    density = (0.12 + near) * (0.25 + net + 0.5 * near) * np.clip(1 + 0.25 * noise(4.0), 0.3, 2)
    fade = np.clip(anatomy.cell.depth_YX / 3.5, 0, 1)
    image: Image = density * fade * (1 - 0.93 * anatomy.nucleus.mask()) + 0.5 * anatomy.nucleus.rim(0.35)
    return image


def _microtubules(anatomy: Anatomy, rng: np.random.Generator) -> Image:
    count, steps = int(rng.integers(80, 120)), 36
    # Most filaments leave the organizing centre, the others the cytoplasm around the nucleus.
    start = anatomy.mtoc + rng.normal(0, 0.7, (count, 2)) @ np.array([1, 1j])
    free = rng.uniform(size=count) < 0.3
    around = np.clip(anatomy.cell.depth_YX - 1, 0, 2) * (anatomy.nucleus.depth_YX < -0.3)
    start[free] = _places(anatomy, around, 4.0, int(free.sum()), rng)
    heading = 2 * np.pi * (np.arange(count) + rng.uniform(-0.4, 0.4, count)) / count
    heading[free] = np.angle(start[free] - anatomy.nucleus_centre) + rng.normal(0, 0.9, int(free.sum()))
    paths, alive = _grow(anatomy, start, heading, rng, steps=steps, step_um=0.8, wander=0.13, avoid_nucleus=0.12)
    bright = alive * (np.arange(steps)[:, None] < rng.uniform(10, 48, count)) * rng.uniform(0.6, 1.4, count)
    lines = _splat(anatomy, paths, bright) * (1 - 0.35 * anatomy.nucleus.mask())
    haze = anatomy.thickness_YX * (1 - 0.6 * anatomy.nucleus.mask())  # free tubulin
    image: Image = lines / lines.sum() + 0.35 * haze / haze.sum()
    return image


def _protein(localization: str, anatomy: Anatomy, noise: Noise, rng: np.random.Generator) -> Image:
    """The pattern of one localization over the diffuse rest that every antibody shows; sums to 1."""
    nucleus, cell = anatomy.nucleus.mask(), anatomy.cell.mask()
    diffuse = anatomy.thickness_YX * (1 - rng.uniform(0.1, 0.6) * nucleus) * np.clip(1 + 0.12 * noise(1.2), 0, 2)
    rest = rng.uniform(0.15, 0.45)
    if localization == "Nucleoplasm":
        pattern = nucleus * np.clip(1 + 0.25 * noise(0.6) + 0.1 * noise(1.5), 0.2, 2) * (1 - 0.75 * anatomy.nucleoli_YX)
    elif localization == "Nucleoli":
        pattern = anatomy.nucleoli_YX * np.clip(1 + 0.2 * noise(0.6), 0.3, 2) + 0.10 * nucleus
        rest += 0.25  # so small a place would saturate the camera if it held as large a share as the others
    elif localization == "Nuclear membrane":
        pattern = anatomy.nucleus.rim(0.40, 0.1) * np.clip(1 + 0.25 * noise(1.2), 0.3, 2) + 0.16 * nucleus
        rest += 0.1
    elif localization == "Cytosol":
        holes = np.clip(1.6 - np.maximum(noise(0.8), 0), 0.35, 1)  # organelles exclude it
        pattern = anatomy.thickness_YX * (1 - rng.uniform(0.7, 0.9) * nucleus) * holes * np.clip(1 + 0.15 * noise(1.5), 0.2, 2)
    elif localization == "Mitochondria":
        pattern = _mitochondria(anatomy, rng)
    elif localization == "Plasma membrane":
        pattern = anatomy.cell.rim(0.45, 0.4) * np.clip(1 + 0.4 * noise(2.5) + 0.25 * noise(0.8), 0.15, 3) + 0.10 * cell
    elif localization == "Vesicles":
        pattern = _vesicles(anatomy, rng)
    else:
        raise ValueError(f"unknown localization {localization!r}")
    image: Image = (1 - rest) * pattern / pattern.sum() + rest * diffuse / diffuse.sum()
    return image


def _mitochondria(anatomy: Anatomy, rng: np.random.Generator) -> Image:
    """Short worms, most of them near the nucleus and pointing away from it."""
    count, steps = int(rng.integers(45, 80)), 16
    where = np.clip(anatomy.cell.depth_YX - 0.8, 0, 3) * (anatomy.nucleus.depth_YX < -0.6)
    start = _places(anatomy, where, rng.uniform(3.5, 7), count, rng)
    heading = np.angle(start - anatomy.nucleus_centre) + rng.normal(0, 0.7, count)
    paths, alive = _grow(anatomy, start, heading, rng, steps=steps, step_um=0.3, wander=0.28, avoid_nucleus=1.0)
    bright = alive * (np.arange(steps)[:, None] < rng.uniform(4, steps + 1, count)) * rng.uniform(0.6, 1.4, count)
    return _blurred(_splat(anatomy, paths, bright), 0.22)


def _vesicles(anatomy: Anatomy, rng: np.random.Generator) -> Image:
    """Round dots of two sizes, denser towards the nucleus."""
    image = np.zeros_like(anatomy.thickness_YX)
    where = np.clip(anatomy.cell.depth_YX - 0.8, 0, 1) * (anatomy.nucleus.depth_YX < -0.5)
    for radius_um, count in ((0.25, int(rng.integers(35, 70))), (0.5, int(rng.integers(4, 12)))):
        spots = _places(anatomy, where, rng.uniform(4, 9), count, rng)
        dots = _splat(anatomy, spots[None], rng.lognormal(0, 0.45, (1, count)))
        image += _blurred(dots, radius_um) * (radius_um / 0.25)
    return image


def _blurred(image_YX: Image, sigma_um: float) -> Image:
    rows = gaussian_rows(len(image_YX), len(image_YX), sigma_um / FIELD_UM)
    image: Image = rows @ image_YX @ rows.T
    return image


def _places(anatomy: Anatomy, where_YX: Image, decay_um: float, count: int, rng: np.random.Generator) -> Points:
    """`count` points drawn where `where_YX` is high, rarer with the distance from the nucleus."""
    chance = where_YX * np.exp(np.minimum(anatomy.nucleus.depth_YX, 0) / np.float32(decay_um))
    cumulative = np.cumsum(chance, dtype=np.float64)
    chosen = np.searchsorted(cumulative, rng.uniform(0, cumulative[-1], count))
    row, column = np.divmod(np.minimum(chosen, chance.size - 1), anatomy.pixels)
    inside = rng.uniform(0, 1, (2, count))
    x, y = ((at + part) * anatomy.pixel_um - FIELD_UM / 2 for at, part in zip((column, row), inside, strict=True))
    points: Points = x + 1j * y
    return points


def _grow(
    anatomy: Anatomy,
    start: Points,
    heading: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    steps: int,
    step_um: float,
    wander: float,
    avoid_nucleus: float,
) -> tuple[Points, NDArray[np.bool_]]:
    """Grow filaments as stiff random walks that glance off the plasma membrane and, as told, off the nucleus.

    Returns:
        Points (steps, filaments), and whether the filament still lies inside the cell there (steps, filaments).
    """
    cell_depth, nucleus_depth = anatomy.cell.depth_YX.ravel(), anatomy.nucleus.depth_YX.ravel()
    off_membrane, into_nucleus = anatomy.cell.inwards_YX.ravel(), anatomy.nucleus.inwards_YX.ravel()
    position, direction = start.copy(), np.exp(1j * heading)
    kicks = np.exp(1j * rng.normal(0, wander, (steps, len(heading))))
    paths = np.empty((steps, len(heading)), dtype=np.complex128)
    alive = np.empty((steps, len(heading)), dtype=np.bool_)
    living = np.ones(len(heading), dtype=np.bool_)
    for step in range(steps):
        at = anatomy.index(position)
        depth = cell_depth[at]
        living = living & (depth > 0.15)
        paths[step], alive[step] = position, living
        inwards = off_membrane[at]
        # Within 2 µm of the membrane the part of the direction that points outwards is taken away, more so the nearer.
        outgoing = np.minimum((direction * inwards.conj()).real, 0)
        steer = np.maximum(1 - depth / 2.0, 0) * outgoing * inwards
        if avoid_nucleus:
            inwards = into_nucleus[at]
            near = np.minimum(np.maximum(0.67 + nucleus_depth[at] / 1.2, 0), 1)
            steer += avoid_nucleus * near * np.maximum((direction * inwards.conj()).real, 0) * inwards
        direction = (direction - steer) * kicks[step]
        direction /= np.abs(direction)
        position = position + step_um * direction
    return paths, alive


def _splat(anatomy: Anatomy, paths: Points, bright: NDArray[np.float64]) -> Image:
    """Draw points (steps, filaments) with weights (steps, filaments), joined along the steps, anti-aliased (bilinear)."""
    pixels = anatomy.pixels
    if len(paths) > 1:
        parts = max(int(np.ceil(np.abs(paths[1, 0] - paths[0, 0]) / anatomy.pixel_um)), 1)
        fraction = (np.arange(parts) / parts)[None, :, None]
        points = (paths[:-1, None] * (1 - fraction) + paths[1:, None] * fraction).ravel()
        weights = np.repeat(bright[1:, None], parts, axis=1).ravel()
    else:
        points, weights = paths.ravel(), bright.ravel()
    seen = weights > 0
    points, weights = points[seen], weights[seen]
    at_x, at_y = (np.clip((part + FIELD_UM / 2) / anatomy.pixel_um - 0.5, 0, pixels - 1.001) for part in (points.real, points.imag))
    left, top = at_x.astype(np.int64), at_y.astype(np.int64)
    part_x, part_y = at_x - left, at_y - top
    corner = top * pixels + left
    index = np.concatenate([corner, corner + 1, corner + pixels, corner + pixels + 1])
    share = np.concatenate([(1 - part_y) * (1 - part_x), (1 - part_y) * part_x, part_y * (1 - part_x), part_y * part_x])
    drawn = np.bincount(index, share * np.tile(weights, 4), pixels * pixels)
    return drawn.reshape(pixels, pixels).astype(np.float32)
