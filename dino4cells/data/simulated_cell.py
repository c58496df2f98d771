"""The body of one simulated cell on a fine grid: outline, nucleus, nucleoli, height; what its stains (`simulated_stains`) have in common.

Legend: N pixels of the fine grid per side; `_YX` arrays are N × N. Points and directions of the plane are complex numbers x + iy, in µm
from the middle of the image, y downwards. A "depth" is the distance in µm from an outline, positive inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Points = NDArray[np.complex128]

FIELD_UM = 40.0  # side of a crop: a cell of a common adherent line fills it
CELL_LINES = ("epithelial-like", "fibroblast-like")


@dataclass(frozen=True)
class Region:
    """A closed outline on the grid: `depth_YX` (µm, positive inside) and the unit vectors `inwards_YX` along which it grows."""

    depth_YX: Image
    inwards_YX: NDArray[np.complex64]

    @classmethod
    def below_one(cls, level_YX: Image, pixel_um: float) -> Region:
        """The region where a smooth `level_YX` is below 1; the depth is its first-order distance (1 − level) / |∇level|."""
        slope_y, slope_x = np.gradient(level_YX, pixel_um)
        steepness = np.maximum(np.sqrt(slope_y**2 + slope_x**2), 0.02)
        inwards = -(slope_x + 1j * slope_y) / steepness
        return cls(((1 - level_YX) / steepness).astype(np.float32), inwards.astype(np.complex64))

    def mask(self, edge_um: float = 0.3) -> Image:
        """1 inside, 0 outside, with a linear edge `edge_um` wide on either side of the outline."""
        image: Image = np.clip(0.5 + self.depth_YX / (2 * edge_um), 0, 1)
        return image

    def rim(self, width_um: float, at_um: float = 0.0) -> Image:
        """A Gaussian line of standard deviation `width_um` that follows the outline `at_um` inside of it."""
        image: Image = np.exp(-0.5 * ((self.depth_YX - at_um) / width_um) ** 2)
        return image


@dataclass(frozen=True)
class Anatomy:
    """The parts of one cell that its stains have in common."""

    pixel_um: float
    cell: Region
    nucleus: Region
    nucleoli_YX: Image
    thickness_YX: Image  # relative height of the cell, 0 outside
    nucleus_centre: complex
    mtoc: complex  # the microtubule-organizing centre beside the nucleus

    @property
    def pixels(self) -> int:
        return len(self.thickness_YX)

    def index(self, points: Points) -> NDArray[np.int64]:
        """Flat index of the pixel that holds each point; points outside the image count as its border."""
        column = np.minimum(np.maximum((points.real + FIELD_UM / 2) / self.pixel_um, 0), self.pixels - 1).astype(np.int64)
        row = np.minimum(np.maximum((points.imag + FIELD_UM / 2) / self.pixel_um, 0), self.pixels - 1).astype(np.int64)
        return row * self.pixels + column


def _line(pixels: int) -> Image:
    """Coordinates (µm) of the pixel centres along a side."""
    line: Image = ((np.arange(pixels) + 0.5) * (FIELD_UM / pixels) - FIELD_UM / 2).astype(np.float32)
    return line


def draw_anatomy(cell_line: str, pixels: int, rng: np.random.Generator) -> Anatomy:
    """A cell of one of `CELL_LINES` on a grid of `pixels` per side, in a frame turned, shifted and (for a spindle) bent at random."""
    pixel_um = FIELD_UM / pixels
    line = _line(pixels)
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    shift_y, shift_x = rng.normal(0, 0.8, 2).astype(np.float32)
    y, x = line[:, None] - shift_y, line[None, :] - shift_x
    along, across = cos * x + sin * y, cos * y - sin * x
    angles = np.linspace(-np.pi, np.pi, 1024, endpoint=False, dtype=np.float32)
    spindle = cell_line == "fibroblast-like"
    if spindle:
        bend = np.float32(rng.normal(0, 0.012))
        across = across - bend * (along**2 - 60)
        length, width = rng.uniform(15.5, 19.5), rng.uniform(5.6, 7.6)
        power = rng.uniform(1.2, 1.6)
        radius = (np.abs(np.cos(angles) / length) ** power + np.abs(np.sin(angles) / width) ** power) ** (-1 / power)
        lobes, ruffle = rng.normal(0, [0.07, 0.07, 0.05]), 0.018
        nucleus_axes = np.array([rng.uniform(5.2, 6.8), rng.uniform(3.1, 4.0)])
        nucleus_turn, nucleus_at = rng.normal(0, 0.12), rng.normal(0, [1.6, 0.4])
    else:
        corners = rng.integers(5, 8)
        faces = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.28, 0.28, corners)) / corners
        apothem = rng.uniform(11.5, 14.5) * rng.uniform(0.84, 1.14, corners)
        toward = np.maximum(np.cos(angles[:, None] - faces), 0) / apothem
        radius = (toward**9).sum(axis=1) ** (-1 / 9)
        lobes, ruffle = rng.normal(0, [0.04, 0.03, 0.02]), 0.012
        long = rng.uniform(5.4, 7.2)
        nucleus_axes = np.array([long, long * rng.uniform(0.74, 0.95)])
        nucleus_turn, nucleus_at = rng.uniform(0, np.pi), rng.normal(0, 1.3, 2)
    for order, lobe in zip((2, 3, 5), lobes, strict=True):
        radius *= 1 + lobe * np.cos(order * angles + rng.uniform(0, 2 * np.pi))
    for order in (9, 14, 19):
        radius *= 1 + ruffle * np.cos(order * angles + rng.uniform(0, 2 * np.pi))
    at_angle = ((np.arctan2(across, along) + np.pi) * (1024 / (2 * np.pi))).astype(np.int32) % 1024
    cell = Region.below_one(np.sqrt(along**2 + across**2) / radius.astype(np.float32)[at_angle], pixel_um)

    cos_n, sin_n = np.float32(np.cos(nucleus_turn)), np.float32(np.sin(nucleus_turn))
    from_x, from_y = along - np.float32(nucleus_at[0]), across - np.float32(nucleus_at[1])
    major, minor = cos_n * from_x + sin_n * from_y, cos_n * from_y - sin_n * from_x
    a, b = (np.float32(axis) for axis in nucleus_axes)
    dent = np.float32(rng.normal(0, 0.012))  # a slight bean
    egg = 1 + np.float32(rng.normal(0, 0.05)) * major / a
    nucleus = Region.below_one(np.sqrt((major / a) ** 2 + ((minor - dent * (major**2 - a * a / 3)) / (b * egg)) ** 2), pixel_um)

    nucleoli = np.zeros_like(along)
    for _ in range(1 + rng.binomial(4, 0.4)):
        distance, direction = np.sqrt(rng.uniform(0, 0.42)), rng.uniform(0, 2 * np.pi)
        at_major, at_minor = a * distance * np.cos(direction), b * distance * np.sin(direction)
        size, stretch = rng.uniform(0.9, 1.85), rng.uniform(0.8, 1.25)
        stretched = np.float32(stretch)
        apart = np.sqrt(((major - np.float32(at_major)) * stretched) ** 2 + ((minor - np.float32(at_minor)) / stretched) ** 2)
        nucleoli = np.maximum(nucleoli, np.clip(0.5 + (np.float32(size) - apart) / 0.6, 0, 1))

    # An adherent cell is a fried egg: flat at the border, high over the nucleus.
    height = np.sqrt(np.clip(cell.depth_YX / 6.0, 0, 1)) * 0.6 + 0.4 * np.exp(-np.maximum(-nucleus.depth_YX, 0) / 3.5)
    thickness = (height * cell.mask()).astype(np.float32)

    # The organizing centre lies just outside the nucleus, on the side that has more cytoplasm.
    toward_middle = np.arctan2(-nucleus_at[1], -nucleus_at[0]) + rng.normal(0, 0.7)
    reach = 1.0 / np.hypot(np.cos(toward_middle - nucleus_turn) / a, np.sin(toward_middle - nucleus_turn) / b) + 0.9
    mtoc = nucleus_at + reach * np.array([np.cos(toward_middle), np.sin(toward_middle)])
    curve = float(bend) if spindle else 0.0

    def to_image(point: NDArray[np.float64]) -> complex:
        p_along, p_across = point[0], point[1] + curve * (point[0] ** 2 - 60)
        return complex(cos * p_along - sin * p_across + shift_x, sin * p_along + cos * p_across + shift_y)

    return Anatomy(pixel_um, cell, nucleus, nucleoli * nucleus.mask(), thickness, to_image(nucleus_at), to_image(mtoc))
