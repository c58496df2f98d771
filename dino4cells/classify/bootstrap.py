"""How far a score may be off: percentile intervals from resamples of the cells, or of their groups (Efron & Tibshirani 1993, chapter 13).

A resample draws as many units as there are, with replacement. A unit is a group (a plate, a donor) where one is named, since the cells
of a plate are not independent; else a cell. Many cells or groups are first dealt at random into `MOST_UNITS` equal units: of independent
cells this leaves the spread of a score as it is, and makes the work independent of their number. What a unit counts is summed once, so
that all resamples are one matrix product.

Dimensions: R resamples, U units, N cells, K classes, X counted categories.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES, MOST_UNITS, LEVEL = 1000, 1000, 0.95
FEW_GROUPS = 10
"""Below so many groups an interval is told to be rough: it tends to be too narrow."""

Interval = tuple[float, float]
Draws = NDArray[np.float64]
"""(R,) a score in every resample."""


@dataclass(frozen=True)
class Resamples:
    """Resamples of N cells, to be shared by everything that is compared on them.

    Attributes:
        unit_N: which unit a cell belongs to.
        weights_RU: how often a unit is in a resample.
        description: what was drawn, to be told beside the intervals.
    """

    unit_N: NDArray[np.int64]
    weights_RU: NDArray[np.float32]
    description: str

    @classmethod
    def of(cls, cells: int, groups_N: NDArray[np.str_] | None = None, group_name: str = "group", seed: int = 0) -> Resamples:
        """Resamples of cells.

        Args:
            cells: N, at least 1.
            groups_N: the group of every cell; None, or one group alone: each cell is one of its own.
            group_name: column of the groups, to be told.
            seed: of the draws.

        Example:
            >>> Resamples.of(4, np.array(["p1", "p1", "p2", "p3"]), "plate").description
            '3 values of plate'
        """
        random = np.random.default_rng(seed)
        if groups_N is not None and len(np.unique(groups_N)) < 2:
            groups_N = None
        drawn_N = np.arange(cells) if groups_N is None else np.unique(groups_N, return_inverse=True)[1]
        drawn = int(drawn_N.max()) + 1
        units = min(drawn, MOST_UNITS)
        unit_of_drawn = random.permutation(drawn) % units
        weights_RU = random.multinomial(units, np.full(units, 1 / units), size=RESAMPLES).astype(np.float32)
        what = "cells" if groups_N is None else f"values of {group_name}"
        return cls(unit_of_drawn[drawn_N], weights_RU, f"{drawn:,} {what}")

    def totals(self, category_N: NDArray[np.int64], categories: int, counted_N: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """How many cells of each category are in each resample, (R, X).

        Args:
            category_N: numbers below `categories`.
            categories: X.
            counted_N: the cells that count; all when None.
        """
        rows = slice(None) if counted_N is None else counted_N
        units = self.weights_RU.shape[1]
        place = self.unit_N[rows] * categories + category_N[rows]
        counts_UX = np.bincount(place, minlength=units * categories).reshape(units, categories)
        return np.asarray(self.weights_RU @ counts_UX.astype(np.float32), dtype=np.float64)


def interval(draws: Draws) -> Interval:
    """The middle 95 % of a score over the resamples, of those in which it is defined."""
    defined = draws[np.isfinite(draws)]
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(defined) else (0.0, 1.0)
    return float(low), float(high)


def class_draws(labels_N: NDArray[np.str_], predictions_N: NDArray[np.str_], resamples: Resamples) -> dict[str, Draws]:
    """`accuracy`, `balanced_accuracy` and `macro_f1` in every resample, as `metrics.score` defines them.

    Args:
        labels_N, predictions_N: names of classes.
        resamples: of these N cells.
    """
    classes, numbers = np.unique(np.concatenate([labels_N, predictions_N]), return_inverse=True)
    true_N, predicted_N = numbers[: len(labels_N)], numbers[len(labels_N) :]
    cells_RK = resamples.totals(true_N, len(classes))
    named_RK = resamples.totals(predicted_N, len(classes))
    hits_RK = resamples.totals(true_N, len(classes), true_N == predicted_N)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "accuracy": hits_RK.sum(axis=1) / cells_RK.sum(axis=1),
            "balanced_accuracy": np.nanmean(hits_RK / cells_RK, axis=1),
            "macro_f1": np.nanmean(2 * hits_RK / (cells_RK + named_RK), axis=1),
        }


def intervals(draws: dict[str, Draws]) -> dict[str, Interval]:
    """Score → its interval."""
    return {name: interval(values) for name, values in draws.items()}


@dataclass(frozen=True)
class Difference:
    """By how much one result is better than another on the same cells, with its interval."""

    value: float
    interval: Interval

    @classmethod
    def of(cls, value: float, draws: Draws, others: Draws) -> Difference:
        """Of two scores whose difference is `value`, from what each is in the same resamples."""
        return cls(value, interval(draws - others))

    def json(self) -> dict[str, object]:
        """As `metrics.json` has it."""
        return {"value": self.value, "interval": list(self.interval)}


def warn_of_few(groups_N: NDArray[np.str_] | None, group_name: str) -> tuple[str, ...]:
    """A sentence for the user where intervals rest on few groups, or on one."""
    count = 0 if groups_N is None else len(np.unique(groups_N))
    if count == 1:
        return (
            f"All judged cells have one value of {group_name}: the intervals are of its cells, and do not tell what others would score.",
        )
    if not 0 < count < FEW_GROUPS:
        return ()
    return (f"The intervals rest on {count} values of {group_name}, which is few: they are rough, and rather too narrow.",)
