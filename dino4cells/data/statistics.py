"""Mean and standard deviation of each channel over true pixels, for `Normalize`; the same numbers by one process or by many.

Dimensions: C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch

from dino4cells.data.dataset import CellImages
from dino4cells.data.images import LARGEST
from dino4cells.data.modes import Mode
from dino4cells.data.processes import in_processes, processes_for
from dino4cells.data.source import ImageSource
from dino4cells.errors import DataError

CHUNK = 32
DIGITS = 5
"""Behind the point of a mean or deviation, for people to read and paste."""
SMALLEST_DEVIATION = 1e-3
"""A channel without contrast has no deviation to divide by."""


@dataclass(frozen=True)
class Moments:
    """Sums over the pixels of images, in grey values of 255: whole numbers, and so exact, where the images have 8 bits."""

    pixels: int
    total: tuple[float, ...]
    squares: tuple[float, ...]
    failures: tuple[str, ...] = ()

    @classmethod
    def of(cls, images: CellImages, rows: Sequence[int]) -> Moments:
        """Of each channel that the mode uses, over some rows; images that cannot be read are left out, with their reasons."""
        channels = len(images.source.mode.kept)
        pixels, total, squares = 0, torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
        failures: list[str] = []
        for image in images.read(rows):
            if not isinstance(image, torch.Tensor):
                failures.append(str(image))
                continue
            values = image.to(torch.float64) * (255 / LARGEST.get(image.dtype, 1))
            pixels += values[0].numel()
            total += values.sum(dim=(1, 2))
            squares += values.square().sum(dim=(1, 2))
        return cls(pixels, tuple(total.tolist()), tuple(squares.tolist()), tuple(failures))

    @classmethod
    def sum(cls, parts: Iterable[Moments]) -> Moments:
        """Of the pixels of all parts."""
        return reduce(lambda one, two: one._plus(two), parts)

    def _plus(self, other: Moments) -> Moments:
        total = tuple(one + two for one, two in zip(self.total, other.total, strict=True))
        squares = tuple(one + two for one, two in zip(self.squares, other.squares, strict=True))
        return Moments(self.pixels + other.pixels, total, squares, self.failures + other.failures)

    def given_to_network(self, mode: Mode) -> Moments:
        """Of the channels that a transform meets: those of the mode's inputs, which have a place in common taken together."""
        places = range(mode.in_channels)

        def pooled(values: tuple[float, ...]) -> tuple[float, ...]:
            return tuple(sum(values[given[place]] for given in mode.inputs) for place in places)

        return Moments(self.pixels * len(mode.inputs), pooled(self.total), pooled(self.squares), self.failures)

    def mean_and_deviation(self) -> tuple[list[float], list[float]]:
        """Mean and population standard deviation of each channel, in [0, 1].

        Raises:
            DataError: there are no pixels.
        """
        if not self.pixels:
            raise DataError(f"None of {len(self.failures)} sampled images can be read; the first says: {self.failures[0]}")
        means = [total / self.pixels for total in self.total]
        variances = [max(square / self.pixels - mean**2, 0.0) for square, mean in zip(self.squares, means, strict=True)]
        return [mean / 255 for mean in means], [max(variance**0.5 / 255, SMALLEST_DEVIATION) for variance in variances]


def evenly_drawn(length: int, sample: int | None) -> list[int]:
    """Up to `sample` rows of `length`, evenly through the table; all where None."""
    count = length if sample is None else min(sample, length)
    return [place * length // count for place in range(count)]


def chunks(rows: Sequence[int]) -> Iterable[Sequence[int]]:
    """The rows in pieces that are read at once."""
    return (rows[first : first + CHUNK] for first in range(0, len(rows), CHUNK))


@dataclass(frozen=True)
class Measure:
    """The moments of some rows of a source, for a process of its own."""

    source: ImageSource

    def __call__(self, rows: Sequence[int]) -> Moments:
        return Moments.of(CellImages(self.source, cache_bytes=0), rows)


def measure(
    source: ImageSource, sample: int | None = None, *, processes: int | None = None, progress: Callable[[int], None] = lambda count: None
) -> Moments:
    """The moments of up to `sample` images of a source, evenly drawn; of all when None.

    Args:
        source: the images.
        sample: how many.
        processes: that decode them; by the number of cores and images when None.
        progress: called with the number of images seen since the last call.
    """
    rows = evenly_drawn(len(source), sample)
    parts: list[Moments] = []
    pieces = list(chunks(rows))
    for piece, part in zip(pieces, in_processes(Measure(source), pieces, processes or processes_for(len(rows))), strict=True):
        parts.append(part)
        progress(len(piece))
    return Moments.sum(parts)
