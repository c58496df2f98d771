"""The order of packed images: shuffled, and yet every process reads each block once, and few at a time.

An epoch puts the blocks (`shards.BLOCK_BYTES` of consecutive rows) into a random order, shuffles the rows of each, and cuts the whole
into equal lanes. The stream takes one row of each lane in turn: as many blocks are open at a time as there are lanes, and that many
images one after the other come from different ones. Process r of R takes every R-th image of the stream (`interleaved`), and so has
every R-th lane to itself where R divides the number of lanes.

The order is a function of the seed, the epoch, the blocks and the number of lanes alone: the same by one process as by many, and whatever
the batch is, so that a run is resumed as with any other order.

Dimensions: N rows, K blocks, L lanes.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dino4cells.data.sampler import Draws, Rows
from dino4cells.data.shards import PackedImages


@dataclass(frozen=True, eq=False)
class BlockOrder:
    """Every row once per epoch.

    Attributes:
        starts_K: (K + 1,) where each block begins among the rows, and their number.
        lanes: how many blocks are open at a time.
        rows_N: the rows, those of a block side by side; None where that is their own order.
    """

    starts_K: Rows
    lanes: int
    rows_N: Rows | None = None

    interleaved = True

    @classmethod
    def of(cls, packed: PackedImages, most_lanes: int) -> BlockOrder:
        """The order of a table's packed images.

        Args:
            packed: where they are.
            most_lanes: the number of lanes, where there are as many blocks; else its largest divisor that is not above theirs, so that
                what divides the one mostly divides the other.
        """
        blocks_N = packed.blocks()
        is_sorted = bool((blocks_N[1:] >= blocks_N[:-1]).all())
        rows_N = None if is_sorted else np.argsort(blocks_N, kind="stable")
        in_order = blocks_N if rows_N is None else blocks_N[rows_N]
        starts_K = np.r_[0, np.flatnonzero(in_order[1:] != in_order[:-1]) + 1, len(in_order)]
        lanes = next(count for count in range(min(most_lanes, len(starts_K) - 1), 0, -1) if most_lanes % count == 0)
        return cls(starts_K, lanes, rows_N)

    def __len__(self) -> int:
        """Samples of an epoch."""
        return int(self.starts_K[-1])

    @property
    def rows(self) -> int:
        """How many rows can be drawn."""
        return len(self)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of all that decides the order, besides the seed."""
        digest = hashlib.sha256(f"{self.lanes} lanes".encode())
        for part in (self.starts_K, self.rows_N):
            digest.update(b"" if part is None else np.ascontiguousarray(part, dtype="<i8").data)
        return digest.hexdigest()

    def open_blocks(self, world_size: int) -> int:
        """Blocks that a process of `world_size` has open at a time."""
        return self.lanes // math.gcd(self.lanes, world_size)

    def draw(self, seed: int, epoch: int) -> tuple[Draws, Draws]:
        """The rows of an epoch in order, and how often each was drawn before in this epoch: never."""
        return Lanes(self, seed, epoch), np.broadcast_to(np.int64(0), len(self))


class Lanes:
    """The rows of an epoch by their place in it; made block by block, so that an order of any length takes no memory but its blocks'."""

    def __init__(self, order: BlockOrder, seed: int, epoch: int) -> None:
        self._order, self._seed = order, (seed, epoch)
        self._blocks_K = np.random.default_rng(self._seed).permutation(len(order.starts_K) - 1)
        sizes_K = np.diff(order.starts_K)[self._blocks_K]
        self._ends_K = np.cumsum(sizes_K)
        # As `place // lanes` counts them: the first lanes have one row more where the number of rows cannot be divided.
        lengths_L = len(order) // order.lanes + (np.arange(order.lanes) < len(order) % order.lanes)
        self._starts_L = (np.cumsum(lengths_L) - lengths_L).tolist()
        self._open: dict[int, tuple[int, int, Rows]] = {}

    def __getitem__(self, place: int) -> int:
        turn, lane = divmod(place, self._order.lanes)
        position = self._starts_L[lane] + turn
        first, stop, rows = self._open.get(lane, (0, 0, None))
        if rows is None or not first <= position < stop:
            first, stop, rows = self._open[lane] = self._block_at(position)
        return int(rows[position - first])

    def _block_at(self, position: int) -> tuple[int, int, Rows]:
        """The block that holds a position among the blocks in their order: where it begins and ends, and its rows."""
        number = int(np.searchsorted(self._ends_K, position, side="right"))
        block, stop = int(self._blocks_K[number]), int(self._ends_K[number])
        start, end = self._order.starts_K[block : block + 2].tolist()
        # Not (…, 0), which numpy takes for the same seed as that of the blocks' order.
        places = start + np.random.default_rng((*self._seed, 1 + block)).permutation(end - start)
        rows: Rows = places if self._order.rows_N is None else self._order.rows_N[places]
        return stop - len(rows), stop, rows
