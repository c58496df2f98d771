"""Predictions of cells whose class nobody knows: a row each, with probabilities, or the reason why there are none.

Dimensions: N cells, D features, K classes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from dino4cells.classify.assembly import image_inputs
from dino4cells.classify.cells import FeatureCells, ImageCells
from dino4cells.classify.classifier import TrainedClassifier
from dino4cells.classify.feature_kind import FeatureKind
from dino4cells.classify.head_training import predict
from dino4cells.classify.id_files import ID
from dino4cells.classify.results import with_predictions
from dino4cells.classify.saved import SavedClassifier
from dino4cells.config import Config
from dino4cells.errors import DataError
from dino4cells.features.store import Features
from dino4cells.training.distributed import ProcessGroup
from dino4cells.training.precision import autocast_type

KIND = "predictions"
CARD, PREDICTIONS = "predictions.json", "predictions.parquet"
ERROR = "error"
"""Column of the reason why a row has no prediction."""


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


def of_features(saved: SavedClassifier, table: Features, source: str) -> pd.DataFrame:
    """What a classifier predicts from features.

    Args:
        saved: the classifier.
        table: the features.
        source: URL of them, for messages.

    Raises:
        DataError: they are not of the kind that it has learnt from.
    """
    saved.taken.check(FeatureKind.of(table.card), source, saved.url)
    frame = table.metadata.drop(columns="dino_model").rename(columns={"dino_error": ERROR})
    values_ND = table.dino
    if saved.averaged:
        frame, values_ND = _averaged(frame, values_ND, source)
    _check_columns(frame, source)
    return _error_last(saved.predicted(frame, values_ND))


def of_images(trained: TrainedClassifier, cells: ImageCells, config: Config, group: ProcessGroup) -> pd.DataFrame:
    """What a whole network predicts from images, which are read in batches and not kept.

    Args:
        trained: a classifier with a backbone.
        cells: the table of the images.
        config: that it was trained with.
        group: its device computes.

    Raises:
        DataError: the images have other channels than the network takes.
    """
    card = trained.card.backbone
    if card is None:
        raise ValueError("a classifier of features does not take images")
    _check_columns(cells.frame, cells.source)
    inputs = image_inputs(cells, card, config, group.device)
    network, precision = trained.network.to(group.device), autocast_type(config.model.precision, group.device, card.arch)
    logits_NK = predict(network, inputs, len(trained.card.classes), group, precision)
    frame = cells.frame.copy()
    frame[ERROR] = [inputs.failures.get(row) for row in range(len(cells))]
    return _error_last(with_predictions(frame, trained.card, logits_NK))


def _averaged(frame: pd.DataFrame, values_ND: np.ndarray, source: str) -> tuple[pd.DataFrame, np.ndarray]:
    """A row for each ID: the mean of its cells that have features, or the first cell's reason where none has."""
    readable_N = np.isfinite(values_ND).all(axis=1)
    cells = FeatureCells(frame, values_ND, source, "")
    averaged = cells.take(np.flatnonzero(readable_N)).averaged()
    failed = frame[~readable_N & ~frame[ID].isin(averaged.frame[ID])].drop_duplicates(ID)
    without = np.full((len(failed), values_ND.shape[1]), np.nan, np.float32)
    return pd.concat([averaged.frame, failed], ignore_index=True), np.concatenate([averaged.values_ND, without])


def _check_columns(frame: pd.DataFrame, source: str) -> None:
    taken = next((name for name in map(str, frame.columns) if name == "prediction" or name.startswith("probability_")), None)
    if taken:
        raise DataError(f"{source}: the column '{taken}' has the name of one that predict adds; rename it.")


def _error_last(frame: pd.DataFrame) -> pd.DataFrame:
    ordered: pd.DataFrame = frame[[*(name for name in frame.columns if name != ERROR), ERROR]]
    return ordered
