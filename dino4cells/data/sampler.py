"""Which samples a process sees, counted in samples: the order does not depend on the number of processes.

The stream of an experiment is the concatenation of its epochs, each in an order that the seed and the epoch alone decide. A step takes
the next `batch_size` samples of the stream; process r of R takes the r-th of R equal slices, or, where the order is interleaved, every
R-th sample from the r-th on. So a run may stop after any step and go on with another number of processes or another batch size, and sees
the samples that it would have seen.

Dimensions: M memberships of rows in classes, U units, K classes, L samples of an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from dino4cells.errors import ConfigError

EpochAndIndex = tuple[int, int]
"""(draw, row). The draw is the epoch; where one epoch draws a row again, it is the epoch + 2³² × the draws of that row before in
this epoch. So no two samples of a run have the same pair, and random numbers made of it (views, image modes) differ between them."""
DRAWS_AGAIN = 2**32

Rows = NDArray[np.int64]


class Draws(Protocol):
    """A number for each place of an epoch."""

    def __getitem__(self, place: int, /) -> Any: ...


class Order(Protocol):
    """Which rows an epoch draws, and in what order."""

    @property
    def interleaved(self) -> bool:
        """Whether a process takes every R-th sample of a batch, in place of a slice of it."""

    @property
    def rows(self) -> int:
        """How many rows can be drawn."""

    @property
    def fingerprint(self) -> str:
        """What tells this order from others of the same table and configuration; empty for one that these decide."""

    def __len__(self) -> int:
        """Samples of an epoch."""

    def draw(self, seed: int, epoch: int) -> tuple[Draws, Draws]:
        """The rows of an epoch, and how often each was drawn before in this epoch; a function of seed and epoch alone."""


@dataclass(frozen=True, eq=False)
class SampleOrder:
    """Which rows an epoch draws, and in what order.

    Rows form units, of which a draw takes one row at random; units belong to classes, which an epoch draws equally often. The draws of a
    class are spread over its units as evenly as their number allows: in an epoch no unit comes more than once more often than another,
    and which do is drawn anew in every epoch. A permutation of the rows is the case of one class and a unit for every row.

    Attributes:
        rows_M: row numbers, those of a unit side by side, and the units of a class.
        unit_starts: (U + 1,) where each unit begins in `rows_M`, and the end.
        class_sizes: (K,) units of each class.
    """

    rows_M: Rows
    unit_starts: Rows
    class_sizes: Rows

    interleaved = False
    fingerprint = ""

    @classmethod
    def of_rows(cls, count: int) -> SampleOrder:
        """Every row once per epoch."""
        return cls(np.arange(count), np.arange(count + 1), np.array([count]))

    @classmethod
    def of_groups(cls, groups_N: NDArray[np.int64]) -> SampleOrder:
        """One row of each group per epoch.

        Args:
            groups_N: number of each row's group, from 0, without gaps.
        """
        sizes = np.bincount(groups_N)
        return cls(np.argsort(groups_N, kind="stable"), _starts(sizes), np.array([len(sizes)]))

    @classmethod
    def balanced(cls, rows_M: Rows, classes_M: NDArray[np.int64], groups_N: NDArray[np.int64] | None = None) -> SampleOrder:
        """Every class equally often: as many draws per epoch as memberships, rounded down to a multiple of the classes.

        Args:
            rows_M, classes_M: the memberships: a row and the number of a class that it belongs to, from 0; at least one. A row of several
                classes has several memberships; a class that has none is not drawn.
            groups_N: number of each row's group. Then a class draws evenly from its groups, and a draw takes one of the group's rows
                that belong to the class; an epoch counts groups, not rows.

        Example:
            >>> targets_NK = np.array([[1, 0], [1, 0], [0, 1], [1, 0]])
            >>> rows_L, _ = SampleOrder.balanced(*np.nonzero(targets_NK)).draw(seed=0, epoch=0)
            >>> int((rows_L == 2).sum()), len(rows_L)
            (2, 4)
        """
        if groups_N is None:
            rows = rows_M[np.argsort(_small(classes_M), kind="stable")]
            return cls(rows, np.arange(len(rows) + 1), _sizes(classes_M))
        groups_M = groups_N[rows_M]
        by_class = np.lexsort((groups_M, classes_M))
        classes, groups = classes_M[by_class], groups_M[by_class]
        begins = np.flatnonzero(np.r_[True, (classes[1:] != classes[:-1]) | (groups[1:] != groups[:-1])])
        return cls(rows_M[by_class], np.r_[begins, len(rows_M)], _sizes(classes[begins]))

    def __len__(self) -> int:
        """Samples of an epoch."""
        return len(self.class_sizes) * self._draws_of_a_class

    @property
    def rows(self) -> int:
        """How many rows can be drawn."""
        return int(np.count_nonzero(np.bincount(self.rows_M)))

    @property
    def _draws_of_a_class(self) -> int:
        return (len(self.unit_starts) - 1) // len(self.class_sizes)

    def draw(self, seed: int, epoch: int) -> tuple[Rows, Rows]:
        """(L,) rows of an epoch in order, and (L,) how often each was drawn before in this epoch; a function of seed and epoch alone."""
        random = np.random.default_rng((seed, epoch))
        units_L = random.permutation(len(self.unit_starts) - 1)
        if len(self.class_sizes) > 1:
            units_L = random.permutation(self._evenly(units_L))
        first_L = self.unit_starts[units_L]
        sizes_L = self.unit_starts[units_L + 1] - first_L
        if sizes_L.max(initial=1) > 1:
            first_L = first_L + random.integers(sizes_L)
        rows_L = self.rows_M[first_L]
        return rows_L, _draws_before(rows_L) if len(self.class_sizes) > 1 else np.zeros_like(rows_L)

    def _evenly(self, units_U: Rows) -> Rows:
        """The units, in random order, each as often as its class's share asks for."""
        classes = _small(np.repeat(np.arange(len(self.class_sizes)), self.class_sizes))
        units_U = units_U[np.argsort(classes[units_U], kind="stable")]
        place_U = np.arange(len(units_U)) - np.repeat(_starts(self.class_sizes)[:-1], self.class_sizes)
        rounds, more = np.divmod(self._draws_of_a_class, self.class_sizes)
        times_U = np.repeat(rounds, self.class_sizes) + (place_U < np.repeat(more, self.class_sizes))
        drawn: Rows = np.repeat(units_U, times_U)
        return drawn


def _sizes(classes: NDArray[np.int64]) -> Rows:
    """Members of each class that has any."""
    sizes = np.bincount(classes)
    return sizes[sizes > 0]


def _starts(sizes: NDArray[np.int64]) -> Rows:
    """Where each of consecutive runs begins, and the end."""
    starts: Rows = np.r_[0, np.cumsum(sizes)]
    return starts


def _small(numbers: NDArray[np.int64]) -> NDArray[np.integer]:
    """The same numbers from 0 in the smallest type: numpy sorts 16 bits in linear time."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))


def _draws_before(rows_L: Rows) -> Rows:
    """How often each row occurs earlier in the order."""
    by_row = np.argsort(rows_L, kind="stable")
    same = rows_L[by_row]
    new = np.r_[True, same[1:] != same[:-1]]
    place = np.arange(len(rows_L))
    before = np.empty_like(rows_L)
    before[by_row] = place - np.maximum.accumulate(np.where(new, place, 0))
    return before


@dataclass(frozen=True)
class SampleStream(Sampler[list[EpochAndIndex]]):
    """Batch sampler over (draw, row) pairs.

    Attributes:
        order: of each epoch.
        epochs: how many epochs.
        batch_size: samples per step over all processes; a multiple of `world_size`.
        seed: of the order.
        start: samples of the stream that were seen already.
        rank, world_size: this process and the number of processes.

    Raises:
        ConfigError: the batch is larger than an epoch, or cannot be divided by the number of processes.
    """

    order: Order
    epochs: int
    batch_size: int
    seed: int = 0
    start: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size > len(self.order):
            whole = "the data" if len(self.order) == self.order.rows else "an epoch"
            raise ConfigError(
                f"model.batch_size: a batch of {self.batch_size} images (over {self.world_size} processes) is larger than {whole} "
                f"({len(self.order)} images); use a batch of at most {len(self.order)}."
            )
        if self.batch_size % self.world_size:
            raise ConfigError(
                f"model.batch_size: a batch of {self.batch_size} images cannot be divided over {self.world_size} processes; "
                f"use a multiple of {self.world_size}."
            )

    @property
    def total(self) -> int:
        """Samples that the whole run sees; the last step that would be incomplete is left out."""
        return self.start + len(self) * self.batch_size

    def __len__(self) -> int:
        return max(0, len(self.order) * self.epochs - self.start) // self.batch_size

    def __iter__(self) -> Iterator[list[EpochAndIndex]]:
        share, length = self.batch_size // self.world_size, len(self.order)
        current = -1
        rows: Draws
        before: Draws
        rows = before = np.empty(0, np.int64)
        for step in range(len(self)):
            first = self.start + step * self.batch_size
            places = range(first + self.rank * share, first + (self.rank + 1) * share)
            if self.order.interleaved:
                places = range(first + self.rank, first + self.batch_size, self.world_size)
            batch = []
            for position in places:
                epoch, place = divmod(position, length)
                if epoch != current:
                    current, (rows, before) = epoch, self.order.draw(self.seed, epoch)
                batch.append((epoch + DRAWS_AGAIN * int(before[place]), int(rows[place])))
            yield batch
