"""Probabilities that mean what they say: temperature scaling (Guo et al. 2017, "On Calibration of Modern Neural Networks", §4.2).

Logits are divided by a temperature T > 0 that makes the negative log-likelihood of validation cells least. One T for one class a cell
(softmax), a T for each label where a cell may have several (sigmoid). Neither the most likely class nor the labels above 0.5 change.

Dimensions: N cells, K classes, T temperatures (1 or K).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax

Floats = NDArray[np.floating]
WARMEST = 20.0
"""Temperatures are sought from 1 / 20 to 20."""
HALVINGS = 40
BINS = 15
SMALLEST = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Calibration:
    """What calibration did to probabilities.

    Attributes:
        temperatures: one, or one for each label.
        log_loss: mean negative log-likelihood of a cell (of a label of a cell) before and after.
        expected_calibration_error: before and after.
    """

    temperatures: tuple[float, ...]
    log_loss: tuple[float, float]
    expected_calibration_error: tuple[float, float]

    @classmethod
    def of(cls, temperatures: tuple[float, ...], before_NK: Floats, after_NK: Floats, targets_NK: Floats, several: bool) -> Calibration:
        """What temperatures did to the probabilities of cells whose labels are known.

        Args:
            temperatures: that are kept.
            before_NK, after_NK: probabilities.
            targets_NK: zeros and ones.
            several: whether a cell may have several labels.
        """
        losses = [log_loss(given, targets_NK, several) for given in (before_NK, after_NK)]
        errors = [expected_calibration_error(given, targets_NK, several) for given in (before_NK, after_NK)]
        return cls(temperatures, (losses[0], losses[1]), (errors[0], errors[1]))

    def json(self) -> dict[str, object]:
        """As `metrics.json` has it."""
        named = {"log_loss": self.log_loss, "expected_calibration_error": self.expected_calibration_error}
        pairs = {name: {"before": before, "after": after} for name, (before, after) in named.items()}
        return {"temperatures": list(self.temperatures), **pairs}


def fit_temperatures(logits_NK: Floats, targets_NK: Floats, several: bool) -> tuple[float, ...]:
    """The temperatures that make the negative log-likelihood of these cells least.

    In β = 1/T it is convex, so its derivative is halved to its zero: Σ (E_p[z] − z_y), and for a label Σ z (p − y).

    Args:
        logits_NK: finite; N >= 1.
        targets_NK: zeros and ones.
        several: one for each label; a label that all cells have, or none, keeps 1.
    """
    logits, targets = logits_NK.astype(np.float64), targets_NK.astype(np.float64)

    def slope(betas_T: NDArray[np.float64]) -> NDArray[np.float64]:
        if several:
            return np.asarray((logits * (expit(logits * betas_T) - targets)).sum(axis=0))
        expected_N = (np.exp(log_softmax(logits * betas_T, axis=1)) * logits).sum(axis=1)
        return np.atleast_1d((expected_N - (logits * targets).sum(axis=1)).sum())

    count = logits.shape[1] if several else 1
    low_T, high_T = np.full(count, -np.log(WARMEST)), np.full(count, np.log(WARMEST))
    for _ in range(HALVINGS):
        middle_T = (low_T + high_T) / 2
        rises_T = slope(np.exp(middle_T)) > 0
        low_T, high_T = np.where(rises_T, low_T, middle_T), np.where(rises_T, middle_T, high_T)
    found_T = np.exp(-(low_T + high_T) / 2)
    if several:
        cells_K = targets.sum(axis=0)
        found_T = np.where((cells_K > 0) & (cells_K < len(targets)), found_T, 1.0)
    return tuple(found_T.tolist())


def probabilities_of(logits_NK: Floats, temperatures: tuple[float, ...], several: bool) -> NDArray[np.float32]:
    """(N, K) in [0, 1]: softmax, or the sigmoid of each label, of logits / temperature. NaN stays NaN."""
    scaled_NK = logits_NK.astype(np.float64) / np.asarray(temperatures)
    return np.asarray(expit(scaled_NK) if several else np.exp(log_softmax(scaled_NK, axis=1)), dtype=np.float32)


def log_loss(probabilities_NK: Floats, targets_NK: Floats, several: bool) -> float:
    """Mean over cells (over cells and labels) of −log p of what is true; of none more than 16, where float32 ends."""
    true_NK = np.where(targets_NK > 0, probabilities_NK, 1 - probabilities_NK) if several else probabilities_NK[targets_NK > 0]
    return float(-np.log(np.maximum(true_NK, SMALLEST)).mean())


def expected_calibration_error(probabilities_NK: Floats, targets_NK: Floats, several: bool) -> float:
    """Mean difference between how sure and how right a classifier is, over 15 equal ranges of confidence (Guo et al. 2017, equation 3).

    Of one class a cell, of the most likely one; of several labels, of each label's probability, meaned over those that occur.
    """
    if not several:
        rows, best_N = np.arange(len(probabilities_NK)), probabilities_NK.argmax(axis=1)
        return _error(probabilities_NK[rows, best_N], targets_NK[rows, best_N])
    occurring = np.flatnonzero(targets_NK.any(axis=0))
    return float(np.mean([_error(probabilities_NK[:, label], targets_NK[:, label]) for label in occurring])) if len(occurring) else 0.0


def _error(confidence_N: Floats, right_N: Floats) -> float:
    bin_N = np.minimum((confidence_N * BINS).astype(np.int64), BINS - 1)
    differences = np.bincount(bin_N, confidence_N.astype(np.float64) - right_N, BINS)
    return float(np.abs(differences).sum() / len(confidence_N))
