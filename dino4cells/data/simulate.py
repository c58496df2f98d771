"""Simulated fluorescence cells in the handbook's layout: data to try everything on, without a download.

What is drawn is in `simulated_cell` (shapes) and `simulated_stains` (patterns); here is the microscope that photographs it, and the
directory that results.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image as PillowImage
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from dino4cells import storage
from dino4cells.data.handbook_labels import HANDBOOK_LOCALIZATIONS, handbook_localization
from dino4cells.data.simulated_cell import CELL_LINES, FIELD_UM
from dino4cells.data.simulated_stains import CHANNELS, LOCALIZATIONS, draw_cell, gaussian_rows, texture
from dino4cells.errors import DataError

SMALLEST, LARGEST = 32, 256
CELLS_PER_FIELD = 5
_FULL_CROSSING = len(LOCALIZATIONS) * len(CELL_LINES)
# Mean level of each stain inside a cell, in grey values of a plate of average brightness.
_LEVELS = np.array([52.0, 26.0, 21.0, 42.0])


@dataclass(frozen=True)
class SimulatedData:
    """What `simulate` has written; the names are those that occur in the metadata."""

    url: str
    cells: int
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    cell_lines: tuple[str, ...]
    plates: tuple[str, ...]


@dataclass(frozen=True)
class Plate:
    """How one plate was stained and photographed; arrays hold a value per channel."""

    gain: NDArray[np.float64]
    background: NDArray[np.float64]  # grey values: camera offset and stain that did not wash off
    photons: NDArray[np.float64]  # per grey value: fewer make more shot noise
    read_noise: float  # grey values
    blur_um: float  # standard deviation of the point spread function

    @classmethod
    def of(cls, seed: int, plate: int) -> Plate:
        """The plate with this number; it does not depend on how many plates there are."""
        rng = np.random.default_rng((seed, 1, plate))
        # Steps of the golden ratio keep any few successive plates apart in brightness, where independent draws may coincide.
        offset = np.random.default_rng((seed, 2)).uniform()
        brightness = 0.62 * 2.4 ** ((offset + plate * 0.6180339887) % 1)
        return cls(
            gain=brightness * rng.lognormal(0, 0.15, len(CHANNELS)),
            background=rng.uniform(3, 13, len(CHANNELS)),
            photons=rng.uniform(1.2, 3.0, len(CHANNELS)),
            read_noise=float(rng.uniform(0.8, 2.0)),
            blur_um=float(rng.uniform(0.22, 0.40)),
        )


def simulate(
    output: str | os.PathLike[str],
    *,
    cells: int = 1680,
    size: int = 64,
    plates: int = 6,
    seed: int = 0,
    handbook: bool = False,
    progress: Callable[[int], None] | None = None,
) -> SimulatedData:
    """Write a directory of simulated single-cell images with metadata, in the handbook's layout.

    `images/*.png` are 8-bit RGBA: red microtubules, green protein, blue nucleus, alpha ER (`channels.txt` says so). `metadata.csv` has the
    columns file, ID (the field of view), cell_type (the cell line), protein_location (the class), plate, well, and a 0/1 column
    per class; it is written last, so a directory without it is unfinished. With `handbook` classes have the names of the handbook's
    single-cell example, and its 19 columns, in which the classes that are not simulated are 0 everywhere. Every plate holds every class
    in both cell lines. The same seed gives the same bytes, and a cell is the same however many there are.

    Args:
        output: directory or URL. Simulated cells that it holds already are replaced, other data never.
        cells: number of images; 14 per plate hold each class in each line once.
        size: side of an image in pixels, 32 to 256; it always covers 40 µm.
        plates: number of plates, which differ in brightness, background, noise and focus.
        seed: any integer of at least 0.
        handbook: write the metadata of the handbook's example.
        progress: called with the number of cells written so far.

    Raises:
        DataError: a number out of range, or other data at `output`.
        StorageError: `output` cannot be written.

    Example:
        >>> simulate("cells", cells=56, plates=2).classes[:2]  # doctest: +SKIP
        ('Nucleoplasm', 'Nucleoli')
    """
    output = os.fspath(output)
    _check_request(cells=cells, size=size, plates=plates, seed=seed)
    table = _metadata(cells, plates, handbook)
    metadata_url = storage.join(output, "metadata.csv")
    if storage.exists(metadata_url):
        headers = [_metadata(1, 1, labels).head(0).to_csv(index=False).strip() for labels in (False, True)]
        if storage.read_text(metadata_url).partition("\n")[0].strip() not in headers:
            raise DataError(f"{metadata_url} describes data that was not simulated: choose another output directory")
        storage.remove(metadata_url)
    # The matrix products are small: a second BLAS thread quadruples their time.
    with threadpool_limits(limits=1, user_api="blas"):
        for cell, file in enumerate(table["file"]):
            storage.write_bytes(storage.join(output, file), _png(render(cell, size, plates, seed)))
            if progress is not None:
                progress(cell + 1)
    storage.write_text(storage.join(output, "channels.txt"), "".join(f"{channel}\n" for channel in CHANNELS))
    storage.write_text(metadata_url, table.to_csv(index=False, lineterminator="\n"))

    def names(column: str) -> tuple[str, ...]:
        return tuple(str(name) for name in table[column].unique())

    return SimulatedData(output, cells, CHANNELS, names("protein_location"), names("cell_type"), names("plate"))


def render(cell: int, size: int, plates: int, seed: int) -> NDArray[np.uint8]:
    """Draw and photograph cell number `cell`: uint8 (size, size, 4), channels in the order of `CHANNELS`."""
    rng = np.random.default_rng((seed, 0, cell))
    localization, cell_line, plate_number = _design(cell, plates)
    plate = Plate.of(seed, plate_number)
    fine = size * max(2, -(-128 // size))  # filaments and membranes are thinner than a pixel
    specimen = draw_cell(LOCALIZATIONS[localization], CELL_LINES[cell_line], fine, rng)
    return _photograph(specimen, size, plate, rng)


def _photograph(specimen_CYX: NDArray[np.float32], size: int, plate: Plate, rng: np.random.Generator) -> NDArray[np.uint8]:
    fine = specimen_CYX.shape[-1]
    focus = plate.blur_um * rng.uniform(0.9, 1.2)
    # The pixel integrates light over its own width: a Gaussian of the same variance, 1/12 of its square.
    sharp = gaussian_rows(size, fine, float(np.round(np.hypot(focus, FIELD_UM / size / np.sqrt(12)) / FIELD_UM, 4)))
    wide = gaussian_rows(size, size, 1.6 / FIELD_UM)
    focused = sharp @ specimen_CYX @ sharp.T
    light = 0.82 * focused + 0.18 * (wide @ focused @ wide.T)  # planes out of focus
    # Staining varies from cell to cell; expression of the protein far more than the others.
    staining = rng.lognormal(0, [0.2, 0.5, 0.15, 0.2])
    across = np.linspace(-1, 1, size, dtype=np.float32)
    tilt_y, tilt_x = rng.normal(0, 0.08, 2).astype(np.float32)
    shading = 1 + tilt_y * across[:, None] + tilt_x * across[None, :]  # where in the field of view the cell lay
    dirt = 1 + 0.1 * texture(rng, size, 6.0)  # stain that stuck to the glass
    level, background, photons = (
        values.astype(np.float32)[:, None, None] for values in (_LEVELS * plate.gain * staining, plate.background, plate.photons)
    )
    expected = np.maximum((level * light + background * dirt) * shading, 0) * photons
    # Shot noise through Poisson's square root, whose variance is 1/4 at any level: a Poisson sampler takes a varying number of draws, so
    # that a rounding difference between two machines would change all noise after it.
    shot, read = rng.standard_normal((2, *expected.shape), dtype=np.float32)
    counted = ((np.sqrt(expected) + shot / 2) ** 2 - 0.25) / photons + np.float32(plate.read_noise) * read
    image: NDArray[np.uint8] = np.clip(np.rint(counted), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return image


def _design(cell: int, plates: int) -> tuple[int, int, int]:
    """Class, cell line and plate of a cell: counted through in this order, so that any plate gets all pairs alike."""
    return cell % len(LOCALIZATIONS), cell // len(LOCALIZATIONS) % len(CELL_LINES), cell // _FULL_CROSSING % plates


def _metadata(cells: int, plates: int, handbook: bool) -> pd.DataFrame:
    names = [handbook_localization(name) for name in LOCALIZATIONS] if handbook else list(LOCALIZATIONS)
    rows: list[dict[str, str | int]] = []
    for cell in range(cells):
        localization, cell_line, plate = _design(cell, plates)
        repeat = cell // (_FULL_CROSSING * plates)
        well = f"{chr(ord('A') + localization)}{cell_line + 1:02d}"  # one antibody a row, one cell line a column
        field = f"plate{plate + 1}_{well}_{repeat // CELLS_PER_FIELD + 1}"
        row: dict[str, str | int] = {
            "file": f"images/{field}_{repeat % CELLS_PER_FIELD + 1}.png",
            "ID": field,
            "cell_type": CELL_LINES[cell_line],
            "protein_location": names[localization],
            "plate": f"plate{plate + 1}",
            "well": well,
        }
        rows.append(row | {name: int(name == names[localization]) for name in (HANDBOOK_LOCALIZATIONS if handbook else names)})
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def _png(image_YXC: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    # Pillow, as torchvision.io.encode_png takes 1 or 3 channels; level 1 is as small as level 6 on noise and faster.
    PillowImage.fromarray(image_YXC, mode="RGBA").save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


def _check_request(*, cells: int, size: int, plates: int, seed: int) -> None:
    for name, value, low, high in (
        ("cells", cells, 1, 10_000_000),
        ("size", size, SMALLEST, LARGEST),
        ("plates", plates, 1, 10_000),
        ("seed", seed, 0, 2**63),
    ):
        if not low <= value <= high:
            raise DataError(f"simulate: {name} is {value}, but must be from {low} to {high}: give another value for {name}")
