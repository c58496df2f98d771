"""The feature space in two dimensions: UMAP, the same every time for the same features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from dino4cells.classify.neighbours import nearest

NEIGHBOURS = 15
MOST_CELLS = 100_000
LAID_OUT = 4000  # from 4096 on UMAP searches neighbours approximately, whose compilation takes longer than all the rest
ANCHORS = 5
SHARPNESS = 0.02  # of the weights of a placed cell's anchors, in cosine


@dataclass(frozen=True)
class FeatureMap:
    """A picture of the feature space in two dimensions.

    Attributes:
        xy: (M, 2) float, positions.
        rows: (M,) int, which of the N cells were drawn.
        method: "UMAP" or "PCA".
        note: A sentence for the caption if something is other than usual, or "".
    """

    xy: np.ndarray
    rows: np.ndarray
    method: str
    note: str = ""


def project(features: np.ndarray, labels: np.ndarray, *, limit: int = MOST_CELLS, seed: int = 0) -> FeatureMap:
    """Lay cells out in a plane so that neighbours by cosine, as the k-NN classifier sees them, stay neighbours.

    UMAP (McInnes et al. 2018) where umap-learn is installed and there are cells enough for its graph; else the first two principal
    components, with a note that says so. UMAP lays out 4,000 cells at most, and the others go among those that they resemble most.

    Args:
        features: (N, D) float, finite, N >= 1.
        labels: (N,) str; with more than `limit` cells a sample with the same class proportions, at least one of each class, is drawn.
        limit: Largest number of cells drawn.
        seed: Seed of the sample and of UMAP.
    """
    rows = stratified_sample(np.asarray(labels), limit, np.random.default_rng(seed))
    drawn = normalize(np.asarray(features[rows], dtype=np.float32), copy=False)
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
        laid_out = stratified_sample(np.asarray(labels)[rows], LAID_OUT, np.random.default_rng(seed))
        xy = np.asarray(reducer.fit_transform(drawn[laid_out]), dtype=np.float64)
    if len(laid_out) < len(rows):
        xy = _placed(drawn, laid_out, xy)
        note = f"UMAP laid out {len(laid_out):,} of them, and the others are placed among those that they resemble most. {note}".strip()
    return FeatureMap(xy, rows, "UMAP", note)


def _placed(drawn: np.ndarray, laid_out: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """(M, 2) positions of all cells: those that were laid out stay, the others lie between the five nearest of them, by resemblance."""
    everywhere = np.empty((len(drawn), 2))
    others = np.setdiff1d(np.arange(len(drawn)), laid_out)
    found, similarities = nearest(drawn[others], drawn[laid_out], ANCHORS)
    weights = np.exp((similarities - similarities[:, :1]) / SHARPNESS)
    everywhere[laid_out] = xy
    everywhere[others] = (xy[found] * weights[:, :, None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)
    return everywhere


def _principal_components(rows: np.ndarray) -> np.ndarray:
    """(N, 2), padded with zeros where there are fewer than two dimensions or cells."""
    count = min(2, *rows.shape)
    xy = np.zeros((len(rows), 2))
    solver = "covariance_eigh" if len(rows) > rows.shape[1] else "full"
    xy[:, :count] = PCA(count, svd_solver=solver).fit_transform(rows) if len(rows) > 1 else 0.0
    return xy


def stratified_sample(labels: np.ndarray, limit: int, random: np.random.Generator) -> np.ndarray:
    """Sorted rows, `limit` of them or slightly more or fewer through rounding by class."""
    if len(labels) <= limit:
        return np.arange(len(labels))
    chosen = []
    for name in np.unique(labels):
        members = np.flatnonzero(labels == name)
        chosen.append(random.choice(members, size=max(1, round(limit * len(members) / len(labels))), replace=False))
    return np.sort(np.concatenate(chosen))
