"""A training step on ready views: vit_tiny/16, 4 channels, 2×224 + 8×96 px, 65,536 prototypes, a batch of 24.

Views are random numbers; making them is the work `views`. Both sides train the head's last layer, which the first epoch leaves frozen.
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring import Machine, Row, alternate_apart, apart, peak_memory_mib
from benchmarks.reference.training import Settings, Trainer
from dino4cells.config import load_config
from dino4cells.training.distributed import ProcessGroup
from dino4cells.training.loop import DINO
from dino4cells.training.precision import autocast_type
from dino4cells.training.schedules import Schedules

BATCH, CHANNELS, STEPS, ROUNDS = 24, 4, 1000, 3
SHAPES = [(CHANNELS, 224, 224)] * 2 + [(CHANNELS, 96, 96)] * 8
CPU = torch.device("cpu")


class Reference:
    """The plain step."""

    def __init__(self, precision: str, batch: int = BATCH) -> None:
        self.views = random_views(batch)
        self.trainer = Trainer(Settings(STEPS, batch_size=batch, channels=CHANNELS, frozen_epochs=0, bfloat16=precision == "bfloat16"))

    def __call__(self) -> None:
        self.trainer.step(self.views)


class Ours:
    """The step of `dino4cells train` with the published settings."""

    def __init__(self, precision: str, batch: int = BATCH) -> None:
        views = random_views(batch)
        self.views = torch.stack(views[:2]), torch.stack(views[2:])
        self.seen = 0
        config = load_config(overrides={"model.precision": precision, "model.batch_size": batch, "model.freeze_last_layer": 0})
        schedules = Schedules.from_config(config.model, samples_per_epoch=100 * batch, total=STEPS * batch, batch_size=batch)
        self.dino = DINO(config, CHANNELS, schedules, ProcessGroup(0, 1, 0, CPU))

    def __call__(self) -> None:
        self.dino.step_on_views(*self.views, self.seen).item()
        self.seen += self.views[0].shape[1]


def random_views(batch: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, *shape, generator=generator) for shape in SHAPES]


def flops_of_an_image() -> int:
    """Floating point operations of the products and convolutions of a plain step, forward and backward, for an image."""
    images = 2
    step = Reference("float32", images)
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops()) // images


def peak_of(side: type[Reference] | type[Ours], precision: str) -> float:
    """MiB that a process needs for building a side and three steps, beyond what it held after its imports."""
    before = peak_memory_mib()
    step = side(precision)
    for _ in range(3):
        step()
    return peak_memory_mib() - before


def measure(machine: Machine) -> list[Row]:
    """Speed in the arithmetic that each side chooses and in either one, and memory."""
    chosen = autocast_type("auto", CPU, "vit_tiny")
    memory = {side: apart(peak_of, side, precision) for side, precision in ((Reference, "float32"), (Ours, "auto"))}
    flops = flops_of_an_image()
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    sides = {
        f"{name}, {precision}": (side, (precision,)) for name, side in (("reference", Reference), ("ours", Ours)) for precision in types
    }
    seconds = alternate_apart(sides, rounds=ROUNDS)

    def row(work: str, reference: str, ours: str, target: float | None, note: str) -> Row:
        theirs, mine = seconds[f"reference, {reference}"], seconds[f"ours, {ours}"]
        share = flops * BATCH / mine / machine.multiply_adds[types[ours]]
        return Row(work, BATCH / theirs, BATCH / mine, "images/s", theirs / mine, share, target, note)

    auto = str(chosen).removeprefix("torch.")
    return [
        row("training step", "float32", auto, 3, f"ours in {auto}; {flops / 1e9:.1f} GFLOP an image"),
        row("training step, both in float32", "float32", "float32", None, ""),
        row("training step, both in bfloat16", "bfloat16", "bfloat16", None, "the reference under autocast"),
        Row("peak memory of a training step", memory[Reference], memory[Ours], "MiB", memory[Reference] / memory[Ours], None, 1 / 0.6),
    ]
