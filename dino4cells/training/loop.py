"""DINO's training step, in the order of algorithm 1 of Caron et al. 2021.

Dimensions: G global views (2), V all views, B images of this process, C channels, H, W, K prototypes, D embedding.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dino4cells.augment.views import MultiCrop
from dino4cells.config import Config, ModelConfig
from dino4cells.config.architectures import VISION_TRANSFORMERS
from dino4cells.data.dataset import Batch
from dino4cells.errors import CheckpointError, ConfigError
from dino4cells.models.backbones import build_backbone
from dino4cells.models.head import DINOHead, DINONetwork
from dino4cells.models.init import start_from
from dino4cells.training.batch_norm import has_batch_norm, normalize_by_the_batch, synchronize_batch_norm
from dino4cells.training.checkpoint import FRESH_SCALER, Checkpoint
from dino4cells.training.distributed import ProcessGroup, sum_over_ranks
from dino4cells.training.loss import dino_loss, koleo_loss
from dino4cells.training.optimizer import build_optimizer, clip_gradients, set_rates, update_teacher
from dino4cells.training.schedules import Schedules
from dino4cells.training.targets import CentringTargets, SinkhornTargets

GLOBAL_VIEWS = 2


def build_network(config: ModelConfig, channels: int) -> DINONetwork:
    """Backbone and head with random weights that depend on the configuration's seed alone."""
    backbone = build_backbone(
        config.arch, config.patch_size, config.image_size, channels, drop_path_rate=config.drop_path_rate, seed=config.seed
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed + 1)
        head = DINOHead(
            backbone.embed_dim,
            config.out_dim,
            config.head_hidden_dim,
            config.head_bottleneck_dim,
            config.norm_last_layer,
            config.use_bn_in_head,
        )
    return DINONetwork(backbone, head)


def autocast_type(precision: str, device: torch.device, arch: str) -> torch.dtype:
    """The arithmetic of matrix products: bfloat16 where asked for or, with `auto`, where the hardware computes in it; else float32.

    Convolutional networks compute in float32 on a CPU: PyTorch's 3×3 convolution with stride 2 leaves gradients of its weights unset in
    bfloat16 where its input is one pixel, as it is in the last stage of a ResNet for views of up to 16 px (seen in PyTorch 2.14).

    Raises:
        ConfigError: bfloat16 is asked for where it gives wrong gradients.
    """
    if device.type == "cpu" and arch not in VISION_TRANSFORMERS:
        if precision == "bfloat16":
            raise ConfigError(f"model.precision: {arch} cannot be trained in bfloat16 on a CPU; use auto or float32, or a GPU.")
        return torch.float32
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def _check_sizes(config: Config, multi_crop: MultiCrop, smallest: int) -> None:
    kinds = {"global_transfo1": multi_crop.first, **({"local_transfo": multi_crop.local} if multi_crop.local_count else {})}
    for section, kind in kinds.items():
        if kind.side is not None and kind.side < smallest:
            raise ConfigError(
                f"{config.where(section)}: its views have {kind.side} px, and {config.model.arch} needs at least {smallest}; "
                "make them larger or choose another model.arch."
            )


class DINO:
    """Student, teacher, targets and optimizer of a run, and the step that moves them.

    Args:
        config: the resolved configuration.
        channels: of the images.
        schedules: of the whole run.
        group: the processes; gradients, targets and the statistics of batch norms are shared over them.

    Attributes:
        in_channels: of the views, which the network takes.

    Raises:
        ConfigError: a transform is wrong, or views do not fit the network.
    """

    def __init__(self, config: Config, channels: int, schedules: Schedules, group: ProcessGroup) -> None:
        self.config, self.schedules, self.group = config.model, schedules, group
        self.multi_crop = MultiCrop.from_config(config)
        self.in_channels = self.multi_crop.channels_after(channels)
        self.student = build_network(config.model, self.in_channels).to(group.device)
        _check_sizes(config, self.multi_crop, self.student.backbone.smallest_side)
        synchronize_batch_norm(self.student, group)
        self.teacher = copy.deepcopy(self.student).eval().requires_grad_(False)
        normalize_by_the_batch(self.teacher)
        self._normalizes_batches = has_batch_norm(self.student)
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
        self._autocast = autocast_type(config.model.precision, group.device, config.model.arch)

    def start_from(self, config: Config, channels: Sequence[str]) -> tuple[str, ...]:
        """Give student and teacher the weights that `model.init` names; returns what was taken over, a line each (`models.init`)."""
        report = start_from(self.student, config, channels)
        self.teacher.load_state_dict(self.student.state_dict())
        return report

    def step(self, batch: Batch, seen: int) -> torch.Tensor:
        """One step on a batch of this process, after `seen` samples over all processes: its views, and `step_on_views`."""
        return self.step_on_views(*self.multi_crop(batch.to(self.group.device)), seen)

    def step_on_views(self, global_GBCHW: torch.Tensor, local_VBCHW: torch.Tensor, seen: int) -> torch.Tensor:
        """One step on the views of a batch of this process, after `seen` samples over all processes.

        Its randomness is a function of the seed, the samples and `seen`, so that a resumed run continues exactly. Batches of the
        processes may differ in size, or be empty, where images could not be read: every image weighs the same.

        Returns:
            A detached scalar whose mean over the processes is the mean loss of their images.
        """
        torch.manual_seed(hash((self.config.seed, seen, self.group.rank)) & 0xFFFFFFFF)  # stochastic depth
        self.student.train()
        batch_size = global_GBCHW.shape[1]
        images = self._images_of_all(batch_size)
        if self._normalizes_batches and not images:
            return torch.zeros((), device=self.group.device)  # no batch, no statistics: the step is left out
        views = [global_GBCHW, local_VBCHW] if len(local_VBCHW) else [global_GBCHW]

        with self._mixed_precision():
            with torch.no_grad():
                teacher_GBK, _ = self.teacher([global_GBCHW])
            student_VBK, embeddings_VBD = self._student_over_ranks(views)
        targets_GBK = self.targets(teacher_GBK, self.schedules.teacher_temperature(seen))
        # DDP takes the plain mean over processes, as if their batches were equal.
        weight = batch_size * self.group.world_size / images.clamp(min=1)
        loss = dino_loss(student_VBK, targets_GBK, self.config.student_temp) * weight
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

    def _images_of_all(self, here: int) -> torch.Tensor:
        """Images of this step in all processes; of one process on the CPU, where to look at it does not wait for a GPU."""
        if self.group.world_size == 1:
            return torch.tensor(float(here))
        return sum_over_ranks(torch.tensor(float(here), device=self.group.device))

    def _mixed_precision(self) -> torch.autocast | nullcontext[None]:
        if self._autocast == torch.float32:
            return nullcontext()
        return torch.autocast(self.group.device.type, dtype=self._autocast)

    def checkpoint(self, seen: int, epoch: int) -> Checkpoint:
        """Everything a resumed run needs, in the published layout."""
        return {
            "student": {f"module.{name}": value for name, value in self.student.state_dict().items()},
            # The original puts a teacher with batch norm into DDP too.
            "teacher": {f"{'module.' * self._normalizes_batches}{name}": value for name, value in self.teacher.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "epoch": epoch,
            "args": argparse.Namespace(**{**self.config.model_dump(mode="json"), "num_channels": self.in_channels}),
            "dino_loss": self.targets.state_dict(),
            "fp16_scaler": dict(FRESH_SCALER),
            "samples_seen": seen,
        }

    def restore(self, checkpoint: Checkpoint, where: str) -> int:
        """Continue from a checkpoint; returns the samples seen.

        Raises:
            CheckpointError: it belongs to another network.
        """
        try:
            for network, entry in ((self.student, "student"), (self.teacher, "teacher")):
                saved: Mapping[str, torch.Tensor] = checkpoint[entry]
                network.load_state_dict({name.removeprefix("module."): value for name, value in saved.items()})
            self.targets.load_state_dict(checkpoint["dino_loss"])
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            return int(checkpoint["samples_seen"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[-1].strip().rstrip(".")
            raise CheckpointError(
                f"{where}: the checkpoint belongs to another network ({reason}); "
                "use the configuration it was trained with, or another output."
            ) from error
