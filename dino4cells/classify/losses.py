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


def balanced_weights(targets_NK: torch.Tensor, several: bool) -> torch.Tensor:
    """What the losses of each cell count, so that every class weighs the same; their mean over the cells is 1.

    One class a cell: N / (K n_k) for the cells of class k, as scikit-learn's `class_weight="balanced"`, of the K classes that occur.
    Several labels: of each label, N / (2 n_k) for the cells that have it and N / (2 (N − n_k)) for the others.

    Args:
        targets_NK: zeros and ones of all training cells.
        several: whether a cell may have several labels.

    Returns:
        (N, 1), or (N, K) where a cell may have several labels.
    """
    cells, having_K = len(targets_NK), targets_NK.sum(dim=0)
    if several:
        with_K, without_K = cells / (2 * having_K.clamp(min=1)), cells / (2 * (cells - having_K).clamp(min=1))
        # A label that all cells have, or none, has nothing to be balanced with.
        varies_K = (having_K > 0) & (having_K < cells)
        return torch.where(varies_K, torch.where(targets_NK > 0, with_K, without_K), torch.ones_like(targets_NK))
    weight_K = cells / (int((having_K > 0).sum()) * having_K.clamp(min=1))
    return (targets_NK @ weight_K)[:, None]


LOSSES = {"BCEWithLogitsLoss": binary_cross_entropy, "BCELoss": binary_cross_entropy, "focal_loss": focal_loss}
"""Elementwise losses by their names in the configuration; training takes the mean over cells and classes."""
