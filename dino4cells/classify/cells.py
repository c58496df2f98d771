"""The cells that a classifier learns from and is judged on: rows of features, or rows of a table of images.

Dimensions: N cells, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dino4cells.classify.feature_kind import FeatureKind
from dino4cells.classify.id_files import ID
from dino4cells.classify.texts import texts_of
from dino4cells.config import Config
from dino4cells.data.layout import Layout
from dino4cells.data.metadata import Metadata, image_cache, missing_column, read_metadata
from dino4cells.errors import DataError
from dino4cells.features.store import read_features

Rows = NDArray[np.int64]


AnyCells = TypeVar("AnyCells", bound="Cells")


class Cells(Protocol):
    """Rows of a table that can be taken apart."""

    @property
    def frame(self) -> pd.DataFrame:
        """What the table says about each cell."""

    @property
    def source(self) -> str:
        """URL of the table, for messages."""

    def __len__(self) -> int: ...

    def take(self: AnyCells, rows: Rows) -> AnyCells:
        """These rows, in their order."""


@dataclass(frozen=True)
class FeatureCells:
    """Cells whose features are known.

    Attributes:
        values_ND: float32.
        model_fingerprint: of the model that the features come from; empty where nobody knows.
        kind: what they are; None where cells were made up.
    """

    frame: pd.DataFrame
    values_ND: NDArray[np.float32]
    source: str
    model_fingerprint: str
    kind: FeatureKind | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: Rows) -> FeatureCells:
        """These rows, in their order."""
        return replace(self, frame=self.frame.iloc[rows].reset_index(drop=True), values_ND=self.values_ND[rows])

    def averaged(self) -> FeatureCells:
        """One row for each ID: the mean of its cells' features, and what the table says about its first cell.

        Raises:
            DataError: there is no column of IDs.
        """
        groups_N, names = pd.factorize(ids_of(self, "the field of view whose cells are averaged"))
        by_group = np.argsort(groups_N, kind="stable")
        first = np.searchsorted(groups_N[by_group], np.arange(len(names)))
        means = np.add.reduceat(self.values_ND[by_group].astype(np.float64), first) / np.bincount(groups_N)[:, None]
        return replace(self.take(by_group[first]), values_ND=means.astype(np.float32))


@dataclass(frozen=True)
class ImageCells:
    """Cells whose images are read."""

    metadata: Metadata

    def __len__(self) -> int:
        return len(self.metadata)

    @property
    def frame(self) -> pd.DataFrame:
        """The table's columns."""
        return self.metadata.frame

    @property
    def source(self) -> str:
        """URL of the CSV."""
        return self.metadata.source

    def take(self, rows: Rows) -> ImageCells:
        """These rows, in their order."""
        return ImageCells(replace(self.metadata, frame=self.frame.iloc[rows].reset_index(drop=True)))


def read_feature_cells(url: str, config: Config) -> FeatureCells:
    """The cells of a features artifact or of a published file of features, without those whose image could not be read.

    Raises:
        ArtifactError: there is none, or it cannot be read.
        DataError: no cell has features.
    """
    features = read_features(url, config)
    cells = FeatureCells(features.metadata, features.dino, url, features.card.model_fingerprint, FeatureKind.of(features.card))
    readable_N = np.isfinite(cells.values_ND).all(axis=1)
    if not readable_N.any():
        raise DataError(f"{url}: no cell has features{features.first_failure}; mend the images and extract again.")
    cells = cells if readable_N.all() else cells.take(np.flatnonzero(readable_N))
    return cells.averaged() if config.classification.whole_images else cells


def read_image_cells(url: str, config: Config) -> ImageCells:
    """The cells of a CSV, or of a directory that holds a `metadata.csv`."""
    root = config.model.root if url.lower().endswith(".csv") else None
    return ImageCells(read_metadata(url, root, Layout.of(config.model), image_cache(config.model)))


def ids_of(cells: Cells, purpose: str) -> NDArray[np.object_]:
    """(N,) the ID of every cell as text.

    Raises:
        DataError: there is no such column.
    """
    if ID not in cells.frame:
        raise missing_column(cells.source, ID, purpose, list(cells.frame.columns))
    return texts_of(cells.frame[ID])


def check_same_features(tables: Sequence[FeatureCells]) -> None:
    """Refuse features that cannot be compared: of another model, or of another number.

    Raises:
        DataError: names both tables.
    """
    first = tables[0]
    for other in tables[1:]:
        if other.values_ND.shape[1] != first.values_ND.shape[1]:
            raise DataError(
                f"{other.source}: has {other.values_ND.shape[1]} features a cell and {first.source} has {first.values_ND.shape[1]}; "
                "extract both with one model."
            )
        both = other.model_fingerprint and first.model_fingerprint
        if both and other.model_fingerprint != first.model_fingerprint:
            raise DataError(
                f"{other.source}: its features come from another model ({other.model_fingerprint[:12]}) than those of {first.source} "
                f"({first.model_fingerprint[:12]}); extract both with one model."
            )
