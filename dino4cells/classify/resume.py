"""What of an unfinished training of a classifier is kept, so that it goes on where it was.

Dimensions: K classes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import torch

from dino4cells.classify.classifier import Classifier
from dino4cells.errors import CheckpointError
from dino4cells.training import checkpoint as checkpoints
from dino4cells.training.distributed import ProcessGroup, gather_from_ranks

logger = logging.getLogger(__name__)
Record = dict[str, float]


@dataclass
class Progressed:
    """How far a run is.

    Attributes:
        seen: samples.
        records: one for every epoch.
        best_score, best_epoch, best_weights: of the best epoch so far; weights are kept with early stopping alone.
        losses: of the steps of this process since the last record.
    """

    seen: int = 0
    records: list[Record] = field(default_factory=list)
    best_score: float = -1.0
    best_epoch: float = 0.0
    best_weights: dict[str, torch.Tensor] | None = None
    losses: list[torch.Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class ResumePlace:
    """Where the state of an unfinished run is kept, in the published layout of checkpoints, with the classifier as the network.

    Attributes:
        directory: URL.
        identity: decides the outcome of a run; another one is not continued.
        minutes: between two checkpoints.
    """

    directory: str
    identity: str
    minutes: float

    def save(self, state: Progressed, classifier: Classifier, optimizer: torch.optim.Optimizer, group: ProcessGroup) -> None:
        """Write a checkpoint; called by all processes."""
        losses = gather_from_ranks([float(loss) for loss in state.losses])
        if not group.is_first:
            return
        content: checkpoints.Checkpoint = {
            "teacher": classifier.state_dict(),
            "optimizer": optimizer.state_dict(),
            "samples_seen": state.seen,
            "identity": self.identity,
            "records": state.records,
            "losses": losses,
            "best": {"score": state.best_score, "epoch": state.best_epoch, "weights": state.best_weights},
        }
        checkpoints.save(self.directory, content)

    def resume(self, classifier: Classifier, optimizer: torch.optim.Optimizer, group: ProcessGroup) -> Progressed:
        """Put the weights and the optimizer to where they were, and say how far that is; the beginning where nothing is kept.

        Raises:
            CheckpointError: what is kept is of another run.
        """
        found = checkpoints.load_latest(self.directory)
        if found is None:
            return Progressed()
        if found.get("identity") != self.identity:
            raise CheckpointError(
                f"{self.directory}: holds checkpoints of an unfinished run with another configuration or other data; "
                "choose another output, or delete them to start anew."
            )
        classifier.load_state_dict(found["teacher"])
        optimizer.load_state_dict(found["optimizer"])
        if group.is_first:
            logger.warning("Continuing after %s cells from %s.", f"{found['samples_seen']:,}", self.directory)
        losses, best = found.get("losses", []), found["best"]
        # Those of another number of processes count in the first one: their mean stays what it is.
        every = [loss for one in losses for loss in one] if group.is_first else []
        mine = losses[group.rank] if len(losses) == group.world_size else every
        return Progressed(
            int(found["samples_seen"]),
            list(found["records"]),
            best["score"],
            best["epoch"],
            best["weights"],
            [torch.tensor(loss, device=group.device) for loss in mine],
        )
