"""A training step of ours on random views: of any size, on any device, in any number of processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dino4cells.config import load_config
from dino4cells.training.distributed import ProcessGroup
from dino4cells.training.loop import DINO
from dino4cells.training.schedules import Schedules

ALONE = ProcessGroup(0, 1, 0, torch.device("cpu"))
PUBLISHED = ((2, 224), (8, 96))


class Step:
    """Called, it makes a step; nothing in it waits for the device.

    Args:
        batch: images of this process.
        channels: of the views.
        views: (count, side in pixels) of the global views and of the local ones, which may be left out.
        group: the processes, and where this one computes.
        model: keys of the configuration's section `model`.
    """

    def __init__(
        self, batch: int, *, channels: int = 4, views: Sequence[tuple[int, int]] = PUBLISHED, group: ProcessGroup = ALONE, **model: object
    ) -> None:
        local_count, local_side = views[1] if len(views) > 1 else (0, 96)
        whole = batch * group.world_size
        overrides = {f"model.{key}": value for key, value in {"batch_size": whole, "freeze_last_layer": 0, **model}.items()}
        config = load_config(overrides={"local_crops_number": local_count, **overrides})
        self.dino = DINO(config, channels, Schedules.from_config(config.model, 1000 * whole, 10_000 * whole, whole), group)
        self.views = [
            torch.randn(count, batch, channels, side, side, device=group.device) for count, side in (views[0], (local_count, local_side))
        ]
        self.whole, self.seen = whole, 0

    def __call__(self) -> torch.Tensor:
        loss = self.dino.step_on_views(*self.views, self.seen)
        self.seen += self.whole
        return loss
