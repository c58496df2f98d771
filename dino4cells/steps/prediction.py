"""The verb `predict`: apply a classifier that `classify` left."""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import dino4cells
from dino4cells import storage
from dino4cells.artifacts import ArtifactWriter
from dino4cells.config import Config, parse_config
from dino4cells.errors import ConfigError
from dino4cells.features.store import Features, read_features
from dino4cells.steps.configuration import configuration_of
from dino4cells.steps.extraction import extract
from dino4cells.steps.inputs import check_output, required
from dino4cells.training.distributed import process_group

# Imported where they are used, as in `classification`.
if TYPE_CHECKING:
    import pandas as pd

    from dino4cells.classify.classifier import TrainedClassifier
    from dino4cells.classify.feature_kind import FeatureKind
    from dino4cells.classify.prediction import PredictionsCard


def predict(
    classifier: str,
    *,
    output: str,
    features: str | None = None,
    data: str | None = None,
    model: str | None = None,
    kind: str = "linear",
    overrides: dict[str, object] | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> PredictionsCard:
    """Predict the classes of cells, and write a row for each: its metadata, the prediction, probabilities, or why there is none.

    Args:
        classifier: URL of what `classify` left: a head or a whole network, or fitted k-NN and linear probe.
        output: URL of the predictions artifact (`predictions.parquet`, `predictions.json`).
        features: URL of features of the kind that it has learnt from.
        data: directory or URL of images, in place of features.
        model: URL of the model that features of the images come from; the one that the classifier has learnt from when None.
        kind: `linear` or `knn`, which of the two that a cross-validated run leaves.
        overrides: keys of the configuration, for how images are read, such as `embedding.channels`.
        overwrite: replace other predictions that are at `output`.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        Dino4CellsError: what the user can fix.
    """
    from dino4cells.classify import prediction as predicting
    from dino4cells.classify.classifier import TrainedClassifier
    from dino4cells.classify.saved import load_saved

    if (features is None) == (data is None):
        raise ConfigError("--features, --data: name one of the two, features or images.")
    output = storage.absolute(required(output, "--output", "--output", "where the predictions go"))
    check_output(output, overwrite)
    saved, source, keys = load_saved(classifier, kind), features or data or "", overrides or {}
    if isinstance(saved, TrainedClassifier):
        frame, fingerprint, classes = _of_whole_network(saved, data, keys, device), saved.artifact.fingerprint, saved.card.classes
    else:
        table = read_features(features) if features else _extracted(saved.taken, source, model, keys, device)
        frame, fingerprint, classes = predicting.of_features(saved, table, source), saved.fingerprint, saved.classes
    card = predicting.PredictionsCard(
        rows=len(frame),
        failed_rows=int(frame["prediction"].isna().sum()),
        classes=classes,
        counts={str(name): int(count) for name, count in frame["prediction"].value_counts().items()},
        classifier=storage.absolute(classifier),
        classifier_fingerprint=fingerprint,
        source=storage.absolute(source),
        versions={"dino4cells": dino4cells.__version__, "torch": torch.__version__, "python": platform.python_version()},
    )
    with ArtifactWriter(output, predicting.KIND) as writer:
        frame.to_parquet(writer.path(predicting.PREDICTIONS), index=False)
        writer.write_text(predicting.CARD, card.model_dump_json(indent=2) + "\n")
    return card


def _of_whole_network(trained: TrainedClassifier, data: str | None, overrides: dict[str, object], device: str) -> pd.DataFrame:
    from dino4cells.classify import prediction as predicting
    from dino4cells.classify.cells import read_image_cells
    from dino4cells.classify.classifier import CONFIG

    url = trained.artifact.url
    if data is None:
        raise ConfigError(f"--features: {url} is a whole network, which takes images; name them by --data.")
    # A row whose image cannot be read says so, and stops nothing.
    changes = {**overrides, "model.max_bad_images": 1.0}
    config = parse_config(trained.artifact.read_bytes(CONFIG).decode(), where=storage.join(url, CONFIG), overrides=changes)
    with process_group(device) as group:
        return predicting.of_images(trained, read_image_cells(data, config), config, group)


def _extracted(taken: FeatureKind, data: str, model: str | None, overrides: dict[str, object], device: str) -> Features:
    """Features of images, as the classifier has learnt from them; on the disk only for as long as they are written."""
    if taken.profiling:
        raise ConfigError("--data: the classifier has learnt from normalized features; make such ones, and name them by --features.")
    url = model or taken.model
    if not url:
        raise ConfigError("--model: the classifier does not say which model its features come from; name it.")
    chosen: dict[str, object] = {"embedding.tokens": taken.tokens, "embedding.blocks": taken.last_blocks}
    config: Config = configuration_of(url, {**chosen, **overrides})
    with tempfile.TemporaryDirectory(prefix="dino4cells-") as directory:
        place = str(Path(directory, "features"))
        extract(url, config=config, data=data, output=place, baselines=False, device=device)
        return read_features(place)
