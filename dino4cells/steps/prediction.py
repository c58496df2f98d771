"""The verb `predict`: apply a classifier that `classify` left."""

from __future__ import annotations

import logging
import platform
from typing import TYPE_CHECKING

import torch

import dino4cells
from dino4cells import storage
from dino4cells.artifacts import ArtifactWriter
from dino4cells.cluster.job import Processes
from dino4cells.config import Config
from dino4cells.config.values import TransformChoice
from dino4cells.data.metadata import read_table
from dino4cells.errors import ConfigError
from dino4cells.features.store import open_table
from dino4cells.steps.configuration import configuration_of
from dino4cells.steps.extraction import extract
from dino4cells.steps.inputs import check_output, required, trained_model

# Imported where they are used, as in `classification`.
if TYPE_CHECKING:
    from dino4cells.classify.prediction import PredictionsCard
    from dino4cells.classify.saved import SavedClassifier

logger = logging.getLogger(__name__)


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
    processes: Processes | None = None,
    device: str = "auto",
) -> PredictionsCard:
    """Predict the classes of cells, and write a row for each: its metadata, the prediction, probabilities, or why there is none.

    Of images, features are extracted first, beside the output; a prediction that was interrupted goes on with those that are left.

    Args:
        classifier: URL of what `classify` left: a head or a whole network, or fitted k-NN and linear probe.
        output: URL of the predictions artifact (`predictions.parquet`, `predictions.json`).
        features: URL of features of the kind that it has learnt from.
        data: directory or URL of images, in place of features.
        model: URL of the model that features of the images come from; the one that the classifier has learnt from when None.
        kind: `linear` or `knn`, which of the two that a cross-validated run leaves.
        overrides: keys of the configuration, for how images are read, such as `embedding.channels`.
        overwrite: replace other predictions that are at `output`.
        processes: share the extraction among many processes; None extracts in this one.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        Dino4CellsError: what the user can fix.
    """
    from dino4cells.classify.saved import load_saved

    if (features is None) == (data is None):
        raise ConfigError("--features, --data: name one of the two, features or images.")
    output = storage.absolute(required(output, "--output", "--output", "where the predictions go")).rstrip("/")
    check_output(output, overwrite)
    saved = load_saved(classifier, kind)
    if features is not None:
        return _predicted(saved, features, features, classifier, output)
    place = f"{output}.features"
    _extract(saved, data or "", place, model, overrides or {}, processes, device)
    try:
        card = _predicted(saved, place, data or "", classifier, output)
    except BaseException:
        logger.warning("%s: is not written; the features of its images are in %s, for --features.", output, place)
        raise
    storage.remove(place)
    return card


def _predicted(saved: SavedClassifier, features: str, source: str, classifier: str, output: str) -> PredictionsCard:
    """Write what a classifier predicts from features of the cells in `source`."""
    from dino4cells.classify import prediction as predicting

    frame = predicting.of_features(saved, open_table(features), source)
    card = predicting.PredictionsCard(
        rows=len(frame),
        failed_rows=int(frame["prediction"].isna().sum()),
        classes=saved.classes,
        counts={str(name): int(count) for name, count in frame["prediction"].value_counts().items()},
        classifier=storage.absolute(classifier),
        classifier_fingerprint=saved.fingerprint,
        source=storage.absolute(source),
        versions={"dino4cells": dino4cells.__version__, "torch": torch.__version__, "python": platform.python_version()},
    )
    with ArtifactWriter(output, predicting.KIND) as writer:
        frame.to_parquet(writer.path(predicting.PREDICTIONS), index=False)
        writer.write_text(predicting.CARD, card.model_dump_json(indent=2) + "\n")
    return card


def _extract(
    saved: SavedClassifier,
    data: str,
    place: str,
    model: str | None,
    overrides: dict[str, object],
    processes: Processes | None,
    device: str,
) -> None:
    """Features of images, as the classifier has learnt from them; what can be refused is, before any image is read."""
    from dino4cells.classify.feature_kind import FeatureKind
    from dino4cells.classify.prediction import check_columns

    taken = saved.taken
    if taken.profiling or taken.columns:
        raise ConfigError(
            f"--data: {saved.url} has learnt from features that were normalized or chosen; make such ones, and name them by --features."
        )
    if saved.has_network and model:
        raise ConfigError(f"--model: {saved.url} has a network of its own, by which images are seen; leave --model out.")
    url = model or taken.model
    if not url:
        raise ConfigError("--model: the classifier does not say which model its features come from; name it.")
    config = _as_learnt(saved, url, overrides)
    fingerprint = trained_model(url, config).artifact.fingerprint
    taken.check(FeatureKind(embedding_dim=taken.embedding_dim, model_fingerprint=fingerprint, described=False), url, saved.url)
    metadata = read_table(config, data)
    check_columns(metadata.frame, metadata.source)
    extract(
        url, config=config, data=data, output=place, baselines=False, overwrite=True, processes=processes, device=device, reuse=True
    )  # fmt: skip


def _as_learnt(saved: SavedClassifier, model: str, overrides: dict[str, object]) -> Config:
    """The configuration by which images become features of the kind that a classifier takes."""
    taken = saved.taken
    chosen: dict[str, object] = {"embedding.tokens": taken.tokens, "embedding.blocks": taken.last_blocks}
    if taken.black_channels and set(taken.black_channels) <= set(taken.channels):
        chosen["embedding.keep_channels"] = [name for name in taken.channels if name not in taken.black_channels]
    config = configuration_of(model, {**chosen, **overrides})
    changes: dict[str, object] = {}
    if saved.has_network:  # which was judged in the arithmetic that it was trained in
        changes["embedding"] = config.embedding.model_copy(update={"precision": config.model.precision, "keep_channels": None})
    if taken.transforms is not None and not any(key.startswith("testing_transfo") for key in overrides):
        given = {name: TransformChoice(active=True, parameters=parameters) for name, parameters in taken.transforms}
        changes["testing_transfo"] = given
    changed: Config = config.model_copy(update=changes)
    return changed
