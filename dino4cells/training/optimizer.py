"""The student's optimizer, DINO's gradient clipping, and the teacher's moving average."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from dino4cells.config import ModelConfig


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017), with the constants of DINO's large-batch runs.

    Biases and norms (one-dimensional parameters) take plain momentum steps.
    """

    def __init__(self, params: Iterable[dict[str, object]], lr: float = 0.0, weight_decay: float = 0.0, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "trust": 0.001})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = parameter.grad
                if parameter.ndim > 1:
                    update = update.add(parameter, alpha=group["weight_decay"])
                    weight, change = parameter.norm(), update.norm()
                    ratio = torch.where((weight > 0) & (change > 0), group["trust"] * weight / change, torch.ones_like(weight))
                    update = update * ratio
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].mul_(group["momentum"]).add_(update)
                parameter.add_(state["momentum"], alpha=-group["lr"])


def build_optimizer(student: nn.Module, config: ModelConfig) -> torch.optim.Optimizer:
    """The configured optimizer in two groups: weights, which decay, and biases and other one-dimensional parameters, which do not."""
    trained = [(name, parameter) for name, parameter in student.named_parameters() if parameter.requires_grad]
    decaying = [parameter for name, parameter in trained if parameter.ndim > 1 and not name.endswith(".bias")]
    plain = [parameter for name, parameter in trained if parameter.ndim <= 1 or name.endswith(".bias")]
    groups: list[dict[str, object]] = [{"params": decaying, "decays": True}, {"params": plain, "decays": False, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=0.9)
    if config.optimizer == "lars":
        return LARS(groups)
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, config.adam_beta2), fused=True)


def set_rates(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Give all groups the learning rate and the decaying one the weight decay."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        if group["decays"]:
            group["weight_decay"] = weight_decay


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> None:
    """Scale each parameter's gradient, one by one, to a norm of at most `largest` (as DINO does; 0: leave them)."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not largest or not gradients:
        return
    scales = (largest / (torch.stack(torch._foreach_norm(gradients)) + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(gradients, scales.unbind())


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """θ_t ← m·θ_t + (1 − m)·θ_s for every parameter (Caron et al. 2021, algorithm 1)."""
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)
