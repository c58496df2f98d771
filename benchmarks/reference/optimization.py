"""What surrounds a DINO step: schedules as arrays, groups of parameters, clipping, the teacher's moving average."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


def cosine_schedule(start: float, end: float, steps: int, warmup: int = 0, warmup_start: float = 0.0) -> NDArray[np.float64]:
    """A value for each step: a linear rise to `start`, then half a cosine to `end`."""
    rise = np.linspace(warmup_start, start, warmup, endpoint=False)
    rest = np.arange(steps - warmup)
    return np.concatenate([rise, end + 0.5 * (start - end) * (1 + np.cos(np.pi * rest / max(1, len(rest))))])


def parameter_groups(network: nn.Module) -> list[dict[str, object]]:
    """Weights, which decay, and biases and norms, which do not."""
    decaying, plain = [], []
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        (plain if name.endswith(".bias") or parameter.ndim == 1 else decaying).append(parameter)
    return [{"params": decaying}, {"params": plain, "weight_decay": 0.0}]


def clip_gradients(network: nn.Module, largest: float) -> None:
    """Each parameter's gradient to a norm of at most `largest`, one by one."""
    for parameter in network.parameters():
        if parameter.grad is None:
            continue
        coefficient = largest / (parameter.grad.norm(2) + 1e-6)
        if coefficient < 1:
            parameter.grad.mul_(coefficient)


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """θ_t ← m·θ_t + (1 − m)·θ_s, one parameter after the other."""
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old.mul_(momentum).add_((1 - momentum) * new.detach())
