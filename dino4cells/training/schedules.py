"""Values that change over a run, as functions of the number of samples seen, so that they do not depend on the number of processes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dino4cells.config import ModelConfig


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `start` to `end`, after a linear rise from `warmup_start` (Loshchilov and Hutter 2017).

    Attributes:
        warmup: samples of the rise.
        total: samples of the run.
    """

    start: float
    end: float
    total: int
    warmup: int = 0
    warmup_start: float = 0.0

    def __call__(self, seen: int) -> float:
        """The value after `seen` samples."""
        if seen < self.warmup:
            return self.warmup_start + (self.start - self.warmup_start) * seen / self.warmup
        progress = min(1.0, (seen - self.warmup) / max(1, self.total - self.warmup))
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Schedules:
    """All schedules of a run.

    Attributes:
        lr: learning rate; weight_decay; momentum: of the teacher; teacher_temperature.
        frozen: samples during which the head's last layer keeps its weights.
    """

    lr: Cosine
    weight_decay: Cosine
    momentum: Cosine
    teacher_temperature: Cosine
    frozen: int

    @classmethod
    def from_config(cls, config: ModelConfig, samples_per_epoch: int, total: int, batch_size: int) -> Schedules:
        """Schedules for `total` samples; the learning rate is scaled by the global batch over 256 (Goyal et al. 2017).

        A warm-up that is longer than the run is cut to half of it.
        """
        scale = batch_size / 256

        def samples(epochs: float) -> int:
            return min(round(epochs * samples_per_epoch), total // 2)

        return cls(
            lr=Cosine(config.lr * scale, min(config.min_lr, config.lr * scale), total, warmup=samples(config.warmup_epochs)),
            weight_decay=Cosine(config.weight_decay, config.weight_decay_end, total),
            momentum=Cosine(config.momentum_teacher, config.momentum_teacher_end, total),
            teacher_temperature=Cosine(
                config.teacher_temp,
                config.teacher_temp,
                total,
                warmup=samples(config.warmup_teacher_temp_epochs),
                warmup_start=config.warmup_teacher_temp,
            ),
            frozen=samples(config.freeze_last_layer),
        )
