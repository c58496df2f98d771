"""Classifiers that `classify` left, ready to predict: a head or a whole network, or a k-NN or a linear probe of cross-validated features.

Dimensions: N cells, D features, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import skops.io
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from sklearn.pipeline import Pipeline
from skops.io.exceptions import UntrustedTypesFoundException

from dino4cells import storage
from dino4cells.artifacts import open_artifact
from dino4cells.classify import classifier as heads
from dino4cells.classify import evaluation as judges
from dino4cells.classify.classifier import TrainedClassifier, load_classifier
from dino4cells.classify.feature_kind import FeatureKind
from dino4cells.classify.results import predictions_of
from dino4cells.errors import ArtifactError, ConfigError
from dino4cells.printable import printable

TRUSTED: tuple[str, ...] = ()
"""Types in a `.skops` file that are built beside those of scikit-learn and numpy that skops knows: none."""
AT_ONCE = 4096
Features = NDArray[np.float32]


class SavedClassifier(Protocol):
    """What predicts cells from their features."""

    @property
    def url(self) -> str:
        """Where it is."""

    @property
    def fingerprint(self) -> str:
        """Of its content."""

    @property
    def taken(self) -> FeatureKind:
        """The features that it takes."""

    @property
    def has_network(self) -> bool:
        """Whether these are of a network of its own."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what it predicts."""

    @property
    def averaged(self) -> bool:
        """Whether features are averaged over the cells of an ID first."""

    def predicted(self, values_ND: Features) -> pd.DataFrame:
        """`prediction` and `probability_…` of every class, a row a cell; nothing where features are not finite."""


@dataclass(frozen=True)
class SavedHead:
    """A trained head on features, of a model or of the backbone inside."""

    url: str
    trained: TrainedClassifier
    taken: FeatureKind

    @property
    def fingerprint(self) -> str:
        return self.trained.artifact.fingerprint

    @property
    def classes(self) -> tuple[str, ...]:
        return self.trained.card.classes

    @property
    def averaged(self) -> bool:
        return self.trained.card.averaged

    @property
    def has_network(self) -> bool:
        return self.trained.card.backbone is not None

    @torch.inference_mode()
    def predicted(self, values_ND: Features) -> pd.DataFrame:
        starts = range(0, len(values_ND), AT_ONCE)
        parts = [self.trained.network.of_features(torch.from_numpy(values_ND[start : start + AT_ONCE])) for start in starts]
        return predictions_of(self.trained.card, torch.cat(parts).numpy())


@dataclass(frozen=True)
class SavedJudge:
    """A k-NN or a linear probe of a cross-validated run."""

    url: str
    fingerprint: str
    model: Pipeline
    taken: FeatureKind
    averaged: bool = False
    has_network: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self.model.classes_)

    def predicted(self, values_ND: Features) -> pd.DataFrame:
        classes = self.classes
        probabilities_NK = np.full((len(values_ND), len(classes)), np.nan, np.float32)
        readable = np.flatnonzero(np.isfinite(values_ND).all(axis=1))
        for start in range(0, len(readable), AT_ONCE):
            rows = readable[start : start + AT_ONCE]
            probabilities_NK[rows] = self.model.predict_proba(values_ND[rows])
        names = np.full(len(values_ND), None, dtype=object)
        names[readable] = np.asarray(classes, dtype=object)[probabilities_NK[readable].argmax(axis=1)]
        columns = {f"probability_{name}": probabilities_NK[:, place] for place, name in enumerate(classes)}
        predicted: pd.DataFrame = pd.DataFrame({"prediction": names, **columns})
        return predicted


def load_saved(url: str, kind: str = "linear") -> SavedClassifier:
    """Read what `classify` left in a directory.

    Args:
        url: of the directory.
        kind: `linear` or `knn`, which of the two classifiers of a cross-validated run.

    Raises:
        ArtifactError: no complete classifier there, or a file that would build what is no classifier.
        ConfigError: there is no such kind.
    """
    if storage.exists(storage.join(url, heads.CARD)):
        trained = load_classifier(url)
        return SavedHead(url, trained, _taken(trained))
    name = {str(known): file for known, file in judges.CLASSIFIERS.items()}.get(kind)
    if name is None:
        raise ConfigError(f"--kind: must be {' or '.join(judges.CLASSIFIERS)}, not '{kind}'.")
    artifact = open_artifact(url, judges.KIND)
    metrics: Mapping[str, Any] = json.loads(artifact.read_bytes(judges.METRICS))
    if "features" not in metrics:
        raise ArtifactError(f"{url}: does not say which features its classifiers take, because it is of an older version; classify again.")
    try:
        taken = FeatureKind.model_validate(metrics["features"])
    except ValidationError as error:
        raise ArtifactError(f"{url}/{judges.METRICS}: cannot be used ({str(error).splitlines()[0]}); classify again.") from error
    return SavedJudge(url, artifact.fingerprint, pipeline_of(artifact.read_bytes(name), storage.join(url, name)), taken)


def _taken(trained: TrainedClassifier) -> FeatureKind:
    """The features that a head takes: of the backbone inside, or those that it has learnt from."""
    card, backbone = trained.card, trained.card.backbone
    if backbone is None:
        return card.taken or FeatureKind(embedding_dim=card.features, described=False)
    return FeatureKind(
        embedding_dim=card.features,
        model=trained.artifact.url,
        model_fingerprint=trained.artifact.fingerprint,
        channels=backbone.channels,
    )


def pipeline_of(content: bytes, url: str) -> Pipeline:
    """The classifier in a `.skops` file that was read from `url`.

    Raises:
        ArtifactError: it is damaged, or would build what is no classifier.
    """
    try:
        model = skops.io.loads(content, trusted=list(TRUSTED))
    except UntrustedTypesFoundException as error:
        raise ArtifactError(f"{url}: holds something else than a classifier of scikit-learn ({error}) and is not read.") from error
    except Exception as error:  # damage comes to light wherever skops stumbles over it
        raise ArtifactError(f"{url}: the classifier is damaged ({printable(str(error), 200)}); classify again.") from error
    if not isinstance(model, Pipeline):
        raise ArtifactError(f"{url}: holds a {type(model).__name__} where a fitted classifier is needed; classify again.")
    return model
