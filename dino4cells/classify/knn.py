"""Cosine k-nearest neighbours: a judge with nothing to tune, which sees only what the features say.

`predict_by_neighbours` judges any number of cells; `nearest_neighbours` is the same classifier as a scikit-learn pipeline, to keep.

Dimensions: N cells to predict, M cells with a known class, D features, k neighbours, K classes.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from dino4cells.classify.neighbours import nearest

VOTES_AT_ONCE = 1_000_000  # numbers


def nearest_neighbours(neighbours: int = 10, temperature: float | None = None, standardize: bool = False) -> Pipeline:
    """An unfitted k-NN classifier on cosine similarity.

    On rows of length 1, ||a - b||² = 2 - 2 cos(a, b): Euclidean neighbours are the cosine neighbours, found by exact search.

    Args:
        neighbours: Number k of neighbours that vote.
        temperature: None for one vote each, or T for DINO's votes exp(cos / T) (Wu et al. 2018; Caron et al. 2021 use T = 0.07).
        standardize: Bring every feature to mean 0 and deviation 1 first, for features of different units.
    """
    weights = "uniform" if temperature is None else partial(similarity_votes, temperature=temperature)
    scaling = [StandardScaler()] if standardize else []
    return make_pipeline(*scaling, Normalizer(), KNeighborsClassifier(neighbours, weights=weights, algorithm="brute"))


def predict_by_neighbours(
    known_MD: np.ndarray, labels_M: np.ndarray, cells_ND: np.ndarray, neighbours: int = 10, temperature: float | None = None
) -> np.ndarray:
    """What `nearest_neighbours` predicts when fitted on the known cells, in little more time than the similarities take.

    Args:
        known_MD: (M, D) float.
        labels_M: (M,) their classes.
        cells_ND: (N, D) float.
        neighbours: number k of neighbours that vote; at most M do.
        temperature: as in `nearest_neighbours`.

    Returns:
        (N,) the class with most votes; of several, the first in sorted order.
    """
    classes_K, class_M = np.unique(labels_M, return_inverse=True)
    rows_Nk, similarities_Nk = nearest(cells_ND, known_MD, min(neighbours, len(known_MD)))
    votes_Nk = np.ones_like(similarities_Nk) if temperature is None else np.exp((similarities_Nk - 1) / temperature)
    predicted_N = np.empty(len(cells_ND), np.int64)
    at_once = max(1, VOTES_AT_ONCE // len(classes_K))
    for start in range(0, len(cells_ND), at_once):
        part = slice(start, start + at_once)
        place_Xk = class_M[rows_Nk[part]] + np.arange(len(rows_Nk[part]))[:, None] * len(classes_K)
        votes_XK = np.bincount(place_Xk.ravel(), votes_Nk[part].ravel(), len(place_Xk) * len(classes_K)).reshape(-1, len(classes_K))
        predicted_N[part] = votes_XK.argmax(axis=1)
    return np.asarray(classes_K[predicted_N])


def similarity_votes(distances: np.ndarray, temperature: float) -> np.ndarray:
    """Votes exp(cos / T) of neighbours, up to a factor that is the same for all.

    Args:
        distances: (N, k) Euclidean distances between rows of length 1.
        temperature: T; the smaller, the more the closest neighbour decides.
    """
    # The factor exp(-1 / T) keeps the votes in (0, 1] for any temperature.
    return np.asarray(np.exp(-(distances**2) / (2.0 * temperature)))
