"""DINO's loss: every student view predicts what the teacher sees in every other global view (Caron et al. 2021, §3.1).

Dimensions: G global views (2), V views of the student (global first), B batch, K prototypes, D embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def dino_loss(student_logits_VBK: torch.Tensor, targets_GBK: torch.Tensor, student_temperature: float) -> torch.Tensor:
    """Mean cross-entropy over all pairs of a teacher's view g and a student's view v ≠ g.

    The textbook form is, with p = targets and log q_v = log softmax(s_v / τ),

        L = 1/pairs · Σ_g Σ_{v≠g} mean_B( −Σ_K p_g · log q_v ).

    Since Σ_K p_g = 1, −Σ_K p_g·log q_v = lse_v − p_g·s_v/τ with lse_v = logsumexp(s_v/τ). The first term does not depend on g and the
    second is linear in s_v, so that the sum over v can be taken before the product:

        L = 1/pairs · mean_B( Σ_v n_v·lse_v − Σ_g p_g · (Σ_v s_v − s_g)/τ ),   n_v = number of g ≠ v.

    No (V, B, K) log-probabilities are made and K-wide products are G, not G·V.

    Args:
        student_logits_VBK: outputs of the student's head, global views first.
        targets_GBK: the teacher's distributions; rows sum to one, no gradient.
        student_temperature: τ.

    Returns:
        A scalar; 0 for a batch without images.
    """
    (views, batch), globals_ = student_logits_VBK.shape[:2], len(targets_GBK)
    pairs = globals_ * (views - 1)
    scaled_VBK = student_logits_VBK / student_temperature
    seen_by = torch.full((views, 1), float(globals_), dtype=scaled_VBK.dtype, device=scaled_VBK.device)
    seen_by[:globals_] -= 1
    entropy_B = (seen_by * scaled_VBK.logsumexp(dim=-1)).sum(dim=0)
    others_GBK = scaled_VBK.sum(dim=0) - scaled_VBK[:globals_]
    agreement_B = (targets_GBK * others_GBK).sum(dim=(0, 2))
    return (entropy_B - agreement_B).sum() / (pairs * max(1, batch))


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
