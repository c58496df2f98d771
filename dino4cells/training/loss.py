"""DINO's loss: every student view predicts what the teacher sees in every other global view (Caron et al. 2021, §3.1).

Dimensions: G global views (2), V views of the student (global first), B batch, N = V·B, E bottleneck, K prototypes, D embedding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable


def dino_loss(
    bottleneck_VBE: torch.Tensor,
    prototypes_KE: torch.Tensor,
    targets_GBK: torch.Tensor,
    student_temperature: float,
    *,
    first: int = 0,
    views: int | None = None,
    precision: torch.dtype = torch.float32,
    train_prototypes: bool = True,
) -> torch.Tensor:
    """Mean cross-entropy over all pairs of a teacher's view g and a student's view v ≠ g, from the inputs of the student's last layer.

    The textbook form is, with the student's logits s_v = W·z_v, targets p and log q_v = log softmax(s_v / τ),

        L = 1/pairs · Σ_g Σ_{v≠g} mean_B( −Σ_K p_g · log q_v ).

    It is linear in p, so that the sum over g can be taken first, P_v = Σ_{g≠v} p_g, whose rows sum to n_v, the number of g ≠ v:

        L = −1/pairs · mean_B( Σ_v P_v · log q_v ),   ∂L/∂s_v = (n_v·q_v − P_v) / (pairs·B·τ).

    That is one product with K for each v, not for each pair, and the gradient is known as soon as log q_v is: it takes the place of the
    view's logits. What is kept for the backward pass is one (V, B, K) in `precision`; of float32 there is one view at a time.

    A sum over v, too: the losses of some of the views, with the same targets, add up to that of all.

    Args:
        bottleneck_VBE: z, global views first.
        prototypes_KE: W.
        targets_GBK: the teacher's distributions; rows sum to one, no gradient.
        student_temperature: τ.
        first: number of the first view in `bottleneck_VBE` among all views of the student.
        views: how many these are; V when None.
        precision: of the products with W and of the gradient that is kept; softmax and sums are in float32 (float64 if z is).
        train_prototypes: False leaves W without a gradient, and its product out.

    Returns:
        A scalar; 0 for a batch without images.
    """
    pairs = len(targets_GBK) * ((len(bottleneck_VBE) if views is None else views) - 1)
    loss: torch.Tensor = _CrossEntropy.apply(
        bottleneck_VBE, prototypes_KE, targets_GBK, student_temperature, first, pairs, precision, train_prototypes
    )
    return loss


class _CrossEntropy(torch.autograd.Function):
    """`dino_loss`, whose forward pass makes the gradient of the logits and whose backward pass takes it through the last layer."""

    @staticmethod
    def forward(
        ctx: Any,
        bottleneck_VBE: torch.Tensor,
        prototypes_KE: torch.Tensor,
        targets_GBK: torch.Tensor,
        temperature: float,
        first: int,
        pairs: int,
        precision: torch.dtype,
        train_prototypes: bool,
    ) -> torch.Tensor:
        views, batch, globals_ = *bottleneck_VBE.shape[:2], len(targets_GBK)
        scaled_NE = (bottleneck_VBE / temperature).flatten(0, 1).to(precision)
        weights_KE = prototypes_KE.to(precision)
        # Logits, and then, view by view in their place, the gradient with its sign changed.
        logits_NK = scaled_NE @ weights_KE.T
        all_BK = targets_GBK.sum(dim=0)
        loss = all_BK.new_zeros(())
        for view in range(views):
            place_BK = logits_NK[view * batch : (view + 1) * batch]
            is_global = first + view < globals_
            others_BK, number = (all_BK - targets_GBK[first + view], globals_ - 1) if is_global else (all_BK, globals_)
            logs_BK = place_BK.log_softmax(dim=-1, dtype=targets_GBK.dtype)
            loss -= (others_BK * logs_BK).sum()
            torch.sub(others_BK, logs_BK.exp_(), alpha=number, out=place_BK)
        factor = ctx.factor = 1 / (pairs * max(1, batch))
        ctx.temperature, ctx.train_prototypes = temperature, train_prototypes
        ctx.shape, ctx.dtypes = bottleneck_VBE.shape, (bottleneck_VBE.dtype, prototypes_KE.dtype)
        ctx.save_for_backward(logits_NK, scaled_NE, weights_KE)
        return loss * factor

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        negative_NK, scaled_NE, weights_KE = ctx.saved_tensors
        factor = -ctx.factor * gradients[0]
        bottleneck_NE = (negative_NK @ weights_KE).to(ctx.dtypes[0]) * (factor / ctx.temperature)
        prototypes_KE = None
        if ctx.train_prototypes and ctx.needs_input_grad[1]:
            prototypes_KE = (negative_NK.T @ (scaled_NE * factor).to(scaled_NE.dtype)).to(ctx.dtypes[1])
        return bottleneck_NE.view(ctx.shape), prototypes_KE, None, None, None, None, None, None


def koleo_loss(embeddings_BD: torch.Tensor) -> torch.Tensor:
    """KoLeo regularizer: −mean log of the distance to the nearest neighbour on the unit sphere (Sablayrolles et al. 2019; DINOv2 §4).

    It spreads the embeddings of a batch of one process evenly; with one image it is zero.
    """
    if len(embeddings_BD) < 2:
        return embeddings_BD.sum() * 0
    unit_BD = F.normalize(embeddings_BD.float(), dim=-1, eps=1e-8)
    with torch.no_grad():
        similarity_BB = unit_BD @ unit_BD.T
        nearest_B = similarity_BB.fill_diagonal_(-2).argmax(dim=1)
    distance_B = (unit_BD - unit_BD[nearest_B]).norm(dim=1)
    return -torch.log(distance_B + 1e-8).mean()
