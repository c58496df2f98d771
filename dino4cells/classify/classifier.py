"""A classifier: features, or images through a backbone, are standardized and passed to a head. Saved and read without pickles.

Dimensions: B batch, N cells, C channels, H, W, D features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from dino4cells.artifacts import Artifact, ArtifactWriter, open_artifact
from dino4cells.classify.calibration import probabilities_of
from dino4cells.classify.feature_kind import FeatureKind
from dino4cells.classify.heads import HeadKind, build_head
from dino4cells.classify.id_files import is_torch_file
from dino4cells.classify.labels import Task
from dino4cells.config import parse_config
from dino4cells.errors import ArtifactError, CheckpointError
from dino4cells.models.artifact import CLASSIFIER, NetworkCard, TrainedModel, untrained_backbone
from dino4cells.models.backbone import Backbone
from dino4cells.models.weights import check_fit
from dino4cells.torch_files import CHECKPOINT, read_torch_file

KIND = CLASSIFIER
CARD, WEIGHTS, METRICS, PREDICTIONS, CONFIG, LOG = (
    *("classifier.json", "classifier.safetensors", "metrics.json"),
    *("predictions.parquet", "config.yaml", "log.jsonl"),
)


class Classifier(nn.Module):
    """Standardization by the training cells' mean and deviation, then a head; on images a backbone before both.

    Args:
        head: from features to logits.
        features: D.
        backbone: from images to features; None for a classifier of features.
        train_backbone, train_head: whether these parts learn; a part that does not stays in evaluation mode.
    """

    mean_D: torch.Tensor
    deviation_D: torch.Tensor

    def __init__(
        self, head: nn.Module, features: int, backbone: Backbone | None = None, *, train_backbone: bool = False, train_head: bool = True
    ) -> None:
        super().__init__()
        self.head, self.backbone = head, backbone
        self.register_buffer("mean_D", torch.zeros(features))
        self.register_buffer("deviation_D", torch.ones(features))
        self._learning = {"head": train_head, "backbone": train_backbone}
        head.requires_grad_(train_head)
        if backbone is not None:
            backbone.requires_grad_(train_backbone)

    @property
    def learns(self) -> bool:
        """Whether there is anything to train."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        for name, part in (("head", self.head), ("backbone", self.backbone)):
            if part is not None and not self._learning[name]:
                part.eval()
        return self

    def standardize_by(self, values_ND: NDArray[np.float32]) -> None:
        """Take the mean and the deviation of these cells; a feature that does not vary is only centred."""
        self.mean_D.copy_(torch.from_numpy(values_ND.mean(axis=0, dtype=np.float64)))
        deviation_D = values_ND.std(axis=0, dtype=np.float64)
        self.deviation_D.copy_(torch.from_numpy(np.where(deviation_D > 0, deviation_D, 1.0)))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits (B, K), float32, of features (B, D) or images (B, C, H, W)."""
        return self.of_features(inputs if self.backbone is None else self.backbone(inputs))

    def of_features(self, features_BD: torch.Tensor) -> torch.Tensor:
        """Logits (B, K), float32, of features as they are extracted."""
        logits: torch.Tensor = self.head((features_BD.float() - self.mean_D) / self.deviation_D)
        return logits.float()


class ClassifierCard(BaseModel):
    """`classifier.json`: what the classifier predicts, from what, and how it was trained."""

    model_config = ConfigDict(protected_namespaces=())

    classes: tuple[str, ...] = Field(description="Names of the head's outputs, in order.")
    several: bool = Field(description="Whether a cell may have several classes: each whose probability is above 0.5; else the most likely.")
    columns: tuple[str, ...] = Field(description="Columns of the table that held the labels.")
    head: HeadKind
    features: int = Field(description="Features that the head takes.")
    averaged: bool = Field(description="Whether features were averaged over the cells of an ID.")
    model_fingerprint: str = Field(description="Of the model that the features come from; empty where nobody knows.")
    taken: FeatureKind | None = Field(default=None, description="Which features it takes, of a classifier of features.")
    backbone: NetworkCard | None = Field(description="The backbone inside, of a classifier of images.")
    temperatures: tuple[float, ...] = Field(
        default=(1.0,), description="What logits are divided by before they become probabilities: one, or one for each label."
    )
    epochs: float = Field(description="Epochs that were trained.")
    kept_epoch: float = Field(description="Epoch whose weights these are.")
    samples_seen: int
    seconds: float
    processes: int
    data: str
    split: str
    versions: dict[str, str]

    @property
    def task(self) -> Task:
        """What is predicted."""
        return Task(self.classes, self.several, self.columns)

    def probabilities(self, logits_NK: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, K), calibrated: softmax of one class a cell, sigmoid of each of several labels."""
        return probabilities_of(logits_NK, self.temperatures, self.several)


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier read back, on the CPU, in evaluation mode."""

    card: ClassifierCard
    network: Classifier
    artifact: Artifact

    def as_model(self) -> TrainedModel:
        """The backbone as a model that features can be extracted by.

        Raises:
            ArtifactError: it is a classifier of features.
        """
        if self.card.backbone is None or self.network.backbone is None:
            raise ArtifactError(f"{self.artifact.url}: is a head on features and has no network; name the model that these come from.")
        where = f"{self.artifact.url}/{CONFIG}"
        return TrainedModel(
            self.card.backbone, parse_config(self.artifact.read_bytes(CONFIG).decode(), where), self.network.backbone, self.artifact
        )


def save_classifier(writer: ArtifactWriter, card: ClassifierCard, network: Classifier) -> None:
    """Write the card and the weights into an artifact."""
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    writer.write_bytes(WEIGHTS, safetensors.torch.save(weights))
    writer.write_text(CARD, card.model_dump_json(indent=2) + "\n")


def load_classifier(url: str) -> TrainedClassifier:
    """Read a classifier that `dino4cells classify` wrote.

    Raises:
        ArtifactError: no complete classifier there, or its parts do not fit each other.

    Example:
        >>> trained = load_classifier("runs/cells/classifier")  # doctest: +SKIP
        >>> probabilities = trained.card.probabilities(trained.network(torch.zeros(2, 192)).detach().numpy())  # doctest: +SKIP
    """
    artifact = open_artifact(url, KIND)
    try:
        card = ClassifierCard.model_validate_json(artifact.read_bytes(CARD))
        backbone = untrained_backbone(card.backbone) if card.backbone is not None else None
        network = Classifier(build_head(card.head, card.features, len(card.classes)), card.features, backbone)
        network.load_state_dict(safetensors.torch.load(artifact.read_bytes(WEIGHTS)))
    except (ValidationError, RuntimeError) as error:
        raise ArtifactError(f"{url}: the classifier cannot be used ({str(error).splitlines()[0]}); train it again.") from error
    return TrainedClassifier(card, network.eval(), artifact)


def load_head(classifier: Classifier, url: str, name: str) -> None:
    """Give a classifier the head of a published `.pth` (a state dictionary), or head and standardization of one that was written here.

    Args:
        classifier: with a head of the configured kind.
        url: the file or the directory.
        name: what messages call the configured head.

    Raises:
        CheckpointError: no state dictionary, or one of another head.
        ArtifactError: a classifier that is damaged.
    """
    ours = None if is_torch_file(url) else load_classifier(url).network
    weights = _state_of_head(url) if ours is None else ours.head.state_dict()
    check_fit(classifier.head.state_dict(), weights, url, name, "make classifier_type, its sizes and num_classes those of the file.")
    classifier.head.load_state_dict(weights)
    if ours is not None:
        classifier.mean_D.copy_(ours.mean_D)
        classifier.deviation_D.copy_(ours.deviation_D)


def _state_of_head(url: str) -> dict[str, torch.Tensor]:
    loaded = read_torch_file(url, CHECKPOINT)
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise CheckpointError(f"{url}: holds no weights of a head; give a file that run_end_to_end.py wrote, or a directory of classify.")
    return {key.removeprefix("module."): value for key, value in loaded.items()}
