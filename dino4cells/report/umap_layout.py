"""UMAP (McInnes et al. 2018) on neighbours that are known: its graph by array operations, its layout by umap-learn.

umap-learn compiles both, and the graph's part takes longer than laying out a few thousand cells. A test holds this one to its graph.

Dimensions: P cells, K neighbours.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

STEPS = 64  # of the bisection, as umap-learn's
NARROWEST = 1e-3  # width of a cell's neighbourhood, of the mean distance
MIN_DISTANCE = 0.1
NEGATIVES = 5


def fuzzy_graph(places_PK: np.ndarray, distances_PK: np.ndarray) -> csr_matrix:
    """(P, P) symmetric, how surely two cells are neighbours, 0 to 1 (section 3.1 of the paper: the fuzzy union of local neighbourhoods).

    Args:
        places_PK: the K nearest of each cell, nearest first, itself among them.
        distances_PK: how far they are, in rising order.
    """
    distances = distances_PK.astype(np.float64)
    known = np.where(distances > 0, distances, np.inf).min(axis=1)
    nearest_P = np.where(np.isfinite(known), known, 0.0)
    beyond_PK = (distances - nearest_P[:, None]).clip(0)
    low, width, high = np.zeros(len(distances)), np.ones(len(distances)), np.full(len(distances), np.inf)
    for _ in range(STEPS):  # sum of exp(-beyond / width) over all but the cell itself = log2(K)
        wide = np.exp(-beyond_PK[:, 1:] / width[:, None]).sum(axis=1) > np.log2(distances.shape[1])
        high, low = np.where(wide, width, high), np.where(wide, low, width)
        width = np.where(np.isinf(high), 2 * width, (low + high) / 2)
    least = NARROWEST * np.where(nearest_P > 0, distances.mean(axis=1), distances.mean())
    width = np.maximum(width, least)
    weights = np.exp(-beyond_PK / np.where(width > 0, width, 1)[:, None])
    cells = np.arange(len(distances)).repeat(distances.shape[1])
    weights[places_PK == np.arange(len(distances))[:, None]] = 0
    local = csr_matrix((weights.ravel().astype(np.float32), (cells, places_PK.ravel())), shape=(len(distances),) * 2)
    local.eliminate_zeros()
    turned = local.T.tocsr()
    return csr_matrix(local + turned - local.multiply(turned))


def umap_layout(units_PD: np.ndarray, places_PK: np.ndarray, distances_PK: np.ndarray, seed: int) -> np.ndarray:
    """(P, 2) positions.

    Args:
        units_PD: the features, of length 1.
        places_PK: as in `fuzzy_graph`.
        distances_PK: as in `fuzzy_graph`.
        seed: of the layout, which is the same every time.

    Raises:
        ImportError: umap-learn is not installed.
    """
    from umap import umap_

    a, b = umap_.find_ab_params(1.0, MIN_DISTANCE)
    with warnings.catch_warnings():
        # Identical features (an untrained or collapsed network) disconnect the graph; the picture shows that by itself.
        warnings.filterwarnings("ignore", message="Graph is not fully connected", category=UserWarning)
        xy, _ = umap_.simplicial_set_embedding(
            data=units_PD, graph=coo_matrix(fuzzy_graph(places_PK, distances_PK)), n_components=2, initial_alpha=1.0, a=a, b=b, gamma=1.0,
            negative_sample_rate=NEGATIVES, n_epochs=None, init="spectral", random_state=np.random.RandomState(seed), metric="euclidean",
            metric_kwds={}, densmap=False, densmap_kwds={}, output_dens=False,
        )  # fmt: skip
    return np.asarray(xy, dtype=np.float64)
