"""Random numbers that belong to a sample, not to a process.

Each sample of a view has a key made of (seed, epoch, sample index, view). A draw hashes the key with a running slot number, so that a
sample gets the same numbers whatever batch, worker or process it is in, and all samples of a batch are drawn in one tensor operation.
The hash is the finalizer of splitmix64 (Steele, Lea, Flood 2014), which passes BigCrush.

Dimensions: N samples of a view.
"""

from __future__ import annotations

import math

import torch

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB
_MANTISSA = 24
_SLOTS = 4096  # of each transform; none draws nearly as many numbers


def _mix(bits: torch.Tensor) -> torch.Tensor:
    """splitmix64's finalizer on int64; multiplication wraps around, shifts are made logical by a mask."""
    bits = (bits ^ ((bits >> 30) & ((1 << 34) - 1))) * _MIX_1
    bits = (bits ^ ((bits >> 27) & ((1 << 37) - 1))) * _MIX_2
    return bits ^ ((bits >> 31) & ((1 << 33) - 1))


def sample_keys(seed: int, epoch_N: torch.Tensor, index_N: torch.Tensor, view_N: torch.Tensor) -> torch.Tensor:
    """Keys (N,) int64 of samples in a view, or of the shape that the arguments broadcast to; the same on every machine."""
    # The seed is mixed by itself first: otherwise epoch 1 of seed 0 would be epoch 0 of seed 1.
    key = _mix(torch.full_like(index_N, seed) + _GOLDEN)
    for part in (epoch_N, index_N, view_N):
        key = _mix((key ^ part) + _GOLDEN)
    return key


class Draws:
    """A sequence of random tensors whose row n depends on `keys_N[n]` and on the number of draws before, and on nothing else."""

    def __init__(self, keys_N: torch.Tensor, first_slot: int = 0) -> None:
        self._keys = keys_N
        self._slot = first_slot

    def __len__(self) -> int:
        return len(self._keys)

    def of_transform(self, position: int) -> Draws:
        """Draws of the transform at a place of the list: what it draws does not depend on what the others draw, or on when."""
        return Draws(self._keys, position * _SLOTS)

    def of_samples(self, chosen_N: torch.Tensor) -> Draws:
        """The draws of the samples for which `chosen_N` (bool) is true, from here on."""
        return Draws(self._keys[chosen_N], self._slot)

    @property
    def device(self) -> torch.device:
        return self._keys.device

    def uniform(self, low: float = 0.0, high: float = 1.0, each: int | None = None) -> torch.Tensor:
        """U(low, high) as float32: (N,), or (N, each)."""
        count = each or 1
        slots = torch.arange(self._slot + 1, self._slot + 1 + count, device=self.device) * _GOLDEN
        self._slot += count
        bits = _mix(self._keys[:, None] + slots)
        unit = ((bits >> (64 - _MANTISSA)) & ((1 << _MANTISSA) - 1)).to(torch.float32) / (1 << _MANTISSA)
        drawn = low + (high - low) * unit
        return drawn if each is not None else drawn[:, 0]

    def integers(self, high: int | torch.Tensor, each: int | None = None) -> torch.Tensor:
        """Uniform integers 0 … high − 1 as int64; `high` may differ by sample, (N,)."""
        bound = high if isinstance(high, int) or each is None else high[:, None]
        return (self.uniform(each=each) * bound).floor().to(torch.int64)

    def chance(self, probability: float) -> torch.Tensor:
        """(N,) bool, true with `probability`."""
        return self.uniform() < probability

    def normal(self, mean: float = 0.0, deviation: float = 1.0, each: int | None = None) -> torch.Tensor:
        """N(mean, deviation²) as float32: (N,), or (N, each); Box and Muller's transform."""
        radius = torch.sqrt(-2 * torch.log1p(-self.uniform(each=each)))
        return mean + deviation * radius * torch.cos(2 * math.pi * self.uniform(each=each))
