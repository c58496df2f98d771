"""How well a head predicts: one class a cell, or several labels (HANDBOOK, classification).

Dimensions: N cells, K classes, O classes that occur, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from dino4cells.classify.average_precision import average_precisions, micro_draws, precision_draws
from dino4cells.classify.bootstrap import Draws, Interval, Resamples, class_draws, interval, intervals
from dino4cells.classify.labels import Task
from dino4cells.classify.metrics import score

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Row = dict[str, str | int | float | list[float]]


@dataclass(frozen=True)
class HeadScores:
    """Scores as plain numbers.

    Attributes:
        values: name → score. Several labels: `macro_f1` at a probability of 0.5 over the labels that occur, which is the paper's score,
            `micro_f1` likewise, `macro_average_precision`, and, where intervals are asked for, `micro_average_precision`. One class a
            cell: `accuracy`, `balanced_accuracy` and `macro_f1` of the most likely class, and `macro_f1_at_half`, the paper's score.
        by_class: a row for every class that occurs: `class`, `cells`, `precision`, `recall`, `f1`, of labels `average_precision`, and
            where intervals are asked for `f1_interval` and `average_precision_interval`.
        intervals: name → (low, high) of each value, 95 % by bootstrap; empty where none were asked for.
        draws: name → the score in every resample.
    """

    values: dict[str, float]
    by_class: tuple[Row, ...]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    draws: Mapping[str, Draws] = field(default_factory=dict, repr=False)

    @property
    def main(self) -> float:
        """The score that tells whether an epoch is better than another."""
        return self.values["macro_f1"]


def head_scores(task: Task, logits_NK: Floats, targets_NK: Floats, resamples: Resamples | None = None) -> HeadScores:
    """Judge logits of cells whose labels are known.

    Args:
        task: what is predicted.
        logits_NK: of the head; N >= 1.
        targets_NK: zeros and ones.
        resamples: of these cells, for intervals; without them it is quick.
    """
    occurs_K = targets_NK.sum(axis=0) > 0
    if not occurs_K.any():
        return HeadScores({"macro_f1": 0.0, "micro_f1": 0.0, "macro_average_precision": 0.0}, ())
    targets_NO, logits_NO = targets_NK[:, occurs_K], logits_NK[:, occurs_K]
    above_half_NO = logits_NO > 0
    at_half = float(f1_score(targets_NO, above_half_NO, average="macro", zero_division=0))
    names = np.asarray(task.classes, dtype=np.str_)
    true_N, named_N = names[targets_NK.argmax(axis=1)], names[logits_NK.argmax(axis=1)]
    precisions_O: NDArray[np.float64] | None = None
    if task.several:
        precisions_O = average_precisions(logits_NO, targets_NO)
        micro = float(f1_score(targets_NO, above_half_NO, average="micro", zero_division=0))
        values = {"macro_f1": at_half, "micro_f1": micro, "macro_average_precision": float(precisions_O.mean())}
        chosen_NO = above_half_NO
    else:
        scores = score(true_N, named_N, task.classes)
        values = {
            "accuracy": scores.accuracy,
            "balanced_accuracy": scores.balanced_accuracy,
            "macro_f1": scores.macro_f1,
            "macro_f1_at_half": at_half,
        }
        chosen_NO = np.eye(len(names), dtype=bool)[logits_NK.argmax(axis=1)][:, occurs_K]
    rows = _rows(names[occurs_K], targets_NO > 0, chosen_NO, precisions_O)
    if resamples is None:
        return HeadScores(values, tuple(rows))
    f1_RO, hits_R, pairs_R = _f1_draws(chosen_NO, targets_NO > 0, resamples)
    for row, f1_R in zip(rows, f1_RO.T, strict=True):
        row["f1_interval"] = list(interval(f1_R))
    draws: dict[str, Draws]
    if precisions_O is None:
        half_RO = _f1_draws(above_half_NO, targets_NO > 0, resamples)[0]
        draws = {**class_draws(true_N, named_N, resamples), "macro_f1_at_half": np.nanmean(half_RO, axis=1)}
    else:
        precisions_RO = precision_draws(logits_NO, targets_NO, precisions_O, resamples)
        values["micro_average_precision"], micro_R = micro_draws(logits_NO, targets_NO, resamples)
        draws = {
            "macro_f1": np.nanmean(f1_RO, axis=1),
            "micro_f1": 2 * hits_R / pairs_R,
            "macro_average_precision": np.nanmean(precisions_RO, axis=1),
            "micro_average_precision": micro_R,
        }
        for row, precision_R in zip(rows, precisions_RO.T, strict=True):
            row["average_precision_interval"] = list(interval(precision_R))
    return HeadScores(values, tuple(rows), intervals(draws), draws)


def _rows(names_O: NDArray[np.str_], truth_NO: Flags, chosen_NO: Flags, precisions_O: NDArray[np.float64] | None) -> list[Row]:
    """What is known of each class that occurs."""
    hits_O, cells_O, named_O = ((truth_NO & chosen_NO).sum(axis=0), truth_NO.sum(axis=0), chosen_NO.sum(axis=0))
    rows: list[Row] = []
    for place, name in enumerate(names_O):
        hits, cells, named = int(hits_O[place]), int(cells_O[place]), int(named_O[place])
        row: Row = {"class": str(name), "cells": cells, "precision": hits / max(named, 1), "recall": hits / cells}
        row["f1"] = 2 * hits / (cells + named)
        if precisions_O is not None:
            row["average_precision"] = float(precisions_O[place])
        rows.append(row)
    return rows


def _f1_draws(chosen_NO: Flags, truth_NO: Flags, resamples: Resamples) -> tuple[NDArray[np.float64], Draws, Draws]:
    """F1 of each class in every resample (NaN where it lacks the class), and hits, and the sum of true and named cells, of all classes."""
    cells, classes = truth_NO.shape
    of_pairs = replace(resamples, unit_N=np.repeat(resamples.unit_N, classes))
    class_of_pair = np.tile(np.arange(classes), cells)
    hits_RO, cells_RO, named_RO = (
        of_pairs.totals(class_of_pair, classes, counted.ravel()) for counted in (truth_NO & chosen_NO, truth_NO, chosen_NO)
    )
    with np.errstate(invalid="ignore"):
        f1_RO = np.where(cells_RO > 0, 2 * hits_RO / (cells_RO + named_RO), np.nan)
    return f1_RO, hits_RO.sum(axis=1), (cells_RO + named_RO).sum(axis=1)
