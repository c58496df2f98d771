"""Predictions of cells whose class nobody knows: a row each, with probabilities, or the reason why there are none.

Dimensions: N cells, D features, K classes.
"""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from dino4cells.classify.cells import FeatureCells
from dino4cells.classify.feature_kind import FeatureKind
from dino4cells.classify.id_files import ID
from dino4cells.classify.saved import SavedClassifier
from dino4cells.errors import DataError
from dino4cells.features.card import ERROR as UNREAD
from dino4cells.features.card import MODEL
from dino4cells.features.table import Table

KIND = "predictions"
CARD, PREDICTIONS = "predictions.json", "predictions.parquet"
ERROR = "error"
"""Column of the reason why a row has no prediction."""
logger = logging.getLogger(__name__)


class PredictionsCard(BaseModel):
    """`predictions.json`: which classifier predicted which cells."""

    model_config = ConfigDict(protected_namespaces=())

    rows: int
    failed_rows: int = Field(description="Rows without a prediction; the column `error` says why.")
    classes: tuple[str, ...]
    counts: dict[str, int] = Field(description="How often each prediction was made.")
    classifier: str
    classifier_fingerprint: str
    source: str = Field(description="The features, or the table of the images.")
    versions: dict[str, str]


def of_features(saved: SavedClassifier, table: Table, source: str) -> pd.DataFrame:
    """What a classifier predicts from features, which are read in pieces and not kept.

    Args:
        saved: the classifier.
        table: the features.
        source: URL of them, for messages.

    Raises:
        DataError: they are not of the kind that it has learnt from.
    """
    check_kind(saved, FeatureKind.of(table.card), source)
    check_columns(table.metadata, source)
    frame = table.metadata.drop(columns=MODEL).rename(columns={UNREAD: ERROR})
    pieces = table.pieces()
    if saved.averaged:
        frame, values_ND = _averaged(frame, table.matrix(), source)
        pieces = iter([values_ND])
    predicted = pd.concat([saved.predicted(piece) for piece in pieces], ignore_index=True)
    joined = frame.join(predicted)
    ordered: pd.DataFrame = joined[[*(name for name in joined.columns if name != ERROR), ERROR]]
    return ordered


def check_kind(saved: SavedClassifier, kind: FeatureKind, source: str) -> None:
    """Refuse features that are not those that a classifier has learnt from; warn where nobody can tell.

    Args:
        saved: the classifier.
        kind: of the features.
        source: their URL, for messages.

    Raises:
        DataError: what differs.
    """
    saved.taken.check(kind, source, saved.url)
    if saved.has_network and kind.model_fingerprint != saved.taken.model_fingerprint:
        raise DataError(
            f"{source}: does not say that its features come from the network in {saved.url}, which takes no others; extract them by "
            f"dino4cells extract --model {saved.url}, or give the images by --data."
        )
    for url, one in ((source, kind), (saved.url, saved.taken)):
        if not one.described:
            logger.warning(
                "%s: does not say how its features were made or normalized, so that nobody can tell whether they are of one kind.", url
            )


def _averaged(frame: pd.DataFrame, values_ND: np.ndarray, source: str) -> tuple[pd.DataFrame, np.ndarray]:
    """A row for each ID: the mean of its cells that have features, or the first cell's reason where none has."""
    readable_N = np.isfinite(values_ND).all(axis=1)
    cells = FeatureCells(frame, values_ND, source, "")
    averaged = cells.take(np.flatnonzero(readable_N)).averaged()
    failed = frame[~readable_N & ~frame[ID].isin(averaged.frame[ID])].drop_duplicates(ID)
    without = np.full((len(failed), values_ND.shape[1]), np.nan, np.float32)
    return pd.concat([averaged.frame, failed], ignore_index=True), np.concatenate([averaged.values_ND, without])


def check_columns(frame: pd.DataFrame, source: str) -> None:
    """Refuse a table that has a column of a name that predictions have.

    Raises:
        DataError: names the column.
    """
    taken = next((name for name in map(str, frame.columns) if name in ("prediction", ERROR) or name.startswith("probability_")), None)
    if taken:
        raise DataError(f"{source}: the column '{taken}' has the name of one that predict adds; rename it.")
