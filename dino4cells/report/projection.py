"""The feature space in two dimensions: UMAP, the same every time for the same features."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from dino4cells.report.data import FeatureMap

NEIGHBOURS = 15
MOST_CELLS = 4000  # from 4096 on UMAP searches neighbours approximately, whose compilation takes longer than all the rest


def project(features: np.ndarray, labels: np.ndarray, *, limit: int = MOST_CELLS, seed: int = 0) -> FeatureMap:
    """Lay cells out in a plane so that neighbours by cosine, as the k-NN classifier sees them, stay neighbours.

    UMAP (McInnes et al. 2018) where umap-learn is installed and there are cells enough for its graph; else the first two principal
    components, with a note that says so.

    Args:
        features: (N, D) float, finite, N >= 1.
        labels: (N,) str; with more than `limit` cells a sample with the same class proportions, at least one of each class, is drawn.
        limit: Largest number of cells drawn.
        seed: Seed of the sample and of UMAP.
    """
    rows = _stratified_sample(np.asarray(labels), limit, np.random.default_rng(seed))
    drawn = normalize(np.asarray(features, dtype=np.float64)[rows])
    proportions = ", in the proportions of the classes" if len(np.unique(labels)) > 1 else ""
    note = "" if len(rows) == len(features) else f"A sample of {len(rows):,} of {len(features):,} cells{proportions}."
    if len(rows) <= NEIGHBOURS + 1:
        few = "1 cell is" if len(rows) == 1 else f"{len(rows)} cells are"
        reason = f"{few} too few for UMAP, so this shows the first two principal components."
        return FeatureMap(_principal_components(drawn), rows, "PCA", f"{reason} {note}".strip())
    try:
        import umap
    except ImportError:
        reason = "umap-learn is not installed, so this shows the first two principal components (pip install umap-learn)."
        return FeatureMap(_principal_components(drawn), rows, "PCA", f"{reason} {note}".strip())
    with warnings.catch_warnings():
        # A fixed seed makes UMAP work on one thread, of which it warns; reproducibility is what we want.
        warnings.filterwarnings("ignore", message="n_jobs value", category=UserWarning)
        # Identical features (an untrained or collapsed network) disconnect the graph; the picture shows that by itself.
        warnings.filterwarnings("ignore", message="Graph is not fully connected", category=UserWarning)
        reducer = umap.UMAP(n_neighbors=NEIGHBOURS, min_dist=0.1, random_state=seed, n_jobs=1)
        return FeatureMap(np.asarray(reducer.fit_transform(drawn), dtype=np.float64), rows, "UMAP", note)


def _principal_components(rows: np.ndarray) -> np.ndarray:
    """(N, 2), padded with zeros where there are fewer than two dimensions or cells."""
    count = min(2, *rows.shape)
    xy = np.zeros((len(rows), 2))
    xy[:, :count] = PCA(count, svd_solver="full").fit_transform(rows) if len(rows) > 1 else 0.0
    return xy


def _stratified_sample(labels: np.ndarray, limit: int, random: np.random.Generator) -> np.ndarray:
    """Sorted rows, `limit` of them or slightly more or fewer through rounding by class."""
    if len(labels) <= limit:
        return np.arange(len(labels))
    chosen = []
    for name in np.unique(labels):
        members = np.flatnonzero(labels == name)
        chosen.append(random.choice(members, size=max(1, round(limit * len(members) / len(labels))), replace=False))
    return np.sort(np.concatenate(chosen))
