"""DINO's training step, in the order of algorithm 1 of Caron et al. 2021.

Dimensions: G global views (2), V all views, B images of this process, C channels, H, W, K prototypes, D embedding.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping, Sequence

import torch

from dino4cells.augment.views import MultiCrop
from dino4cells.config import Config, ModelConfig
from dino4cells.data.dataset import Batch
from dino4cells.errors import CheckpointError, ConfigError
from dino4cells.models.backbones import build_backbone
from dino4cells.models.head import DINOHead, DINONetwork
from dino4cells.models.init import start_from
from dino4cells.models.vit import DinoVisionTransformer
from dino4cells.training.batch_norm import has_batch_norm, normalize_by_the_batch, synchronize_batch_norm
from dino4cells.training.checkpoint import FRESH_SCALER, Checkpoint
from dino4cells.training.compilation import compile_backbones
from dino4cells.training.distributed import ProcessGroup, max_over_ranks, start_sum_over_ranks
from dino4cells.training.learning import Learner
from dino4cells.training.optimizer import build_optimizer, clip_gradients, set_rates, update_teacher
from dino4cells.training.precision import autocast_type, describe, mixed_precision
from dino4cells.training.schedules import Schedules
from dino4cells.training.targets import CentringTargets, SinkhornTargets


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


def _check_sizes(config: Config, multi_crop: MultiCrop, smallest: int) -> None:
    kinds = {"global_transfo1": multi_crop.first, **({"local_transfo": multi_crop.local} if multi_crop.local_count else {})}
    for section, kind in kinds.items():
        if kind.side is not None and kind.side < smallest:
            raise ConfigError(
                f"{config.where(section)}: its views have {kind.side} px, and {config.model.arch} needs at least {smallest}; "
                "make them larger or choose another model.arch."
            )


def _checkpoint_activations(network: DINONetwork, config: Config) -> None:
    if not isinstance(network.backbone, DinoVisionTransformer):
        where = config.where("model", "activation_checkpointing")
        raise ConfigError(f"{where}: is for vision transformers, and model.arch is {config.model.arch}; set it to false.")
    network.backbone.set_grad_checkpointing(True)


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
        self._precision = autocast_type(config.model.precision, group.device, config.model.arch)
        if config.model.activation_checkpointing:
            _checkpoint_activations(self.student, config)
        if config.model.compile:
            compile_backbones(group.device, self.student, self.teacher)
        self._learner = Learner(self.student, config.model, group, self._precision)

    @property
    def arithmetic(self) -> str:
        """What products are computed in, and on what, in a line."""
        return describe(self.group.device, self._precision)

    def start_from(self, config: Config, channels: Sequence[str]) -> tuple[str, ...]:
        """Give student and teacher the weights that `model.init` names; returns what was taken over, a line each (`models.init`)."""
        report = start_from(self.student, config, channels)
        self.teacher.load_state_dict(self.student.state_dict())
        return report

    def step(self, batch: Batch, seen: int) -> torch.Tensor:
        """One step on a batch of this process, after `seen` samples over all processes: its views, and `step_on_views`."""
        return self.step_on_views(*self.multi_crop(batch.to(self.group.device), self._precision), seen)

    def step_on_views(self, global_GBCHW: torch.Tensor, local_VBCHW: torch.Tensor, seen: int) -> torch.Tensor:
        """One step on views of this process's images, after `seen` samples over all processes.

        Its randomness is a function of the seed, the samples and `seen`, so that a resumed run continues exactly. Batches of the
        processes may differ in size, or be empty, where images could not be read: every image weighs the same, and without any nothing
        changes. On a GPU the host does not wait for anything.

        Args:
            global_GBCHW: on the device of the group.
            local_VBCHW: the same; there may be none.

        Returns:
            A detached scalar whose mean over the processes is the mean loss of their images.
        """
        torch.manual_seed(hash((self.config.seed, seen, self.group.rank)) & 0xFFFFFFFF)  # stochastic depth
        self.student.train()
        batch = global_GBCHW.shape[1]
        images = start_sum_over_ranks(torch.full((), float(batch), device=self.group.device))
        if not batch and not images():
            return torch.zeros((), device=self.group.device)  # no process has an image: the step is left out

        with torch.no_grad(), mixed_precision(self.group.device, self._precision):
            teacher_GBK = self.teacher.logits([global_GBCHW])
        targets_GBK = self.targets(teacher_GBK, self.schedules.teacher_temperature(seen))

        self.optimizer.zero_grad(set_to_none=True)
        # DDP takes the plain mean over processes, as if their batches were equal.
        weight = self.group.world_size / images()
        frozen = seen < self.schedules.frozen
        loss = self._learner.learn(global_GBCHW, local_VBCHW, targets_GBK, weight, train_prototypes=not frozen)
        if frozen:
            for parameter in self.student.head.last_layer.parameters():
                parameter.grad = None
        clip_gradients(self.student.parameters(), self.config.clip_grad)
        set_rates(self.optimizer, self.schedules.lr(seen), self.schedules.weight_decay(seen))
        self.optimizer.step()
        update_teacher(self.teacher, self.student, self.schedules.momentum(seen))
        self.targets.settle()
        return loss

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

    def is_finite(self) -> bool:
        """Whether all that a checkpoint holds are finite numbers, in every process; waits for the step."""
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        kept = [*self.student.state_dict().values(), *self.teacher.state_dict().values(), *self.targets.state_dict().values(), *moments]
        lost = [~value.isfinite().all().to(self.group.device) for value in kept if isinstance(value, torch.Tensor)]
        return not max_over_ranks(torch.stack(lost).any().float()).item()

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
