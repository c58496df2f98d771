"""What a run reports while it goes: a record now and then, and the images that could not be read."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field

import torch

from dino4cells.data.dataset import Batch
from dino4cells.errors import DataError
from dino4cells.training.distributed import gather_from_ranks, sum_over_ranks

LISTED_FAILURES = 20
SUMMARY_SHARE = 0.05  # of the records, at either end, whose mean loss is reported
logger = logging.getLogger(__name__)
Record = dict[str, float]


@dataclass
class RunLog:
    """Records, the loss since the last one, the images that could not be read, and what the run began with.

    Attributes:
        records: lines of log.jsonl.
        failures: reason by row of the metadata.
        losses: of the steps since the last record, on the device.
        init: what `model.init` gave, a line each.
    """

    records: list[Record] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    losses: list[torch.Tensor] = field(default_factory=list)
    init: tuple[str, ...] = ()

    def mean_loss(self, device: torch.device) -> float:
        """Mean loss since the last call over all processes; waits for the steps that gave it."""
        summed = torch.stack([torch.stack(self.losses).sum(), torch.tensor(float(len(self.losses)), device=device)])
        self.losses = []
        loss, count = sum_over_ranks(summed).tolist()
        return float(loss / count)

    def ends(self) -> tuple[float, float]:
        """Mean loss of the first and of the last records."""
        edge = max(1, round(len(self.records) * SUMMARY_SHARE))
        first, last = ([record["loss"] for record in records] for records in (self.records[:edge], self.records[-edge:]))
        return sum(first) / edge, sum(last) / edge

    def lines(self) -> str:
        """log.jsonl."""
        return "".join(json.dumps(record) + "\n" for record in self.records)

    def note_failures(self, batch: Batch, length: int, limit: float) -> None:
        """Remember and list images that could not be read; stops at once where this process alone has too many (a store that is gone).

        Args:
            length: images in the data.
            limit: `model.max_bad_images`.

        Raises:
            DataError: there are too many.
        """
        for index, reason in batch.failures:
            if index not in self.failures:
                self.failures[index] = reason
                if len(self.failures) <= LISTED_FAILURES:
                    logger.warning("Skipped: %s", reason)
        self._check_failures(length, limit)

    def share_failures(self, length: int, limit: float, device: torch.device) -> None:
        """Bring the failures of all processes together; arguments and error as of `note_failures`."""
        if not sum_over_ranks(torch.tensor(len(self.failures), device=device)).item():
            return
        merged: dict[int, str] = {}
        for failures in gather_from_ranks(self.failures):
            merged.update(failures)
        self.failures = merged
        self._check_failures(length, limit)

    def _check_failures(self, length: int, limit: float) -> None:
        # In a small table a single image is more than the usual limit; only a limit of 0 means none at all.
        if len(self.failures) > (max(1, int(limit * length)) if limit else 0):
            raise DataError(
                f"{len(self.failures)} of {length} images cannot be read, more than model.max_bad_images ({limit:.1%}) allows; "
                f"mend them or raise the limit; the first says: {next(iter(self.failures.values()))}"
            )
