"""What came out of judging features, and how it is written.

Dimensions: N rows of the features artifact, M of them judged (image readable, class known).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from dino4cells.classify.bootstrap import Difference
from dino4cells.classify.crossval import Classifier, CrossValidation
from dino4cells.classify.feature_kind import FeatureKind
from dino4cells.classify.metrics import Scores
from dino4cells.classify.not_same import NotSame, NotSameTask
from dino4cells.classify.splits import Folds
from dino4cells.features.store import Features, FeaturesCard

KIND = "classification"
METRICS, PREDICTIONS, REPORT = "metrics.json", "predictions.parquet", "report.html"
CLASSIFIERS: dict[Classifier, str] = {"knn": "knn.skops", "linear": "linear_probe.skops"}
TRAINED = "trained"


@dataclass(frozen=True)
class NearestNotSame:
    """The nearest-neighbour scores of profiles.

    Attributes:
        task: what was asked, with the chance level.
        results: feature set → score; that of the trained one knows its difference from every baseline.
    """

    task: NotSameTask
    results: Mapping[str, NotSame]

    def json(self) -> dict[str, object]:
        """As `metrics.json` has it."""
        judged = int(self.task.judged_N.sum())
        return {
            "columns": list(self.task.columns),
            "judged": judged,
            "not_judged": len(self.task.judged_N) - judged,
            "chance": self.task.chance,
            "resampled": self.task.resamples.description,
            "results": {name: {"accuracy": found.accuracy, "interval": list(found.interval)} for name, found in self.results.items()},
            "differences": {name: found.json() for name, found in self.results[TRAINED].differences.items()},
        }


@dataclass(frozen=True)
class Evaluation:
    """What was judged, how it was split, and every result.

    Attributes:
        rows: (M,) rows of the features that were judged.
        label, group: columns of the classes and of the groups that never straddle (None: random split).
        labels, groups: (M,) str.
        results: feature set (`trained`, `untrained`, `intensity`) → classifier → result; the intervals are in its `pooled`.
        warnings: sentences for the user.
        resampled: what the intervals' resamples draw, such as "6 values of plate".
        differences: baseline → classifier → score → by how much the trained features are better, on the same cells.
        nearest: scores of nearest neighbours that differ in some columns, where those were named.
    """

    rows: np.ndarray
    label: str
    group: str | None
    labels: np.ndarray
    groups: np.ndarray | None
    folds: Folds
    results: dict[str, dict[Classifier, CrossValidation]]
    warnings: tuple[str, ...]
    resampled: str = ""
    differences: Mapping[str, Mapping[Classifier, Mapping[str, Difference]]] = field(default_factory=dict)
    nearest: NearestNotSame | None = None

    def metrics_json(self, card: FeaturesCard) -> str:
        """`metrics.json`: every score, the confusion matrix of the trained features, and how the cells were split.

        Args:
            card: of the features, which tell a saved classifier what it takes.
        """
        trained = self.results[TRAINED]
        content = {
            "label": self.label,
            "group": self.group,
            "split": self.folds.description,
            "cells": len(self.rows),
            "classes": sorted({str(name) for name in self.labels}),
            "neighbours": trained["knn"].neighbours,
            "results": {
                name: {classifier: _scores(result) for classifier, result in by_classifier.items()}
                for name, by_classifier in self.results.items()
            },
            "differences": {
                name: {
                    classifier: {score: found.json() for score, found in by_score.items()} for classifier, by_score in by_classifier.items()
                }
                for name, by_classifier in self.differences.items()
            },
            "resampled": self.resampled,
            "nearest_not_same": self.nearest.json() if self.nearest is not None else None,
            "by_class": {classifier: _by_class(result.pooled) for classifier, result in trained.items()},
            "confusion": {
                classifier: {"classes": list(result.pooled.classes), "matrix": [list(row) for row in result.pooled.confusion]}
                for classifier, result in trained.items()
            },
            "features": FeatureKind.of(card).model_dump(mode="json"),
            "warnings": list(self.warnings),
        }
        return json.dumps(content, indent=2) + "\n"

    def predictions(self, features: Features) -> pd.DataFrame:
        """A row per cell in the features' order: its ID and class, its fold, what was predicted for it out of fold, and how probable.

        `probability_…` are those of the linear probe on the trained features, calibrated.
        """
        frame: pd.DataFrame = features.metadata[[name for name in ("file", "ID") if name in features.metadata]].copy()
        frame["label"] = _placed(self.labels, self.rows, len(frame))
        frame["fold"] = pd.array([pd.NA] * len(frame), dtype="Int64")
        frame.loc[self.rows[self.folds.judged], "fold"] = self.folds.assignment[self.folds.judged]
        for name, by_classifier in self.results.items():
            for classifier, result in by_classifier.items():
                column = _placed(result.predictions, self.rows, len(frame))
                column[column == ""] = None  # cells of classes that could not be judged
                frame[f"{name}_{classifier}"] = column
        probe = self.results[TRAINED]["linear"]
        if probe.probabilities is None:
            return frame
        values = np.full((len(frame), len(probe.classes)), np.nan, np.float32)
        values[self.rows] = probe.probabilities
        columns = [f"probability_{name}" for name in probe.classes]
        joined: pd.DataFrame = frame.join(pd.DataFrame(values, columns=columns, index=frame.index))
        return joined


def _scores(result: CrossValidation) -> dict[str, object]:
    scores = result.pooled
    return {
        "accuracy": scores.accuracy,
        "balanced_accuracy": scores.balanced_accuracy,
        "macro_f1": scores.macro_f1,
        "cells": scores.cells,
        "intervals": {name: list(found) for name, found in scores.intervals.items()},
        **({"calibration": result.calibration.json()} if result.calibration is not None else {}),
    }


def _by_class(scores: Scores) -> list[dict[str, object]]:
    """A row for every class that has judged cells."""
    matrix = np.asarray(scores.confusion)
    hits, cells, named = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    return [
        {
            "class": name,
            "cells": int(cells[place]),
            "precision": float(hits[place] / max(named[place], 1)),
            "recall": float(hits[place] / cells[place]),
            "f1": float(2 * hits[place] / (cells[place] + named[place])),
        }
        for place, name in enumerate(scores.classes)
        if cells[place]
    ]


def _placed(values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    placed = np.full(count, None, dtype=object)
    placed[rows] = values
    return placed
