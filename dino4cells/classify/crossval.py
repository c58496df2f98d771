"""Cross-validation: every cell is predicted once, by a classifier that was fitted without its fold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from dino4cells.classify.calibration import Calibration, fit_temperatures, probabilities_of
from dino4cells.classify.kept import Arrays, Kept
from dino4cells.classify.knn import nearest_neighbours, predict_by_neighbours
from dino4cells.classify.metrics import Scores, score
from dino4cells.classify.probe import linear_probe
from dino4cells.classify.splits import TRAINS, VALIDATES, Folds
from dino4cells.errors import DataError

Classifier = Literal["knn", "linear"]
ClassWeights = Literal["none", "balanced"]

SMALL = 5_000_000  # numbers; about 13,000 cells of 384 features
LEAST_LOG = -50.0
"""Logarithm of the probability that a classifier gives a class that its cells lack."""


@dataclass(frozen=True)
class CrossValidation:
    """What one classifier made of one set of features.

    Attributes:
        classifier: "knn" or "linear".
        neighbours: k of the k-NN (meaningless for the linear probe).
        classes: Classes that were judged, sorted.
        labels: (N,) str, the truth.
        predictions: (N,) str, out of fold; "" for cells that `Folds` left out.
        fold_scores: Scores of each fold.
        pooled: Scores of all judged cells together, the numbers to quote.
        probabilities: (N, K) calibrated probabilities of the linear probe, out of fold; NaN for cells that were not judged; None where
            they were not asked for, or no cells are there to calibrate on.
        calibration: what calibration did to them.
    """

    classifier: Classifier
    neighbours: int
    classes: tuple[str, ...]
    labels: np.ndarray
    predictions: np.ndarray
    fold_scores: tuple[Scores, ...]
    pooled: Scores
    probabilities: np.ndarray | None = None
    calibration: Calibration | None = None

    @property
    def name(self) -> str:
        """How tables and figures call the classifier."""
        return f"{self.neighbours}-NN (cosine)" if self.classifier == "knn" else "linear probe"


def fit_classifier(
    features: np.ndarray,
    labels: np.ndarray,
    classifier: Classifier,
    neighbours: int = 10,
    standardize: bool = False,
    class_weights: ClassWeights = "none",
) -> Pipeline:
    """Fit a classifier on all given cells, for keeping.

    Args:
        features: (N, D) float.
        labels: (N,) str.
        classifier: "knn" (cosine, majority vote) or "linear".
        neighbours: k of the k-NN; at most N are used.
        standardize: bring features of different units to one scale for the k-NN (the linear probe always does).
        class_weights: of the linear probe, as in `linear_probe`.

    Returns:
        A scikit-learn pipeline whose `predict` takes raw features (M, D).

    Raises:
        DataError: The shapes disagree or a feature is not finite.
    """
    rows = _checked(features, labels)
    if classifier == "knn":
        model = nearest_neighbours(min(neighbours, len(rows)), standardize=standardize)
    else:
        model, rows = linear_probe(class_weights=class_weights), rows.astype(np.float64, copy=False)
    with _threads_for(rows):
        return model.fit(rows, np.asarray(labels, dtype=np.str_))


def cross_validate(
    features: np.ndarray,
    labels: np.ndarray,
    folds: Folds,
    classifier: Classifier,
    neighbours: int = 10,
    standardize: bool = False,
    class_weights: ClassWeights = "none",
    probabilities: bool = False,
    kept: Kept | None = None,
) -> CrossValidation:
    """Judge features with one classifier on the given folds. Nothing here is random: the seed is in the folds.

    Args:
        features: (N, D) float.
        labels: (N,) str.
        folds: Split of the N cells; pass the same one for everything that is compared.
        classifier: "knn" (cosine, majority vote) or "linear".
        neighbours: k of the k-NN; fewer if a training fold has fewer cells.
        standardize: as in `fit_classifier`; the scale is that of the training fold.
        class_weights: as in `fit_classifier`.
        probabilities: also give the linear probe's, calibrated on cells that are not those of their fold.
        kept: folds that an interrupted run has judged already; nothing is kept when None.

    Raises:
        DataError: The shapes disagree or a feature is not finite.

    Example:
        >>> from dino4cells.classify import make_folds
        >>> names = np.asarray(["round", "long"] * 20)
        >>> features = np.where(names[:, None] == "round", [1.0, 0.1], [0.1, 1.0])
        >>> cross_validate(features, names, make_folds(names), "knn").pooled.accuracy
        1.0
    """
    rows = _checked(features, labels)
    if len(folds.assignment) != len(rows):
        raise DataError(
            f"The folds split {len(folds.assignment)} cells, but there are features of {len(rows)}: make the folds from the same cells."
        )
    names = np.asarray(labels, dtype=np.str_)
    classes = tuple(str(name) for name in np.unique(names[folds.kept]))
    judge, kept = _Judge(rows, names, classifier, neighbours, standardize, class_weights), kept or Kept()
    predictions = np.zeros_like(names)
    logits_NK = np.full((len(names), len(classes)), np.nan, np.float32) if probabilities and classifier == "linear" else None
    with _threads_for(rows):
        asked = classes if logits_NK is not None else None
        for number, (train, test) in enumerate(folds):
            found = kept.arrays(f"fold-{number}", partial(judge.fold, train, test, asked))
            predictions[test] = found["predictions"]
            if logits_NK is not None:
                logits_NK[test] = found["logits"]
        validation = np.flatnonzero(folds.assignment == VALIDATES)
        if logits_NK is not None and len(validation):
            found = kept.arrays("validation", partial(judge.fold, np.flatnonzero(folds.assignment == TRAINS), validation, classes))
            logits_NK[validation] = found["logits"]
    calibrated, calibration = _calibrated(logits_NK, names, classes, folds) if logits_NK is not None else (None, None)
    return CrossValidation(
        classifier=classifier,
        neighbours=neighbours,
        classes=classes,
        labels=names,
        predictions=predictions,
        fold_scores=tuple(score(names[test], predictions[test], classes) for _, test in folds),
        pooled=score(names[folds.judged], predictions[folds.judged], classes),
        probabilities=calibrated,
        calibration=calibration,
    )


@dataclass(frozen=True)
class _Judge:
    """Cells, and the classifier that is fitted on some of them."""

    rows_ND: np.ndarray
    names_N: np.ndarray
    classifier: Classifier
    neighbours: int
    standardize: bool
    class_weights: ClassWeights

    def fitted(self, train: np.ndarray) -> Pipeline:
        """The linear probe that `fit_classifier` gives."""
        return fit_classifier(self.rows_ND[train], self.names_N[train], "linear", class_weights=self.class_weights)

    def fold(self, train: np.ndarray, test: np.ndarray, classes: tuple[str, ...] | None) -> Arrays:
        """`predictions` for the cells of a fold, and `logits` where the classes are given."""
        predictions, fitted = self.predicted(train, test)
        if classes is None or fitted is None:
            return {"predictions": predictions}
        return {"predictions": predictions, "logits": _log_probabilities(fitted, self.rows_ND[test], classes)}

    def predicted(self, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, Pipeline | None]:
        """What the classifier that `fit_classifier` gives predicts; neighbours are found by a search of our own, which scales."""
        known, labels, cells = self.rows_ND[train], self.names_N[train], self.rows_ND[test]
        if self.classifier == "linear":
            model = self.fitted(train)
            return np.asarray(model.predict(cells)), model
        if self.standardize:
            scaler = StandardScaler().fit(known)
            known, cells = scaler.transform(known), scaler.transform(cells)
        return predict_by_neighbours(known, labels, cells, self.neighbours), None


def _log_probabilities(model: Pipeline, cells: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """(M, K), which are logits as good as any: they differ by a number a cell."""
    found = np.full((len(cells), len(classes)), LEAST_LOG, np.float32)
    found[:, np.searchsorted(classes, model.classes_)] = np.maximum(model.predict_log_proba(cells), LEAST_LOG)
    return found


def _calibrated(
    logits_NK: np.ndarray, names: np.ndarray, classes: tuple[str, ...], folds: Folds
) -> tuple[np.ndarray | None, Calibration | None]:
    """Probabilities whose temperature comes from other cells: of the other folds, or of those of a given split that validate.

    The temperature that is told, and kept with the classifier, is that of all of these cells.
    """
    targets_NK = (names[:, None] == np.asarray(classes)).astype(np.float32)
    outside = np.flatnonzero(folds.assignment == VALIDATES) if folds.given is not None else folds.judged
    if not len(outside):
        return None, None
    probabilities_NK = np.full_like(logits_NK, np.nan)
    for others, test in _with_others(folds, outside):
        temperatures = fit_temperatures(logits_NK[others], targets_NK[others], several=False)
        probabilities_NK[test] = probabilities_of(logits_NK[test], temperatures, several=False)
    kept = fit_temperatures(logits_NK[outside], targets_NK[outside], several=False)
    judged = folds.judged
    before_MK = probabilities_of(logits_NK[judged], (1.0,), several=False)
    calibration = Calibration.of(kept, before_MK, probabilities_NK[judged], targets_NK[judged], several=False)
    return probabilities_NK, calibration


def _with_others(folds: Folds, outside: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For the cells of each fold, those that their temperature is fitted on."""
    for fold in range(folds.count):
        test = np.flatnonzero(folds.assignment == fold)
        yield (outside if folds.given is not None else folds.judged[folds.assignment[folds.judged] != fold]), test


def _threads_for(rows: np.ndarray) -> threadpool_limits:
    """One thread for small features: in thousands of small products threads only wait for each other (on a busy machine 40 s for 1 s)."""
    return threadpool_limits(limits=1 if rows.size < SMALL else None)


def _checked(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The features as (N, D) float32 or float64."""
    rows = np.asarray(features)
    rows = rows if rows.dtype == np.float32 else rows.astype(np.float64, copy=False)
    if rows.ndim != 2 or len(rows) != len(labels):
        raise DataError(f"Features of shape {rows.shape} do not fit {len(labels)} labels: give one row of numbers for each cell.")
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        raise DataError(
            f"The features of {len(broken)} of {len(rows)} cells are not finite (the first is row {broken[0] + 1}): "
            "leave failed cells out, or look for NaN in the images or the model."
        )
    return rows
