"""Pictures of cells for a page: small ones of many, in sheets, and larger ones of a few, a channel at a time.

Dimensions: C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from dino4cells.data.dataset import CellImages
from dino4cells.report.cells import merge, stretch

MOST_PORTRAITS = 5000
"""Cells that a page shows small, at 1 to 2 KB each."""
SIDE, SMALL_SIDE = 64, 48  # pixels; smaller where there are many
FEW_PORTRAITS = 2000
SHEET_COLUMNS = 16
READ_AT_ONCE = 64


@dataclass(frozen=True)
class Portraits:
    """Small pictures of P cells, merged from their channels.

    Attributes:
        places: (P,) int, which cells.
        side: pixels of a picture, which is square.
        sheets: JPEG files of 16 × 16 pictures each, row by row, in the order of `places`.
    """

    places: np.ndarray
    side: int
    sheets: tuple[bytes, ...]


@dataclass(frozen=True)
class CellPictures:
    """The images of a table, all on one scale of intensity.

    Attributes:
        images: rows of the table.
        channels: C names.
        limits: (C, 2) values that become black and white.
    """

    images: CellImages
    channels: Sequence[str]
    limits: np.ndarray

    def portraits(self, rows: np.ndarray, places: np.ndarray) -> Portraits:
        """Small pictures of these rows of the table; one that cannot be read is left out."""
        side = SIDE if len(rows) <= FEW_PORTRAITS else SMALL_SIDE
        tiles: list[np.ndarray] = []
        shown: list[int] = []
        for start in range(0, len(rows), READ_AT_ONCE):
            read = self.images.read(rows[start : start + READ_AT_ONCE].tolist())
            for place, image in zip(places[start : start + READ_AT_ONCE].tolist(), read, strict=True):
                if isinstance(image, torch.Tensor):
                    tiles.append(self._portrait(image, side))
                    shown.append(place)
        per_sheet = SHEET_COLUMNS**2
        sheets = tuple(sheet_jpeg(tiles[start : start + per_sheet], SHEET_COLUMNS) for start in range(0, len(tiles), per_sheet))
        return Portraits(np.asarray(shown, dtype=np.int64), side, sheets)

    def _portrait(self, image_CHW: torch.Tensor, side: int) -> np.ndarray:
        """(side, side, 3) uint8."""
        merged = merge(stretch(fitted(image_CHW.numpy(), side), self.limits), self.channels)
        return np.asarray(np.round(255 * merged), dtype=np.uint8)


def fitted(image_CHW: np.ndarray, side: int, largest: int | None = None) -> np.ndarray:
    """(C, side, side) float32: made smaller by area, or larger with its pixels kept as squares, and centred on zeros.

    Args:
        image_CHW: any number type and size.
        side: pixels.
        largest: the length in pixels that becomes `side`, so that true sizes compare; the image's own longer side when None.
    """
    pixels = torch.from_numpy(np.asarray(image_CHW, dtype=np.float32))[None]
    scale = side / (largest or max(pixels.shape[2:]))
    height, width = (min(side, max(1, round(length * scale))) for length in pixels.shape[2:])
    resized = F.interpolate(pixels, (height, width), mode="area" if scale < 1 else "nearest")[0].numpy()
    canvas = np.zeros((len(resized), side, side), dtype=np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    canvas[:, top : top + height, left : left + width] = resized
    return canvas


def sheet_jpeg(tiles: Sequence[np.ndarray], columns: int, quality: int = 80) -> bytes:
    """Equal tiles (S, S) or (S, S, 3), uint8, row by row in one JPEG."""
    side, rows = len(tiles[0]), -(-len(tiles) // columns)
    sheet = np.zeros((rows * side, min(columns, len(tiles)) * side, *tiles[0].shape[2:]), dtype=np.uint8)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet[row * side : (row + 1) * side, column * side : (column + 1) * side] = tile
    buffer = BytesIO()
    Image.fromarray(sheet).save(buffer, format="JPEG", quality=quality, optimize=True, subsampling=0)
    return buffer.getvalue()
