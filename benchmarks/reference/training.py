"""DINO's training from files, in the order of algorithm 1 (Caron et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.reference.images import read_image, to_tensor
from benchmarks.reference.loss import DINOLoss
from benchmarks.reference.network import MultiCropWrapper, PlainHead, PlainTransformer, initialize
from benchmarks.reference.optimization import clip_gradients, cosine_schedule, parameter_groups, update_teacher
from benchmarks.reference.transforms import MultiCrop


@dataclass(frozen=True)
class Settings:
    """The handbook's defaults, for a run of so many steps."""

    steps: int = 1000
    steps_per_epoch: int = 100
    batch_size: int = 24
    channels: int = 4
    image_size: int = 224
    patch: int = 16
    local_views: int = 8
    prototypes: int = 65536
    hidden: int = 2048
    bottleneck: int = 256
    drop_path: float = 0.1
    lr: float = 0.0005
    min_lr: float = 1e-6
    warmup_epochs: int = 10
    weight_decay: float = 0.04
    weight_decay_end: float = 0.4
    momentum: float = 0.996
    center_momentum: float = 0.9
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    clip_grad: float = 3.0
    frozen_epochs: int = 1
    bfloat16: bool = False


class Trainer:
    """Student, teacher, loss and optimizer; `step` moves them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.student = build_network(settings, settings.drop_path)
        initialize(self.student)
        self.teacher = build_network(settings, drop_path=0.0)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.loss = DINOLoss(settings.prototypes, 2 + settings.local_views, settings.student_temperature, settings.center_momentum)
        # PyTorch's default, which on a CPU is a loop over parameters.
        self.optimizer = torch.optim.AdamW(parameter_groups(self.student))
        lr, warmup = settings.lr * settings.batch_size / 256, min(settings.warmup_epochs * settings.steps_per_epoch, settings.steps // 2)
        self.lr = cosine_schedule(lr, settings.min_lr, settings.steps, warmup)
        self.weight_decay = cosine_schedule(settings.weight_decay, settings.weight_decay_end, settings.steps)
        self.momentum = cosine_schedule(settings.momentum, 1.0, settings.steps)
        self.frozen = min(settings.frozen_epochs * settings.steps_per_epoch, settings.steps // 2)
        self.done = 0

    def step(self, views: Sequence[torch.Tensor]) -> float:
        """One step on views (B, C, H, W), the two global ones first; returns the loss."""
        step = self.done
        self.optimizer.param_groups[0]["weight_decay"] = self.weight_decay[step]
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr[step]
        with torch.autocast("cpu", torch.bfloat16) if self.settings.bfloat16 else nullcontext():
            with torch.no_grad():
                teacher_logits = self.teacher(views[:2])
            student_logits = self.student(views)
            loss = self.loss(student_logits, teacher_logits, self.settings.teacher_temperature)
        self.optimizer.zero_grad()
        loss.backward()
        clip_gradients(self.student, self.settings.clip_grad)
        if step < self.frozen:
            for parameter in self.student.head.last_layer.parameters():
                parameter.grad = None
        self.optimizer.step()
        update_teacher(self.teacher, self.student, self.momentum[step])
        self.done += 1
        return loss.item()


def build_network(settings: Settings, drop_path: float) -> MultiCropWrapper:
    """vit_tiny and its head."""
    backbone = PlainTransformer(settings.channels, settings.image_size, settings.patch, drop_path=drop_path)
    return MultiCropWrapper(backbone, PlainHead(192, settings.hidden, settings.bottleneck, settings.prototypes))


class CellViews(Dataset[list[torch.Tensor]]):
    """The views of the image of each file."""

    def __init__(self, paths: Sequence[Path], multi_crop: MultiCrop) -> None:
        self.paths = paths
        self.multi_crop = multi_crop

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        return self.multi_crop(to_tensor(read_image(self.paths[index])))


def train(paths: Sequence[Path], settings: Settings, workers: int = 2) -> Iterator[float]:
    """Train on files and yield the loss of every step."""
    trainer = Trainer(settings)
    views = CellViews(paths, MultiCrop(local_count=settings.local_views))
    loader = DataLoader(views, settings.batch_size, shuffle=True, drop_last=True, num_workers=workers)
    while trainer.done < settings.steps:
        for batch in loader:
            yield trainer.step(batch)
            if trainer.done == settings.steps:
                return
