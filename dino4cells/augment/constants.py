"""Numbers of a transform as tensors. They are brought to a device once: a GPU would be waited for each time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch


def constant(numbers: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """The numbers as a vector of the type and on the device of `like`; not to be changed."""
    return _vector(tuple(numbers), like.dtype, like.device)


@lru_cache(maxsize=256)
def _vector(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    with torch.inference_mode(mode=False):
        return torch.tensor(numbers, dtype=dtype, device=device)
