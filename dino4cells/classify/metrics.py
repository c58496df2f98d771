"""Scores of predictions, as plain Python numbers that JSON and Kubeflow accept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score, recall_score

from dino4cells.classify.bootstrap import Interval


@dataclass(frozen=True)
class Scores:
    """How well predictions match labels. No field is ever NaN.

    Attributes:
        cells: Number of cells judged.
        accuracy: Share of cells predicted correctly; large classes dominate it.
        balanced_accuracy: Mean over the classes present of the share of their cells found; every class counts the same.
        macro_f1: Mean of the classes' F1 scores.
        classes: Class names, the order of the matrix.
        confusion: Counts, `confusion[true][predicted]`.
        intervals: `accuracy`, `balanced_accuracy`, `macro_f1` → (low, high), 95 % by bootstrap; empty where none were asked for.
    """

    cells: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    intervals: Mapping[str, Interval] = field(default_factory=dict)


def score(labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str] | None = None) -> Scores:
    """Compare predictions with labels.

    Args:
        labels: (N,) str, N >= 1.
        predictions: (N,) str.
        classes: Order of the confusion matrix; all names that occur, sorted, if None. A class without cells counts in no mean.
    """
    present = np.unique(labels)
    occurring = np.unique(np.concatenate([labels, predictions]))
    order = tuple(str(name) for name in (occurring if classes is None else classes))
    matrix = confusion_matrix(labels, predictions, labels=list(order))
    return Scores(
        cells=len(labels),
        accuracy=float(np.mean(labels == predictions)),
        balanced_accuracy=float(recall_score(labels, predictions, labels=present, average="macro", zero_division=0)),
        macro_f1=float(f1_score(labels, predictions, labels=occurring, average="macro", zero_division=0)),
        classes=order,
        confusion=tuple(tuple(int(cells) for cells in row) for row in matrix),
    )
