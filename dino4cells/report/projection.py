"""The feature space in two dimensions: UMAP, the same every time for the same features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from dino4cells.classify.neighbours import nearest
from dino4cells.report.umap_layout import umap_layout

NEIGHBOURS = 15
MOST_CELLS = 100_000
LAID_OUT = 5000
"""Cells that UMAP lays out itself, which takes seconds; of more it takes minutes."""
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


@dataclass(frozen=True)
class Nearest:
    """The nearest of some of M cells to each of the M, by cosine.

    Attributes:
        some: (P,) int, the cells that were searched, in rising order.
        places: (M, K) int, cells, nearest first, the cell itself among them where it was searched; K is 15 or P.
        similarities: (M, K) float, -1 to 1.
    """

    some: np.ndarray
    places: np.ndarray
    similarities: np.ndarray

    @classmethod
    def among(cls, some: np.ndarray, units_MD: np.ndarray, count: int = NEIGHBOURS) -> Nearest:
        """Search among `some` of M rows of length 1."""
        found, similarities = nearest(units_MD, units_MD[some] if len(some) < len(units_MD) else units_MD, min(count, len(some)))
        return cls(some, some[found], similarities)


@dataclass(frozen=True)
class Layout:
    """Cells in a plane, and what was computed on the way.

    Attributes:
        plane: the map.
        units_MD: (M, D) float32, their features at length 1.
        near: the nearest of the cells that were laid out, of at most 5,000.
    """

    plane: FeatureMap
    units_MD: np.ndarray
    near: Nearest


def project(features: np.ndarray, labels: np.ndarray, *, limit: int = MOST_CELLS, seed: int = 0) -> FeatureMap:
    """The map of `lay_out` for all cells, or for a sample of `limit` cells with the same class proportions, at least one of each class.

    Args:
        features: (N, D) float, finite, N >= 1.
        labels: (N,) str.
        limit: Largest number of cells drawn.
        seed: Seed of the sample and of UMAP.
    """
    return lay_out(features, labels, stratified_sample(np.asarray(labels), limit, np.random.default_rng(seed)), seed=seed).plane


def lay_out(features: np.ndarray, labels: np.ndarray, rows: np.ndarray, *, seed: int = 0) -> Layout:
    """Lay cells out in a plane so that neighbours by cosine, as the k-NN classifier sees them, stay neighbours.

    UMAP (McInnes et al. 2018) where umap-learn is installed and there are cells enough for its graph; else the first two principal
    components, with a note that says so. UMAP lays out 5,000 cells at most, and the others go among those that they resemble most: one
    search of the nearest of those 5,000 gives UMAP its graph, the others their places, and whoever asks the neighbours of a cell.

    Args:
        features: (N, D) float, finite, N >= 1.
        labels: (N,) str, of which the 5,000 keep the proportions.
        rows: (M,) int, the cells, in any order.
        seed: Seed of the sample and of UMAP.
    """
    units = normalize(np.asarray(features[rows], dtype=np.float32), copy=False)
    near = Nearest.among(stratified_sample(np.asarray(labels)[rows], LAID_OUT, np.random.default_rng(seed)), units)
    proportions = ", in the proportions of the classes" if len(np.unique(labels)) > 1 else ""
    note = "" if len(rows) == len(features) else f"A sample of {len(rows):,} of {len(features):,} cells{proportions}."
    xy, reason = None, "umap-learn is not installed, so this shows the first two principal components (pip install umap-learn)."
    if len(rows) <= NEIGHBOURS + 1:
        few = "1 cell is" if len(rows) == 1 else f"{len(rows)} cells are"
        reason = f"{few} too few for UMAP, so this shows the first two principal components."
    else:
        xy = _umap(units, near, seed)
    if xy is None:
        return Layout(FeatureMap(_principal_components(units), rows, "PCA", f"{reason} {note}".strip()), units, near)
    if len(near.some) < len(rows):
        xy = _placed(near, xy)
        note = f"UMAP laid out {len(near.some):,} of them, and the others are placed among those that they resemble most. {note}".strip()
    return Layout(FeatureMap(xy, rows, "UMAP", note), units, near)


def _umap(units_MD: np.ndarray, near: Nearest, seed: int) -> np.ndarray | None:
    """(P, 2) positions of the cells of `near.some`; None where umap-learn is not installed."""
    found = np.searchsorted(near.some, near.places[near.some])
    # Of rows of length 1 the nearest by cosine are those by Euclidean distance.
    distances = np.sqrt((2 - 2 * near.similarities[near.some]).clip(0))
    try:
        return umap_layout(units_MD[near.some], found, distances, seed)
    except ImportError:
        return None


def _placed(near: Nearest, xy: np.ndarray) -> np.ndarray:
    """(M, 2) positions of all cells: those that were laid out stay, the others lie between the five nearest of them, by resemblance."""
    places, similarities = near.places[:, :ANCHORS], near.similarities[:, :ANCHORS]
    weights = np.exp((similarities - similarities[:, :1]) / SHARPNESS)
    anchors = xy[np.searchsorted(near.some, places)]
    everywhere = np.asarray((anchors * weights[:, :, None]).sum(axis=1) / weights.sum(axis=1, keepdims=True))
    everywhere[near.some] = xy
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
