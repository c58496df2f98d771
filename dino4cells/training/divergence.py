"""A loss that is no number any more: which step it came from, which images that step saw, and what the user can turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from dino4cells.config import ModelConfig
from dino4cells.data.dataset import Batch
from dino4cells.data.metadata import Metadata
from dino4cells.errors import ConfigError
from dino4cells.training.distributed import gather_from_ranks

NAMED_ROWS = 8


class _Step(NamedTuple):
    seen: int
    rows_B: torch.Tensor
    loss: torch.Tensor


@dataclass
class RecentSteps:
    """The steps since the losses were last looked at, which on a GPU is not after every step: looking waits for it."""

    _steps: list[_Step] = field(default_factory=list)

    def add(self, seen: int, batch: Batch, loss: torch.Tensor) -> None:
        """One more step of this process, after `seen` images over all processes."""
        self._steps.append(_Step(seen, batch.index_B, loss))

    def lost(self, device: torch.device) -> torch.Tensor:
        """A scalar on the device: 1 where one of these losses is not finite, else 0; nothing waits for it."""
        if not self._steps:
            return torch.zeros((), device=device)
        return (~torch.stack([step.loss for step in self._steps]).isfinite().all()).float()

    def forget(self) -> None:
        """The losses were looked at, and all is well."""
        self._steps.clear()

    def first_lost(self) -> tuple[int, list[int]]:
        """The images seen before the first step whose loss is not finite, over all processes, and the rows of the table in those
        processes' batches where it was lost; of the last step where no loss is. Every process must ask.
        """
        lost = next((step for step in self._steps if not step.loss.isfinite()), None)
        steps = gather_from_ranks(None if lost is None else (lost.seen, lost.rows_B.tolist()))
        known = [step for step in steps if step is not None]
        if not known:
            last = self._steps[-1]
            known = gather_from_ranks((last.seen, last.rows_B.tolist()))
        first = min(seen for seen, _ in known)
        return first, sorted({row for seen, rows in known if seen == first for row in rows})


def diverged(recent: RecentSteps, metadata: Metadata, config: ModelConfig, kept: str | None) -> ConfigError:
    """What to say when the loss or the weights are not finite. Every process must ask.

    Args:
        recent: the steps since all was well.
        metadata: the table of cells.
        config: section `model`.
        kept: URL of the last good checkpoint, or None where there is none.
    """
    seen, rows = recent.first_lost()
    start = f" and model.init={kept} keeps what was learnt before" if kept else ""
    return ConfigError(
        f"model.lr: the loss is no finite number any more since the step after {seen:,} images, on {_named(rows, metadata)}, so training "
        f"cannot go on; see whether these images are sound, lower model.lr ({config.lr:g}) or lengthen model.warmup_epochs "
        f"({config.warmup_epochs:g}): another output begins anew with them{start}."
    )


def _named(rows: Sequence[int], metadata: Metadata) -> str:
    """`cells 4, 8 and 20 more of metadata.csv (a.png, b.png, …)`; cells are counted from 1, as where data are checked."""
    if not rows:
        return f"no image of {metadata.source}"
    named, more = rows[:NAMED_ROWS], len(rows) - NAMED_ROWS
    numbers = ", ".join(str(row + 1) for row in named) + (f" and {more} more" if more > 0 else "")
    files = ", ".join(metadata.urls.files[row].as_py() for row in named) + (", …" if more > 0 else "")
    return f"cell{'s' if len(rows) > 1 else ''} {numbers} of {metadata.source} ({files})"
