"""Cosine k-nearest neighbours: a judge with nothing to tune, which sees only what the features say."""

from __future__ import annotations

from functools import partial

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler


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


def similarity_votes(distances: np.ndarray, temperature: float) -> np.ndarray:
    """Votes exp(cos / T) of neighbours, up to a factor that is the same for all.

    Args:
        distances: (N, k) Euclidean distances between rows of length 1.
        temperature: T; the smaller, the more the closest neighbour decides.
    """
    # The factor exp(-1 / T) keeps the votes in (0, 1] for any temperature.
    return np.asarray(np.exp(-(distances**2) / (2.0 * temperature)))
