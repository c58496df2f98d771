"""Pictures of cells for a page: small ones of many, in sheets, and larger ones of a few, a channel at a time.

Dimensions: C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
import torch
from PIL import Image

from dino4cells.data.dataset import CellImages
from dino4cells.report.cells import merge, stretch

SIDE, SMALL_SIDE = 64, 48  # pixels; smaller where there are many, at 1 to 2 KB each
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
    pixels = np.asarray(image_CHW, dtype=np.float32)
    scale = side / (largest or max(pixels.shape[1:]))
    height, width = (min(side, max(1, round(length * scale))) for length in pixels.shape[1:])
    rows, columns = _taken(pixels.shape[1], height, scale < 1), _taken(pixels.shape[2], width, scale < 1)
    resized = rows @ pixels @ columns.T / (rows.sum(axis=1)[:, None] * columns.sum(axis=1))
    canvas = np.zeros((len(resized), side, side), dtype=np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    canvas[:, top : top + height, left : left + width] = resized
    return canvas


@lru_cache(maxsize=64)
def _taken(length: int, into: int, averaged: bool) -> np.ndarray:
    """(into, length) float32, 0 or 1: which of a line's pixels each of `into` pixels is the mean of; one where they are not averaged.

    For thousands of small pictures in turn: PyTorch's pooling would wake all its threads for each.
    """
    taken = np.zeros((into, length), dtype=np.float32)
    for place in range(into):
        first, last = place * length // into, -(-(place + 1) * length // into)
        taken[place, first : last if averaged else first + 1] = 1
    return taken


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
