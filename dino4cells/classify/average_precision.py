"""Average precision of labels in every resample: how well a label's probability ranks the cells that have it.

Scores are dealt into at most `BINS` ranges once; a resample then only counts what falls into each. Within a range cells count as equally
likely, which is exact where there are no more different scores, and moves the figure by little otherwise; that little is taken off again.

Dimensions: R resamples, N cells, K labels, X ranges.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from dino4cells.classify.bootstrap import Draws, Resamples

BINS = 256
Floats = NDArray[np.floating]


def average_precisions(scores_NK: Floats, targets_NK: Floats) -> NDArray[np.float64]:
    """(K,) Σ (recall_n − recall_{n−1}) precision_n of each label over falling thresholds; every label occurs."""
    return np.atleast_1d(average_precision_score(targets_NK, scores_NK, average=None))


def precision_draws(scores_NK: Floats, targets_NK: Floats, exact_K: NDArray[np.float64], resamples: Resamples) -> NDArray[np.float64]:
    """(R, K) average precision of each label in every resample, from what it is of the cells; NaN in resamples that lack the label."""
    columns = zip(scores_NK.T, targets_NK.T, exact_K, strict=True)
    return np.stack([_draws(scores, targets, float(exact), resamples) for scores, targets, exact in columns], axis=1)


def micro_draws(scores_NK: Floats, targets_NK: Floats, resamples: Resamples) -> tuple[float, Draws]:
    """Average precision of all labels of all cells as one list, and what it is in every resample."""
    exact = float(average_precision_score(targets_NK, scores_NK, average="micro"))
    of_pairs = replace(resamples, unit_N=np.repeat(resamples.unit_N, scores_NK.shape[1]))
    return exact, _draws(scores_NK.ravel(), targets_NK.ravel(), exact, of_pairs)


def _draws(scores_N: Floats, targets_N: Floats, exact: float, resamples: Resamples) -> Draws:
    has_N = targets_N > 0
    edges = _edges(scores_N, has_N)
    bin_N = len(edges) - np.searchsorted(edges, scores_N, side="right")  # the likeliest cells first
    hits_RX = resamples.totals(bin_N, len(edges) + 1, has_N)
    cells_RX = resamples.totals(bin_N, len(edges) + 1)
    counts = (np.bincount(bin_N[has_N], minlength=len(edges) + 1), np.bincount(bin_N, minlength=len(edges) + 1))
    in_ranges = _of_counts(*(given[None].astype(np.float64) for given in counts))[0]
    return np.asarray(_of_counts(hits_RX, cells_RX) + (exact - in_ranges))


def _of_counts(hits_RX: NDArray[np.float64], cells_RX: NDArray[np.float64]) -> Draws:
    with np.errstate(invalid="ignore", divide="ignore"):
        precision_RX = np.nan_to_num(hits_RX.cumsum(axis=1) / cells_RX.cumsum(axis=1))
        return np.asarray((hits_RX * precision_RX).sum(axis=1) / hits_RX.sum(axis=1))


def _edges(scores_N: Floats, has_N: NDArray[np.bool_]) -> Floats:
    """Ascending bounds of the ranges: every score where there are few, else as many cells, and cells with the label, in each."""
    distinct = np.unique(scores_N)
    if len(distinct) <= BINS:
        return distinct
    shares = np.linspace(0, 1, BINS // 2)
    return np.unique(np.concatenate([np.quantile(scores_N, shares), np.quantile(scores_N[has_N], shares)]))
