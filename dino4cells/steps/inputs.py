"""What steps are given and where they write: the model, the table for pictures, the place of the result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from dino4cells import storage
from dino4cells.artifacts import SingleFile, finished_already, is_complete, open_artifact
from dino4cells.config import Config, load_config
from dino4cells.data.metadata import Metadata, read_metadata, read_table
from dino4cells.errors import ConfigError, DataError
from dino4cells.features.exports import format_of
from dino4cells.features.store import Features
from dino4cells.models.artifact import CLASSIFIER, KIND, TrainedModel, artifact_of, load_model
from dino4cells.models.published import load_published


def required(value: str | None, key: str, option: str, meaning: str) -> str:
    """The value, or a sentence about the key and the option that give it."""
    if not value:
        raise ConfigError(f"{key}: is not given; say {meaning}, there or by {option}.")
    return value


def check_output(output: str, overwrite: bool) -> None:
    """Refuse a place that cannot be written before any work is done for it, and one that holds a finished artifact.

    That is replaced on demand alone, and then only by a finished one: until then it stays as it is.
    """
    is_file = format_of(output) is not None
    if not overwrite and (storage.exists(output) if is_file else is_complete(output)):
        raise finished_already(output)
    storage.check_writable(storage.parent(output) if is_file else output)


def job_inputs(config: Config, data: str | None, overwrite: bool) -> list[str]:
    """Arguments that give a process of a job the same configuration and data."""
    place = ["--data", storage.absolute(data)] if data else []
    return ["--config-text", config.to_yaml(), *place, *(["--overwrite"] if overwrite else [])]


def trained_model(model: str, config: Config | None = None, metadata: Metadata | None = None) -> TrainedModel:
    """The model at a URL: an artifact, one of its files of weights, the backbone of a classifier of images, or a checkpoint of others."""
    directory = artifact_of(model)
    if directory is None:
        return load_published(model, config or load_config(None), metadata)
    if open_artifact(directory, KIND, CLASSIFIER).manifest.kind == CLASSIFIER:
        from dino4cells.classify.classifier import load_classifier  # and scikit-learn with it

        return load_classifier(directory).as_model()
    return load_model(directory)


def pictured(table: Features, data: str | None, model: TrainedModel | None, *, files_outside_root: bool) -> Metadata | None:
    """The table of cells that features were extracted from, for pictures of cells; None where nobody says where it is.

    Args:
        table: the features, whose card says what the columns of their table mean.
        data: directory or URL of the images; what the model's configuration names when None.
        model: that they come from, or None.
        files_outside_root: whether the table may name files elsewhere; artifacts, which somebody else may have made, do not say so.
    """
    if data is None:
        if model is None or not model.config.model.data_path:
            return None
        recorded = model.config.model.model_copy(update={"files_outside_root": files_outside_root})
        metadata = read_table(model.config.model_copy(update={"model": recorded}))
        return _rows_of(table, metadata) if metadata.fingerprint == table.card.data_fingerprint else None
    metadata = read_metadata(data, layout=table.card.layout.model_copy(update={"files_outside_root": files_outside_root}))
    rows = _rows_of(table, metadata)
    if rows is None:
        raise DataError(
            f"{metadata.source}: is not the table that {table.artifact.url} was extracted from, which was {table.card.data}; "
            "give that one, or extract the features again."
        )
    return rows


def _rows_of(table: Features, metadata: Metadata) -> Metadata | None:
    """A table of cells with the rows of features, in their order; None where these are of another one.

    From features in one file other tools may have left cells out, or sorted them: a cell is known by its image there, if the file says it.
    """
    if not isinstance(table.artifact, SingleFile):
        return metadata if metadata.fingerprint == table.card.data_fingerprint else None
    columns = list(metadata.layout.columns)
    if not set(columns) <= set(table.metadata.columns):
        return metadata if len(metadata) == table.card.rows else None
    own, theirs = (pd.Index(metadata.layout.files(frame[columns].astype(str)).to_pylist()) for frame in (metadata.frame, table.metadata))
    if own.equals(theirs):
        return metadata
    rows = own.get_indexer(theirs) if own.is_unique else np.array([-1])
    return replace(metadata, frame=metadata.frame.iloc[rows].reset_index(drop=True)) if (rows >= 0).all() else None
