"""Cross-validation: every cell is predicted once, by a classifier that was fitted without its fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from dino4cells.classify.knn import nearest_neighbours, predict_by_neighbours
from dino4cells.classify.metrics import Scores, score
from dino4cells.classify.probe import linear_probe
from dino4cells.classify.splits import Folds
from dino4cells.errors import DataError

Classifier = Literal["knn", "linear"]

SMALL = 5_000_000  # numbers; about 13,000 cells of 384 features


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
    """

    classifier: Classifier
    neighbours: int
    classes: tuple[str, ...]
    labels: np.ndarray
    predictions: np.ndarray
    fold_scores: tuple[Scores, ...]
    pooled: Scores

    @property
    def name(self) -> str:
        """How tables and figures call the classifier."""
        return f"{self.neighbours}-NN (cosine)" if self.classifier == "knn" else "linear probe"


def fit_classifier(
    features: np.ndarray, labels: np.ndarray, classifier: Classifier, neighbours: int = 10, standardize: bool = False
) -> Pipeline:
    """Fit a classifier on all given cells, for keeping.

    Args:
        features: (N, D) float.
        labels: (N,) str.
        classifier: "knn" (cosine, majority vote) or "linear".
        neighbours: k of the k-NN; at most N are used.
        standardize: bring features of different units to one scale for the k-NN (the linear probe always does).

    Returns:
        A scikit-learn pipeline whose `predict` takes raw features (M, D).

    Raises:
        DataError: The shapes disagree or a feature is not finite.
    """
    rows = _checked(features, labels)
    if classifier == "knn":
        model = nearest_neighbours(min(neighbours, len(rows)), standardize=standardize)
    else:
        model, rows = linear_probe(), rows.astype(np.float64, copy=False)
    with _threads_for(rows):
        return model.fit(rows, np.asarray(labels, dtype=np.str_))


def cross_validate(
    features: np.ndarray, labels: np.ndarray, folds: Folds, classifier: Classifier, neighbours: int = 10, standardize: bool = False
) -> CrossValidation:
    """Judge features with one classifier on the given folds. Nothing here is random: the seed is in the folds.

    Args:
        features: (N, D) float.
        labels: (N,) str.
        folds: Split of the N cells; pass the same one for everything that is compared.
        classifier: "knn" (cosine, majority vote) or "linear".
        neighbours: k of the k-NN; fewer if a training fold has fewer cells.
        standardize: as in `fit_classifier`; the scale is that of the training fold.

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
    classes = tuple(str(name) for name in np.unique(names[folds.judged]))
    predictions = np.zeros_like(names)
    with _threads_for(rows):
        for train, test in folds:
            predictions[test] = _predicted(rows[train], names[train], rows[test], classifier, neighbours, standardize)
    return CrossValidation(
        classifier=classifier,
        neighbours=neighbours,
        classes=classes,
        labels=names,
        predictions=predictions,
        fold_scores=tuple(score(names[test], predictions[test], classes) for _, test in folds),
        pooled=score(names[folds.judged], predictions[folds.judged], classes),
    )


def _predicted(
    known: np.ndarray, labels: np.ndarray, cells: np.ndarray, classifier: Classifier, neighbours: int, standardize: bool
) -> np.ndarray:
    """What the classifier that `fit_classifier` gives predicts; neighbours are found by a search of our own, which scales."""
    if classifier == "linear":
        return np.asarray(fit_classifier(known, labels, classifier).predict(cells))
    if standardize:
        scaler = StandardScaler().fit(known)
        known, cells = scaler.transform(known), scaler.transform(cells)
    return predict_by_neighbours(known, labels, cells, neighbours)


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
