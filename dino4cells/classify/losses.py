"""Losses of every class against the rest.

Dimensions: N cells, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0


def binary_cross_entropy(logits_NK: torch.Tensor, targets_NK: torch.Tensor) -> torch.Tensor:
    """−y log p − (1 − y) log(1 − p) with p = σ(logit), elementwise (N, K).

    `BCELoss` and `BCEWithLogitsLoss` are this one function: a head gives logits, and σ belongs to the loss, where it does not overflow.
    """
    return F.binary_cross_entropy_with_logits(logits_NK, targets_NK, reduction="none")


def focal_loss(logits_NK: torch.Tensor, targets_NK: torch.Tensor, alpha: float = FOCAL_ALPHA, gamma: float = FOCAL_GAMMA) -> torch.Tensor:
    """−α_t (1 − p_t)^γ log p_t, elementwise (N, K): what is predicted well counts less (Lin et al. 2017, equation 5).

    p_t is σ(logit) where the target is 1, else 1 − σ(logit); α_t likewise is α or 1 − α.
    """
    signed_NK = logits_NK * (2 * targets_NK - 1)  # p_t = σ(signed)
    alphas_NK = alpha * targets_NK + (1 - alpha) * (1 - targets_NK)
    return -alphas_NK * torch.sigmoid(-signed_NK) ** gamma * F.logsigmoid(signed_NK)


LOSSES = {"BCEWithLogitsLoss": binary_cross_entropy, "BCELoss": binary_cross_entropy, "focal_loss": focal_loss}
"""Elementwise losses by their names in the configuration; training takes the mean over cells and classes."""
