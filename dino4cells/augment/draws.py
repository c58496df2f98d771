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
_AHEAD = 24  # as many as a random resized crop draws; what draws more hashes again


def _mix(bits: torch.Tensor) -> torch.Tensor:
    """splitmix64's finalizer on int64; multiplication wraps around, shifts are made logical by a mask."""
    bits = (bits ^ ((bits >> 30) & ((1 << 34) - 1))) * _MIX_1
    bits = (bits ^ ((bits >> 27) & ((1 << 37) - 1))) * _MIX_2
    return bits ^ ((bits >> 31) & ((1 << 33) - 1))


def _unit(slots: torch.Tensor) -> torch.Tensor:
    """Numbers in [0, 1) as float32, as fine as its mantissa, hashed from keys and slots."""
    return ((_mix(slots) >> (64 - _MANTISSA)) & ((1 << _MANTISSA) - 1)).to(torch.float32) * 2.0**-_MANTISSA


def sample_keys(seed: int, epoch_N: torch.Tensor, index_N: torch.Tensor, view_N: torch.Tensor) -> torch.Tensor:
    """Keys (N,) int64 of samples in a view, or of the shape that the arguments broadcast to; the same on every machine."""
    # The seed is mixed by itself first: otherwise epoch 1 of seed 0 would be epoch 0 of seed 1.
    key = _mix(torch.full_like(index_N, seed) + _GOLDEN)
    for part in (epoch_N, index_N, view_N):
        key = _mix((key ^ part) + _GOLDEN)
    return key


class Draws:
    """A sequence of random tensors whose row n depends on `keys_N[n]` and on the number of draws before, and on nothing else."""

    def __init__(self, keys_N: torch.Tensor, first_slot: int = 0, ahead_NK: torch.Tensor | None = None) -> None:
        """`ahead_NK`: the first K numbers, where they are known already."""
        self._keys = keys_N
        self._first = self._slot = first_slot
        self._ahead_NK = keys_N.new_empty(len(keys_N), 0, dtype=torch.float32) if ahead_NK is None else ahead_NK

    def __len__(self) -> int:
        return len(self._keys)

    def of_transform(self, position: int) -> Draws:
        """Draws of the transform at a place of the list: what it draws does not depend on what the others draw, or on when."""
        return Draws(self._keys, position * _SLOTS)

    def of_transforms(self, count: int) -> list[Draws]:
        """Those of the first `count` transforms, hashed at once: a hash is many small operations, however many numbers it makes."""
        slots_TK = torch.arange(count, device=self.device)[:, None] * _SLOTS + torch.arange(1, _AHEAD + 1, device=self.device)
        ahead_TNK = _unit(self._keys[:, None] + slots_TK[:, None] * _GOLDEN)
        return [Draws(self._keys, position * _SLOTS, ahead_NK) for position, ahead_NK in enumerate(ahead_TNK.unbind())]

    @property
    def device(self) -> torch.device:
        return self._keys.device

    def uniform(self, low: float = 0.0, high: float = 1.0, each: int | None = None) -> torch.Tensor:
        """U(low, high) as float32: (N,), or (N, each)."""
        drawn = self._next(each or 1)
        if (low, high) != (0, 1):
            drawn = low + (high - low) * drawn
        return drawn if each is not None else drawn[:, 0]

    def _next(self, count: int) -> torch.Tensor:
        """The next `count` numbers of each sample in [0, 1), (N, count)."""
        start = self._slot - self._first
        self._slot += count
        if start + count <= self._ahead_NK.shape[1]:
            return self._ahead_NK[:, start : start + count]
        slots = torch.arange(self._slot + 1 - count, self._slot + 1, device=self.device)
        return _unit(self._keys[:, None] + slots * _GOLDEN)

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
