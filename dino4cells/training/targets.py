"""From the teacher's logits to the distributions that the student learns, kept from collapsing to one or to uniform.

Dimensions: G global views, B batch of this process, K prototypes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from dino4cells.training.distributed import max_over_ranks, start_sum_over_ranks, sum_over_ranks


class CentringTargets(nn.Module):
    """softmax((t − c)/τ), where the centre c follows the mean of the teacher's logits over all ranks (Caron et al. 2021, §3.1).

    The centre takes a batch in with `settle`, and is not needed before the next one: in between, the sum over ranks travels while the
    student learns.

    Args:
        out_dim: K.
        momentum: of the centre: c ← m·c + (1 − m)·mean.
    """

    center: torch.Tensor

    def __init__(self, out_dim: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(1, out_dim))
        self._arriving: Callable[[], torch.Tensor] | None = None

    @torch.no_grad()
    def forward(self, teacher_logits_GBK: torch.Tensor, temperature: float) -> torch.Tensor:
        """Targets (G, B, K) in float32 with the centre so far; `settle` lets it take this batch in."""
        targets_GBK = ((teacher_logits_GBK - self.center) / temperature).softmax(dim=-1)
        # The sums and the count travel together, so that ranks with unequal batches weigh by their samples.
        count = self.center.new_full((1,), teacher_logits_GBK[..., 0].numel())
        self._arriving = start_sum_over_ranks(torch.cat([teacher_logits_GBK.sum(dim=(0, 1), dtype=count.dtype), count]))
        return targets_GBK

    @torch.no_grad()
    def settle(self) -> None:
        """Wait for the sum over ranks of the last batch, and let the centre take it in."""
        if self._arriving is not None:
            summed, self._arriving = self._arriving(), None
            self.center.mul_(self.momentum).add_(summed[:-1] / summed[-1], alpha=1 - self.momentum)


class SinkhornTargets(nn.Module):
    """Sinkhorn–Knopp: every prototype is assigned the same total weight over the batch of all ranks (SwAV §3.2; DINOv2 §4).

    Args:
        out_dim: K.
        iterations: alternations of row and column normalization.
    """

    center: torch.Tensor

    def __init__(self, out_dim: int, iterations: int = 3) -> None:
        super().__init__()
        self.iterations = iterations
        # Unused here; published checkpoints and their readers expect a centre.
        self.register_buffer("center", torch.zeros(1, out_dim))

    @torch.no_grad()
    def forward(self, teacher_logits_GBK: torch.Tensor, temperature: float) -> torch.Tensor:
        """Targets (G, B, K)."""
        scaled_NK = teacher_logits_GBK.flatten(0, 1).float() / temperature
        largest = max_over_ranks(scaled_NK.amax() if len(scaled_NK) else scaled_NK.new_full((), -torch.inf))
        weights_NK = torch.exp(scaled_NK - largest)
        samples = sum_over_ranks(scaled_NK.new_full((), len(scaled_NK)))
        prototypes = scaled_NK.shape[1]
        for _ in range(self.iterations):
            columns_K = sum_over_ranks(weights_NK.sum(dim=0))
            # A prototype to which float32 gives no weight at all stays without; it does not become NaN.
            weights_NK = weights_NK / (columns_K.clamp(min=torch.finfo(torch.float32).tiny) * prototypes)
            weights_NK = weights_NK / (weights_NK.sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) * samples)
        return (weights_NK * samples).view_as(teacher_logits_GBK)

    def settle(self) -> None:
        """Nothing is left to take in."""
