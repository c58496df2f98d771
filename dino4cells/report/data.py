"""Everything that the report shows, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dino4cells.classify import Classifier, CrossValidation

TRAINED = "trained"

FEATURE_NAMES = {
    TRAINED: "trained network",
    "untrained": "same network untrained",
    "intensity": "intensity statistics",
}


@dataclass(frozen=True)
class FeatureMap:
    """A picture of the feature space in two dimensions.

    Attributes:
        xy: (M, 2) float, positions.
        rows: (M,) int, which of the N cells were drawn.
        method: "UMAP" or "PCA".
        note: A sentence for the caption if something is other than usual, or "".
    """

    xy: np.ndarray
    rows: np.ndarray
    method: str
    note: str = ""


@dataclass(frozen=True)
class ReportData:
    """The content of one report.

    Attributes:
        title: Headline, for example the name of the data set.
        channels: Channel names in order.
        labels: (N,) str, class of each cell.
        results: Feature set ("trained", "untrained", "intensity") -> classifier ("knn", "linear") -> result, in the order of the table.
        split: How the cells were split (`Folds.description`).
        examples: Class -> images (C, H, W) of a few of its cells, any number type and size.
        loss: Records of log.jsonl: "samples", "epoch", "loss", and, where known, "images_per_second".
        plateau: Loss of a network whose outputs are uniform, ln(out_dim), or None.
        feature_map: Two-dimensional picture of the trained features, or None.
        groups: (N,) str, group of each cell, or None.
        group_name: Column of the groups.
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
    examples: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)
    loss: Sequence[Mapping[str, float]] = ()
    plateau: float | None = None
    feature_map: FeatureMap | None = None
    groups: np.ndarray | None = None
    group_name: str = "group"
    settings: str = ""
    artifacts: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    footer: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, sorted, those that were not judged included."""
        return tuple(str(name) for name in np.unique(self.labels))
