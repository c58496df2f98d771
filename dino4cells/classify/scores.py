"""How well a head predicts: one class a cell, or several labels (HANDBOOK, classification).

Dimensions: N cells, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score

from dino4cells.classify.labels import Task
from dino4cells.classify.metrics import score

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class HeadScores:
    """Scores as plain numbers.

    Attributes:
        values: name → score. Several labels: `macro_f1` at a probability of 0.5 over the labels that occur, which is the paper's score,
            `micro_f1` likewise, and `macro_average_precision`. One class a cell: `accuracy`, `balanced_accuracy` and `macro_f1` of the most
            likely class, and `macro_f1_at_half`, the paper's score.
        by_class: a row for every class that occurs: `class`, `cells`, `f1`.
    """

    values: dict[str, float]
    by_class: tuple[dict[str, str | int | float], ...]

    @property
    def main(self) -> float:
        """The score that tells whether an epoch is better than another."""
        return self.values["macro_f1"]


def head_scores(task: Task, logits_NK: Floats, targets_NK: Floats) -> HeadScores:
    """Judge logits of cells whose labels are known.

    Args:
        task: what is predicted.
        logits_NK: of the head; N >= 1.
        targets_NK: zeros and ones.
    """
    occurs_K = targets_NK.sum(axis=0) > 0
    if not occurs_K.any():
        return HeadScores({"macro_f1": 0.0, "micro_f1": 0.0, "macro_average_precision": 0.0}, ())
    targets, above_half = targets_NK[:, occurs_K], logits_NK[:, occurs_K] > 0
    at_half = float(f1_score(targets, above_half, average="macro", zero_division=0))
    if task.several:
        precision = average_precision_score(targets, logits_NK[:, occurs_K], average="macro")
        micro = float(f1_score(targets, above_half, average="micro", zero_division=0))
        values = {"macro_f1": at_half, "micro_f1": micro, "macro_average_precision": float(precision)}
        chosen = above_half
    else:
        names = np.asarray(task.classes, dtype=np.str_)
        scores = score(names[targets_NK.argmax(axis=1)], names[logits_NK.argmax(axis=1)], task.classes)
        values = {
            "accuracy": scores.accuracy,
            "balanced_accuracy": scores.balanced_accuracy,
            "macro_f1": scores.macro_f1,
            "macro_f1_at_half": at_half,
        }
        chosen = np.eye(len(task.classes), dtype=bool)[logits_NK.argmax(axis=1)][:, occurs_K]
    f1_K = f1_score(targets, chosen, average=None, zero_division=0)
    occurring = [name for name, occurs in zip(task.classes, occurs_K, strict=True) if occurs]
    cells = targets.sum(axis=0).astype(int).tolist()
    rows = tuple({"class": name, "cells": count, "f1": float(f1)} for name, count, f1 in zip(occurring, cells, f1_K, strict=True))
    return HeadScores(values, rows)
