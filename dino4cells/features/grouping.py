"""Images of many sizes in steps of one size, and their results in the order of the rows again: at once, for tables of any length.

Images that are padded to one size would be embedded with their padding, so the network takes one size at a time. Where cells have a size of
their own each, few of a batch agree; here they wait for others until a step is full.

Dimensions: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dino4cells.data.dataset import Batch

Size = tuple[int, int]


@dataclass(frozen=True)
class _Image:
    pixels_CHW: torch.Tensor
    index: torch.Tensor
    epoch: torch.Tensor
    row: int

    @property
    def bytes(self) -> int:
        return self.pixels_CHW.numel() * self.pixels_CHW.element_size()


class SizeGroups:
    """Images that wait for others of their size.

    Args:
        seen: what the network sees of an image of this height and width; images that agree in it go together.
        enough: how many images of a seen size make a step.
        most_bytes: the images that wait are at most so large.
        most_rows: no image waits longer than until so many later rows have come.
    """

    def __init__(
        self, seen: Callable[[Size], Size], enough: Callable[[Size], int], *, most_bytes: int = 2**28, most_rows: int = 4096
    ) -> None:
        self._seen, self._enough = seen, enough
        self._most_bytes, self._most_rows = most_bytes, most_rows
        self._waiting: dict[tuple[Size, torch.dtype], list[_Image]] = {}  # the group of the image that waits longest comes first
        self._bytes = 0

    def add(self, batch: Batch) -> Iterator[Batch]:
        """Take a batch, whose rows follow those before, and give the steps that are full, or must wait no longer."""
        sizes: list[Size] = [(height, width) for height, width in batch.sizes_B2.tolist()]
        seen = {size: self._seen(size) for size in set(sizes)}
        if len(set(seen.values())) == 1 and not self._waiting:
            yield batch  # images of one size have nothing to wait for
            return
        for place, ((height, width), row) in enumerate(zip(sizes, batch.index_B.tolist(), strict=True)):
            size = seen[height, width]
            pixels = batch.images_BCHW[place, :, :height, :width].clone()  # of its own, not holding the whole batch
            image = _Image(pixels, batch.index_B[place], batch.epoch_B[place], row)
            group = (size, pixels.dtype)
            self._waiting.setdefault(group, []).append(image)
            self._bytes += image.bytes
            if len(self._waiting[group]) >= self._enough(size):
                yield self._released(group)
            while self._waiting and self._waits_too_long(row):
                yield self._released(next(iter(self._waiting)))

    def rest(self) -> Iterator[Batch]:
        """Steps of the images that still wait."""
        while self._waiting:
            yield self._released(next(iter(self._waiting)))

    def _waits_too_long(self, row: int) -> bool:
        oldest = next(iter(self._waiting.values()))[0]
        return self._bytes > self._most_bytes or row - oldest.row >= self._most_rows

    def _released(self, group: tuple[Size, torch.dtype]) -> Batch:
        images = self._waiting.pop(group)
        self._bytes -= sum(image.bytes for image in images)
        sizes_B2 = torch.tensor([image.pixels_CHW.shape[1:] for image in images])
        first = images[0].pixels_CHW
        padded_BCHW = first.new_zeros(len(images), len(first), *sizes_B2.amax(0).tolist())
        for target, image in zip(padded_BCHW, images, strict=True):
            target[:, : image.pixels_CHW.shape[1], : image.pixels_CHW.shape[2]] = image.pixels_CHW
        index_B, epoch_B = torch.stack([image.index for image in images]), torch.stack([image.epoch for image in images])
        return Batch(padded_BCHW, sizes_B2.to(first.device), index_B, epoch_B)


@dataclass(frozen=True)
class Values:
    """Values (rows, columns) float32 of some rows; NaN, and the reason in `failures`, where an image cannot be used."""

    rows: list[int]
    table: NDArray[np.float32]
    failures: tuple[tuple[int, str], ...] = ()


class InOrder:
    """Values that come in any order of their rows and leave in theirs.

    Args:
        start: the first row.
        columns: of the values.
    """

    def __init__(self, start: int, columns: int) -> None:
        self._next = start
        self._nothing = np.empty((0, columns), np.float32)
        self._come: dict[int, NDArray[np.float32]] = {}
        self._failures: dict[int, str] = {}

    def put(self, values: Values) -> None:
        """Take the values of some rows."""
        self._come.update(zip(values.rows, values.table, strict=True))
        self._failures.update(values.failures)

    def take(self) -> Values:
        """The values of the rows whose predecessors have all left."""
        rows, table = [], [self._nothing]
        while self._next in self._come:
            rows.append(self._next)
            table.append(self._come.pop(self._next)[None])
            self._next += 1
        return Values(rows, np.concatenate(table), tuple((row, self._failures.pop(row)) for row in rows if row in self._failures))
