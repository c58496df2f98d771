"""The model artifact: a directory that holds everything a later step needs to use the trained network (DESIGN, The three verbs)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dino4cells import storage
from dino4cells.artifacts import Artifact, SingleFile, is_complete, open_artifact
from dino4cells.config import Config, parse_config
from dino4cells.config.model import ImageMode
from dino4cells.errors import ArtifactError
from dino4cells.models.backbone import Backbone
from dino4cells.models.backbones import build_backbone

KIND, CLASSIFIER = "model", "classifier"
"""Artifacts that hold a network: its training's, and that of `dino4cells.classify`, which may hold the backbone that it has trained on."""
WEIGHT_FILES = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".safetensors")
"""Endings of files that may hold weights."""
WEIGHTS, CHECKPOINT, CARD, CONFIG, LOG = "model.safetensors", "checkpoint.pth", "model.json", "config.yaml", "log.jsonl"
README = "README.md"


class TrainingSummary(BaseModel):
    """What came out of training, in numbers."""

    images: int = Field(description="Images in the data.")
    samples_seen: int = Field(description="Images seen, repetitions counted.")
    epochs: float
    loss_start: float = Field(description="Mean loss of the first logged steps.")
    loss_end: float = Field(description="Mean loss of the last logged steps.")
    images_per_second: float = Field(description="Over all processes; as all that was timed, since the run was last resumed.")
    step_seconds: float | None = Field(default=None, description="Mean time from one step to the next; None in older artifacts.")
    data_wait: float | None = Field(default=None, description="Share of it, 0 to 1, that was waiting for images.")
    memory_gib: float | None = Field(default=None, description="The most that a process held: of its GPU, else of main memory.")
    seconds: float
    processes: int
    device: str
    bad_images: int = Field(description="Different images that could not be read.")

    def metrics(self) -> dict[str, float]:
        """What Kubeflow shows as a run's metrics, by the names that it shows."""
        values = {
            "loss at start": self.loss_start,
            "loss at end": self.loss_end,
            "images per second": self.images_per_second,
            "seconds per step": self.step_seconds,
            "share of time waiting for data": self.data_wait,
            "memory of a process (GiB)": self.memory_gib,
        }
        return {name: value for name, value in values.items() if value is not None}


class NetworkCard(BaseModel):
    """What a trained network is: all that extraction needs to know."""

    model_config = ConfigDict(protected_namespaces=())

    arch: str
    patch_size: int = Field(description="Side of a patch in pixels; of a vision transformer.")
    image_size: int = Field(description="Side in pixels that its positions are stored for.")
    embedding_dim: int
    channels: tuple[str, ...] = Field(description="Names of the data's channels, in order; `channel_0` … where they have none.")
    image_mode: ImageMode = Field(default="normalized", description="How an image becomes the network's channels.")
    in_channels: int | None = Field(default=None, description="Channels that the network takes; None: one for each of `channels`.")
    seed: int = Field(description="Of the random weights that an untrained network of the kind has.")
    normalization: list[Any] = Field(description="Transforms that extraction applies: name and parameters.")


class ModelCard(NetworkCard):
    """`model.json`: what the network is and where it comes from."""

    training: TrainingSummary
    init: tuple[str, ...] = Field(default=(), description="What was taken over from the weights that training began with, a line each.")
    data: str
    data_fingerprint: str
    config_fingerprint: str
    versions: dict[str, str]


@dataclass(frozen=True)
class TrainedModel:
    """A model read back: its card, its configuration, and its backbone with the teacher's weights, on the CPU, in evaluation mode."""

    card: NetworkCard
    config: Config
    backbone: Backbone
    artifact: Artifact | SingleFile

    def untrained(self) -> Backbone:
        """The same network with the random weights that training began with."""
        return untrained_backbone(self.card)

    @torch.inference_mode()
    def attention_maps(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Where the class token of the last block looks: (B, heads, rows, columns) of images as extraction gives them to the network.

        Raises:
            ConfigError: the network is no vision transformer.

        Example:
            >>> load_model("model").attention_maps(torch.rand(1, 4, 224, 224)).shape  # doctest: +SKIP
            torch.Size([1, 3, 14, 14])
        """
        return self.backbone.attention_maps(images_BCHW)

    def log(self) -> list[dict[str, float]]:
        """The records of training, one per logged step; none where a checkpoint is all there is, or of a classifier's backbone."""
        if isinstance(self.artifact, SingleFile) or self.artifact.manifest.kind != KIND:
            return []
        return [json.loads(line) for line in self.artifact.read_bytes(LOG).decode().splitlines() if line]


def untrained_backbone(card: NetworkCard) -> Backbone:
    """The network that a card describes, with random weights from the card's seed, in evaluation mode."""
    return build_backbone(card.arch, card.patch_size, card.image_size, card.in_channels or len(card.channels), seed=card.seed).eval()


def load_card(url: str) -> ModelCard:
    """The card of a model artifact alone, without its weights.

    Raises:
        ArtifactError: no complete model there, or its card cannot be read.
    """
    try:
        return ModelCard.model_validate_json(open_artifact(url, KIND).read_bytes(CARD))
    except ValidationError as error:
        raise ArtifactError(f"{url}/{CARD}: cannot be read ({str(error).splitlines()[0]}); train the model again.") from error


def load_model(url: str) -> TrainedModel:
    """Read a model artifact.

    Raises:
        ArtifactError: no complete model there, or its parts do not fit each other.
    """
    artifact = open_artifact(url, KIND)
    try:
        card = ModelCard.model_validate_json(artifact.read_bytes(CARD))
        config = parse_config(artifact.read_bytes(CONFIG).decode(), where=f"{url}/{CONFIG}")
        backbone = untrained_backbone(card)
        backbone.load_state_dict(safetensors.torch.load(artifact.read_bytes(WEIGHTS)))
    except (ValidationError, RuntimeError) as error:
        raise ArtifactError(f"{url}: the model cannot be used ({str(error).splitlines()[0]}); train it again or use another.") from error
    return TrainedModel(card, config, backbone.eval(), artifact)


def artifact_of(url: str) -> str | None:
    """The model artifact that a URL means, which is it or one of its two files of weights; None for any other file of weights."""
    if storage.name(url) in (CHECKPOINT, WEIGHTS) and is_complete(storage.parent(url)):
        return storage.parent(url)
    return None if url.lower().endswith(WEIGHT_FILES) else url


def dump_weights(backbone: torch.nn.Module) -> bytes:
    """The backbone's weights as the bytes of a safetensors file."""
    return safetensors.torch.save({name: value.detach().cpu().contiguous() for name, value in backbone.state_dict().items()})
