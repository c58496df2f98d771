"""The map of the features with all that is told about a cell on it: its table, its cluster, its picture, its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans, MiniBatchKMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from dino4cells.report.pictures import CellPictures, Portraits
from dino4cells.report.projection import MOST_CELLS, FeatureMap, Nearest, lay_out, stratified_sample

NEIGHBOURS = 10
CLUSTERS = (2, 20)
MANY_CELLS = 20_000  # clustered in batches
LEFT_OUT = ("dino_model", "dino_error")


@dataclass(frozen=True)
class Neighbours:
    """The nearest of some cells of a map to each cell of it, by cosine.

    Attributes:
        places: (M, K) int, cells of the map, nearest first, never the cell itself.
        distances: (M, K) float, 1 less the cosine: 0 to 2.
        among: number of cells that were searched.
    """

    places: np.ndarray
    distances: np.ndarray
    among: int


@dataclass(frozen=True)
class CellMap:
    """M cells on a map, in the order in which they are drawn: shuffled, so that no class hides another.

    Attributes:
        plane: where each is.
        frame: (M rows) what the table says about each, the cluster in the last column.
        colour_by: column that the map is coloured by at first.
        neighbours: of each, or None where the map has a single cell.
        portraits: pictures of them, or of some; None without images.
    """

    plane: FeatureMap
    frame: pd.DataFrame
    colour_by: str
    neighbours: Neighbours | None
    portraits: Portraits | None


def map_cells(
    features: np.ndarray,
    frame: pd.DataFrame,
    labels: np.ndarray,
    colour_by: str | None = None,
    *,
    rows: np.ndarray | None = None,
    pictures: CellPictures | None = None,
) -> CellMap:
    """Lay out cells, and find clusters and neighbours in the space of all features.

    Args:
        features: (N, D) float, finite, N >= 1.
        frame: (N rows) what is known about each cell.
        labels: (N,) str; samples keep their proportions, and there are as many clusters as different ones, 2 to 20.
        colour_by: column that the map is coloured by at first; the clusters when None.
        rows: (N,) rows of the table of images; 0 … N − 1 when None.
        pictures: the images, or None.
    """
    random = np.random.default_rng(0)
    layout = lay_out(features, labels, random.permutation(stratified_sample(np.asarray(labels), MOST_CELLS, random)))
    plane = layout.plane
    near: Nearest | None = layout.near
    name, clusters = _clusters(layout.units_MD, labels)
    shown = frame.iloc[plane.rows].reset_index(drop=True).drop(columns=[name for name in LEFT_OUT if name in frame])
    shown[name] = clusters
    portraits = None
    if pictures is not None:
        some = layout.near.some
        portraits = pictures.portraits(plane.rows[some] if rows is None else rows[plane.rows[some]], some)
        if len(portraits.places) < len(some):  # every neighbour has a picture
            near = Nearest.among(portraits.places, layout.units_MD) if len(portraits.places) else None
    return CellMap(plane, shown, colour_by or name, _neighbours(near), portraits)


def _clusters(drawn: np.ndarray, labels: np.ndarray) -> tuple[str, list[str]]:
    """What the clusters are called, and of each cell its own: k-means of features of length 1, the largest cluster first."""
    count = int(np.clip(len(np.unique(labels)), *CLUSTERS))
    count = min(count, len(np.unique(drawn, axis=0)) if len(drawn) <= 10 * CLUSTERS[1] else count)
    kind = KMeans if len(drawn) <= MANY_CELLS else MiniBatchKMeans
    with threadpool_limits(limits=1):  # the order of sums, and so the result, is the same on every machine
        codes = kind(count, n_init=3, random_state=0).fit_predict(drawn)
    place = np.empty(count, np.int64)
    place[np.argsort(-np.bincount(codes, minlength=count), kind="stable")] = np.arange(count)
    return f"cluster of features ({count}-means)", [f"cluster {number + 1}" for number in place[codes]]


def _neighbours(near: Nearest | None) -> Neighbours | None:
    if near is None or near.places.shape[1] < 2:
        return None
    count = min(NEIGHBOURS, near.places.shape[1] - 1)
    places, similarities = near.places[:, : count + 1], near.similarities[:, : count + 1]
    # A cell is no neighbour of itself: where it is among the found it goes, else the last one goes.
    itself = places == np.arange(len(places))[:, None]
    itself[~itself.any(axis=1), -1] = True
    kept = ~itself
    return Neighbours(places[kept].reshape(-1, count), (1 - similarities[kept].reshape(-1, count)).clip(0, 2), len(near.some))
