"""Everything that the report shows, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dino4cells.classify import Classifier, CrossValidation
from dino4cells.classify.batch_effect import BatchEffect
from dino4cells.classify.evaluation import NearestNotSame
from dino4cells.report.attention import AttentionExamples
from dino4cells.report.cell_map import CellMap

TRAINED = "trained"

FEATURE_NAMES = {
    TRAINED: "trained network",
    "untrained": "same network untrained",
    "intensity": "intensity statistics",
}


@dataclass(frozen=True)
class ReportData:
    """The content of one report.

    Attributes:
        title: Headline, for example the name of the data set.
        channels: Channel names in order.
        labels: (N,) str, class of each cell.
        results: Feature set ("trained", "untrained", "intensity") -> classifier ("knn", "linear") -> result, in the order of the table.
        split: How the cells were split (`Folds.description`).
        resampled: What the resamples behind the intervals draw (`Evaluation.resampled`), or "".
        nearest: Scores of nearest neighbours that differ in some columns, or None.
        examples: Class -> images (C, H, W) of a few of its cells, any number type and size.
        log: Records of log.jsonl: "samples", "epoch", "loss", and, where known, the values that follow a schedule and the speed.
        plateau: Loss of a network whose outputs are uniform, ln(out_dim), or None.
        cells: The map of the trained features with all that is told about a cell on it, or None.
        attention: Where the network looks on example cells.
        batch: How well the group is told from the features, or None.
        groups: (N,) str, group of each cell, or None.
        group_name: Column of the groups.
        run: What was run: what -> how.
        settings: Resolved configuration as text.
        artifacts: What -> where, shown at the end.
        warnings: Sentences that the reader must see (`Folds.warnings` and the like).
        footer: One line, for example version and date.
    """

    title: str
    channels: Sequence[str]
    labels: np.ndarray
    results: Mapping[str, Mapping[Classifier, CrossValidation]]
    split: str
    resampled: str = ""
    nearest: NearestNotSame | None = None
    examples: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)
    log: Sequence[Mapping[str, float]] = ()
    plateau: float | None = None
    cells: CellMap | None = None
    attention: AttentionExamples | None = None
    batch: BatchEffect | None = None
    groups: np.ndarray | None = None
    group_name: str = "group"
    run: Mapping[str, str] = field(default_factory=dict)
    settings: str = ""
    artifacts: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    footer: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, sorted, those that were not judged included."""
        return tuple(str(name) for name in np.unique(self.labels))
