"""The student's half of a step: the gradient of the loss, in shares of which one at a time is in memory.

The loss is a sum over views and images, given the targets of the whole batch. So global and local views, of `model.accumulation` parts of
the images, each pass the student forward and backward by themselves, and their gradients add up to that of the whole, which is the same
sum in another order. Some things are no such sums. Batch norm in the head takes all views together; in a part of the images it has the
part's statistics, as KoLeo has the part's neighbours.

Dimensions: G global views (2), V views of a kind, B images of this process, C channels, H, W, K prototypes, E bottleneck, D embedding.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dino4cells.config import ModelConfig
from dino4cells.models.head import DINONetwork
from dino4cells.training.batch_norm import has_batch_norm
from dino4cells.training.distributed import ProcessGroup
from dino4cells.training.loss import dino_loss, koleo_loss
from dino4cells.training.precision import mixed_precision


class Share(NamedTuple):
    """What the student learns at once: views of one kind, or of all, of some images.

    Attributes:
        views: (V, B, C, H, W) of each kind.
        first: number of the first view among all.
        targets_GBK: of these images.
    """

    views: list[torch.Tensor]
    first: int
    targets_GBK: torch.Tensor


class Learner:
    """Makes the gradients of a student, summed over the processes of the job (DDP).

    Args:
        student: on its device.
        config: section `model`.
        group: the processes.
        precision: of matrix products.
    """

    def __init__(self, student: DINONetwork, config: ModelConfig, group: ProcessGroup, precision: torch.dtype) -> None:
        self.config, self.group, self.precision = config, group, precision
        self._takes_views_together = has_batch_norm(student)
        self._last_layer = student.head.last_layer
        self._student: nn.Module = student
        if group.world_size > 1:
            ids = [group.device] if group.device.type == "cuda" else None
            self._student = DistributedDataParallel(student, device_ids=ids, gradient_as_bucket_view=True)

    def learn(
        self,
        global_GBCHW: torch.Tensor,
        local_VBCHW: torch.Tensor,
        targets_GBK: torch.Tensor,
        weight: torch.Tensor,
        *,
        train_prototypes: bool,
    ) -> torch.Tensor:
        """Add the gradient of the loss to the student's parameters.

        Args:
            global_GBCHW, local_VBCHW: the student's views; there may be no local ones.
            targets_GBK: the teacher's distributions.
            weight: of an image in the mean over processes that DDP takes.
            train_prototypes: False: the last layer is frozen.

        Returns:
            The loss of these images, detached.
        """
        shares = self._shares(global_GBCHW, local_VBCHW, targets_GBK)
        views, batch = len(global_GBCHW) + len(local_VBCHW), global_GBCHW.shape[1]
        # Weight norm is computed once: all but the last share leave their gradients of the prototypes here, and that takes them along.
        prototypes_KE = self._last_layer.weight()
        collected_KE = prototypes_KE.detach().requires_grad_(train_prototypes)
        losses = []
        for number, share in enumerate(shares, start=1):
            is_last = number == len(shares)
            if is_last and collected_KE.grad is not None:
                prototypes_KE.register_hook(collected_KE.grad.add_)  # type: ignore[no-untyped-call]
            with nullcontext() if is_last else self._without_reduction():
                with mixed_precision(self.group.device, self.precision):
                    student = self._student(share.views)
                loss = dino_loss(
                    student.bottleneck_VBE,
                    prototypes_KE if is_last else collected_KE,
                    share.targets_GBK,
                    self.config.student_temp,
                    first=share.first,
                    views=views,
                    precision=self.precision,
                    train_prototypes=train_prototypes,
                )
                images = share.targets_GBK.shape[1]
                loss = objective = loss * (weight * images)
                if self.config.koleo_weight and share.first == 0:
                    spread = sum(koleo_loss(view_BD) for view_BD in student.embeddings_VBD[: len(global_GBCHW)])
                    objective = loss + self.config.koleo_weight * spread * (images / max(1, batch))
                objective.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            del student, loss, objective
        return torch.stack(losses).sum()

    def _shares(self, global_GBCHW: torch.Tensor, local_VBCHW: torch.Tensor, targets_GBK: torch.Tensor) -> list[Share]:
        kinds = [(0, [global_GBCHW])]
        if len(local_VBCHW) and self._takes_views_together:
            kinds = [(0, [global_GBCHW, local_VBCHW])]
        elif len(local_VBCHW):
            kinds.append((len(global_GBCHW), [local_VBCHW]))
        parts = self.config.accumulation
        return [
            Share([views.tensor_split(parts, dim=1)[part] for views in kind], first, targets)
            for part, targets in enumerate(targets_GBK.tensor_split(parts, dim=1))
            for first, kind in kinds
        ]

    def _without_reduction(self) -> AbstractContextManager[None]:
        """Leave gradients in this process; they travel with those of the last share."""
        return self._student.no_sync() if isinstance(self._student, DistributedDataParallel) else nullcontext()
