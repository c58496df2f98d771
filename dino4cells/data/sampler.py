"""Which samples a process sees, counted in samples: the order does not depend on the number of processes.

The stream of an experiment is the concatenation of one random permutation of the data per epoch. A step takes the next
`batch_size` samples of the stream; process r of R takes the r-th of R equal slices. So a run may stop after any step and go on with
another number of processes or another batch size, and every sample is still seen once per epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from dino4cells.errors import ConfigError

EpochAndIndex = tuple[int, int]


@dataclass(frozen=True)
class SampleStream(Sampler[list[EpochAndIndex]]):
    """Batch sampler over (epoch, index) pairs.

    Attributes:
        length: number of samples in the data.
        epochs: how often each sample is seen.
        batch_size: samples per step over all processes; a multiple of `world_size`.
        seed: of the permutations.
        start: samples of the stream that were seen already.
        rank, world_size: this process and the number of processes.

    Raises:
        ConfigError: the batch is larger than the data, or cannot be divided by the number of processes.
    """

    length: int
    epochs: int
    batch_size: int
    seed: int = 0
    start: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size > self.length:
            raise ConfigError(
                f"model.batch_size: a batch of {self.batch_size} images (over {self.world_size} processes) is larger than the data "
                f"({self.length} images); use a batch of at most {self.length}."
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
        return max(0, self.length * self.epochs - self.start) // self.batch_size

    def __iter__(self) -> Iterator[list[EpochAndIndex]]:
        share = self.batch_size // self.world_size
        epoch, order = -1, np.empty(0, np.int64)
        for step in range(len(self)):
            first = self.start + step * self.batch_size + self.rank * share
            batch = []
            for position in range(first, first + share):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
                batch.append((epoch, int(order[position % self.length])))
            yield batch
