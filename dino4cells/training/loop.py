"""DINO's training step, in the order of algorithm 1 of Caron et al. 2021.

Dimensions: G global views (2), V all views, B images of this process, C channels, H, W, K prototypes, D embedding.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dino4cells.augment.views import MultiCrop
from dino4cells.config import Config, ModelConfig
from dino4cells.data.dataset import Batch
from dino4cells.errors import CheckpointError, ConfigError
from dino4cells.models.head import DINOHead, DINONetwork
from dino4cells.models.vit import build_backbone, use_plain_attention
from dino4cells.training.checkpoint import Checkpoint
from dino4cells.training.distributed import ProcessGroup, sum_over_ranks
from dino4cells.training.loss import dino_loss, koleo_loss
from dino4cells.training.optimizer import build_optimizer, clip_gradients, set_rates, update_teacher
from dino4cells.training.schedules import Schedules
from dino4cells.training.targets import CentringTargets, SinkhornTargets

GLOBAL_VIEWS = 2


def build_network(config: ModelConfig, channels: int) -> DINONetwork:
    """Backbone and head with random weights that depend on the configuration's seed alone."""
    if config.use_bn_in_head:
        raise ConfigError("model.use_bn_in_head: batch normalization in the head is not available; set it to false.")
    backbone = build_backbone(
        config.arch, config.patch_size, config.image_size, channels, drop_path_rate=config.drop_path_rate, seed=config.seed
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed + 1)
        head = DINOHead(backbone.embed_dim, config.out_dim, config.head_hidden_dim, config.head_bottleneck_dim, config.norm_last_layer)
    return DINONetwork(backbone, head)


def autocast_type(precision: str, device: torch.device) -> torch.dtype:
    """The arithmetic of matrix products: bfloat16 where asked for or, with `auto`, where the hardware computes in it; else float32."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


class DINO:
    """Student, teacher, targets and optimizer of a run, and the step that moves them.

    Args:
        config: the resolved configuration.
        channels: of the images.
        schedules: of the whole run.
        group: the processes; gradients and targets are shared over them.
    """

    def __init__(self, config: Config, channels: int, schedules: Schedules, group: ProcessGroup) -> None:
        self.config, self.schedules, self.group = config.model, schedules, group
        self.multi_crop = MultiCrop.from_config(config)
        self.student = build_network(config.model, channels).to(group.device)
        self.teacher = copy.deepcopy(self.student).eval().requires_grad_(False)
        self.targets: CentringTargets | SinkhornTargets
        if config.model.targets == "sinkhorn":
            self.targets = SinkhornTargets(config.model.out_dim)
        else:
            self.targets = CentringTargets(config.model.out_dim, config.model.center_momentum)
        self.targets.to(group.device)
        self.optimizer = build_optimizer(self.student, config.model)
        self._student_over_ranks: nn.Module = self.student
        if group.world_size > 1:
            ids = [group.device] if group.device.type == "cuda" else None
            self._student_over_ranks = DistributedDataParallel(self.student, device_ids=ids, gradient_as_bucket_view=True)
        if group.device.type == "cpu":
            use_plain_attention(self.student)
            use_plain_attention(self.teacher)
        self._autocast = autocast_type(config.model.precision, group.device)

    def step(self, batch: Batch, seen: int) -> torch.Tensor:
        """One step on a batch of this process, after `seen` samples over all processes.

        Its randomness is a function of the seed, the samples and `seen`, so that a resumed run continues exactly. Batches of the
        processes may differ in size, or be empty, where images could not be read: every image weighs the same.

        Returns:
            A detached scalar whose mean over the processes is the mean loss of their images.
        """
        torch.manual_seed(hash((self.config.seed, seen, self.group.rank)) & 0xFFFFFFFF)  # stochastic depth
        self.student.train()
        global_GBCHW, local_VBCHW = self.multi_crop(batch.to(self.group.device))
        views = [global_GBCHW, local_VBCHW] if len(local_VBCHW) else [global_GBCHW]

        with self._mixed_precision():
            with torch.no_grad():
                teacher_GBK, _ = self.teacher([global_GBCHW])
            student_VBK, embeddings_VBD = self._student_over_ranks(views)
        targets_GBK = self.targets(teacher_GBK, self.schedules.teacher_temperature(seen))
        loss = dino_loss(student_VBK, targets_GBK, self.config.student_temp) * self._weight(len(batch))
        objective = loss
        if self.config.koleo_weight:
            spread = sum(koleo_loss(view_BD) for view_BD in embeddings_VBD[:GLOBAL_VIEWS])
            objective = loss + self.config.koleo_weight * spread

        self.optimizer.zero_grad(set_to_none=True)
        objective.backward()  # type: ignore[no-untyped-call]
        if seen < self.schedules.frozen:
            for parameter in self.student.head.last_layer.parameters():
                parameter.grad = None
        clip_gradients(self.student.parameters(), self.config.clip_grad)
        set_rates(self.optimizer, self.schedules.lr(seen), self.schedules.weight_decay(seen))
        self.optimizer.step()
        update_teacher(self.teacher, self.student, self.schedules.momentum(seen))
        return loss.detach()

    def _weight(self, batch: int) -> torch.Tensor | float:
        """What the mean over this process counts in DDP's plain mean over processes, which takes their batches for equal."""
        if self.group.world_size == 1:
            return 1.0
        images = sum_over_ranks(torch.tensor(float(batch), device=self.group.device))
        return batch * self.group.world_size / images.clamp(min=1)

    def _mixed_precision(self) -> torch.autocast | nullcontext[None]:
        if self._autocast == torch.float32:
            return nullcontext()
        return torch.autocast(self.group.device.type, dtype=self._autocast)

    def checkpoint(self, seen: int, epoch: int) -> Checkpoint:
        """Everything a resumed run needs, in the published layout."""
        return {
            "student": {f"module.{name}": value for name, value in self.student.state_dict().items()},
            "teacher": self.teacher.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": epoch,
            "args": argparse.Namespace(**self.config.model_dump(mode="json")),
            "dino_loss": self.targets.state_dict(),
            "fp16_scaler": None,
            "samples_seen": seen,
        }

    def restore(self, checkpoint: Checkpoint, where: str) -> int:
        """Continue from a checkpoint; returns the samples seen.

        Raises:
            CheckpointError: it belongs to another network.
        """
        student: Mapping[str, torch.Tensor] = checkpoint["student"]
        try:
            self.student.load_state_dict({name.removeprefix("module."): value for name, value in student.items()})
            self.teacher.load_state_dict(checkpoint["teacher"])
            self.targets.load_state_dict(checkpoint["dino_loss"])
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            return int(checkpoint["samples_seen"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[-1].strip().rstrip(".")
            raise CheckpointError(
                f"{where}: the checkpoint belongs to another network ({reason}); "
                "use the configuration it was trained with, or another output."
            ) from error
