"""DINO's loss over pairs of views, with the centre (Caron et al. 2021, §3.1 and algorithm 1).

Dimensions: B images, K prototypes, V views of the student, of which the first two are the teacher's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class DINOLoss(nn.Module):
    """Cross-entropy between the teacher's distribution of a global view and the student's of every other view, averaged over pairs."""

    def __init__(self, prototypes: int, views: int, student_temperature: float = 0.1, center_momentum: float = 0.9) -> None:
        super().__init__()
        self.views = views
        self.student_temperature = student_temperature
        self.center_momentum = center_momentum
        self.register_buffer("center", torch.zeros(1, prototypes))

    def forward(self, student_logits: torch.Tensor, teacher_logits: torch.Tensor, teacher_temperature: float) -> torch.Tensor:
        """The loss of (V·B, K) and (2·B, K) logits, one view after the other; the centre then takes the teacher's in."""
        student_BK = (student_logits / self.student_temperature).chunk(self.views)
        teacher_BK = F.softmax((teacher_logits - self.center) / teacher_temperature, dim=-1).detach().chunk(2)
        total, pairs = torch.zeros(()), 0
        for seen, target in enumerate(teacher_BK):
            for view, logits in enumerate(student_BK):
                if view == seen:
                    continue
                total = total + torch.sum(-target * F.log_softmax(logits, dim=-1), dim=-1).mean()
                pairs += 1
        self.update_center(teacher_logits)
        return total / pairs

    @torch.no_grad()
    def update_center(self, teacher_logits: torch.Tensor) -> None:
        batch_center = teacher_logits.mean(dim=0, keepdim=True)
        self.center = self.center * self.center_momentum + batch_center * (1 - self.center_momentum)
