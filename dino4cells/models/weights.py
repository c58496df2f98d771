"""Weights from files of any origin, by the names that our backbones use (HANDBOOK, Files).

Read are checkpoints of DINO4Cells, of DINO and of this package, state dictionaries (DINO's backbones, timm, torchvision) as `.pth` or
`.safetensors`, and model artifacts. All their vision transformers have the same parameter names, and so have their residual networks.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from dino4cells import storage
from dino4cells.artifacts import open_artifact
from dino4cells.data.channels import are_numbered
from dino4cells.errors import CheckpointError
from dino4cells.models.artifact import CHECKPOINT as CHECKPOINT_FILE
from dino4cells.models.artifact import KIND, ModelCard, artifact_of, load_card
from dino4cells.torch_files import CHECKPOINT, load_torch_bytes

# What holds the network in a file that holds more, the preferred first: DINO's features are the teacher's.
NETWORKS = ("teacher", "student", "state_dict", "model")
# Last layers of other people's classifiers, none of which makes features.
CLASSIFIERS = ("head.", "fc.", "classifier.", "head_dist.", "pre_logits.")
_NUMBERED_LAYER = re.compile(r"\d+\.(weight|bias)")  # an XResNet's last one
PATCH_EMBEDDING, POSITIONS, CLASS_TOKEN = "patch_embed.proj.weight", "pos_embed", "cls_token"
LISTED = 3

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Weights:
    """The tensors of a network that a file holds.

    Attributes:
        url: of the file or the artifact.
        fingerprint: SHA-256 of the file, or the artifact's.
        backbone: by our names, without `module.` and `backbone.`; a classifier's last layer is among them.
        head: of DINO's projection head, without `head.`; empty where there is none.
        network: which entry of the file they are from: `teacher`, …; empty where the file is the network itself.
        settings: what the file says about its training (`args`).
        channels: names of the channels, where the file has them.
    """

    url: str
    fingerprint: str
    backbone: Tensors
    head: Tensors
    network: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    channels: tuple[str, ...] | None = None

    @property
    def is_transformer(self) -> bool:
        return PATCH_EMBEDDING in self.backbone

    @property
    def width(self) -> int:
        """D of a vision transformer."""
        return self.backbone[PATCH_EMBEDDING].shape[0]

    @property
    def patch_size(self) -> int:
        """Side of a patch of a vision transformer, in pixels."""
        return self.backbone[PATCH_EMBEDDING].shape[-1]

    @property
    def grid_side(self) -> int:
        """Patches per side that the position embeddings of a vision transformer are stored for.

        Raises:
            CheckpointError: they are not those of a class token and a square of patches.
        """
        tokens = self.backbone[POSITIONS].shape[1] - 1 if POSITIONS in self.backbone else 0
        side = int(tokens**0.5)
        if side < 1 or side * side != tokens:
            raise CheckpointError(
                f"{self.url}: its position embeddings are not those of a class token and a square of patches; use DINO's or timm's ViT."
            )
        return side


def read_weights(url: str) -> Weights:
    """The weights at a URL: a checkpoint, a state dictionary, a safetensors file, or a model artifact.

    Raises:
        CheckpointError: damaged, holding code, or no network.
        ArtifactError: a model artifact that is damaged.
        StorageError: not there, or not readable.
    """
    artifact = artifact_of(url)
    if artifact is not None:
        return _of_artifact(artifact)
    content = storage.read_bytes(url)
    fingerprint = hashlib.sha256(content).hexdigest()
    if url.endswith(".safetensors"):
        return _named(url, fingerprint, _read_safetensors(content, url), "", {})
    loaded = load_torch_bytes(content, url, CHECKPOINT)
    network, tensors = _find_network(loaded, url)
    return _named(url, fingerprint, tensors, network, _settings(loaded))


def _of_artifact(url: str) -> Weights:
    artifact, card = open_artifact(url, KIND), load_card(url)
    place = storage.join(url, CHECKPOINT_FILE)
    loaded = load_torch_bytes(artifact.read_bytes(CHECKPOINT_FILE), place, CHECKPOINT)
    network, tensors = _find_network(loaded, place)
    return _named(url, artifact.fingerprint, tensors, network, _settings(loaded), _network_channels(card))


def _network_channels(card: ModelCard) -> tuple[str, ...] | None:
    """Names of the channels that a network takes, if they are the data's and have names."""
    return None if are_numbered(card.channels) or card.in_channels not in (None, len(card.channels)) else card.channels


def _read_safetensors(content: bytes, url: str) -> Tensors:
    try:
        return dict(sorted(safetensors.torch.load(content).items()))  # whose order differs from one reading to the next
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{url}: cannot be read as a safetensors file ({error}); download it again or use another.") from error


def _find_network(loaded: Any, url: str) -> tuple[str, Tensors]:
    """The state dictionary of a file and the entry that it was found in."""
    if isinstance(loaded, Mapping):
        for entry in NETWORKS:
            if _is_state(loaded.get(entry)):
                return entry, dict(loaded[entry])
        if _is_state(loaded):
            return "", dict(loaded)
    raise CheckpointError(
        f"{url}: holds no network: neither an entry {', '.join(NETWORKS[:-1])} or {NETWORKS[-1]} nor tensors by name; "
        "give a checkpoint of DINO4Cells or DINO, or a state dictionary."
    )


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and len(value) > 0 and all(isinstance(tensor, torch.Tensor) for tensor in value.values())


def _settings(loaded: Any) -> dict[str, object]:
    found = loaded.get("args") if isinstance(loaded, Mapping) else None
    return dict(vars(found)) if isinstance(found, argparse.Namespace) else {}


def _named(
    url: str,
    fingerprint: str,
    tensors: Tensors,
    network: str,
    settings: Mapping[str, object],
    channels: tuple[str, ...] | None = None,
) -> Weights:
    backbone, head = split_names(tensors)
    return Weights(url, fingerprint, backbone, head, network, settings, channels)


def split_names(tensors: Mapping[str, torch.Tensor]) -> tuple[Tensors, Tensors]:
    """Tensors of the backbone and of DINO's head, without their prefixes.

    Example:
        >>> backbone, head = split_names({"module.backbone.cls_token": torch.zeros(1), "module.head.mlp.0.bias": torch.zeros(1)})
        >>> list(backbone), list(head)
        (['cls_token'], ['mlp.0.bias'])
    """
    plain = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    head = {name.removeprefix("head."): tensor for name, tensor in plain.items() if name.startswith(("head.mlp.", "head.last_layer."))}
    rest = {name: tensor for name, tensor in plain.items() if name.removeprefix("head.") not in head}
    return {name.removeprefix("backbone."): tensor for name, tensor in rest.items()}, head


def first_layer(backbone: nn.Module) -> str:
    """Name of the weights that see the channels: the patch embedding, or the first convolution."""
    return next(f"{name}.weight" for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d))


def without_classifier(found: Mapping[str, torch.Tensor], wanted: Iterable[str]) -> tuple[Tensors, list[str]]:
    """The tensors of a backbone without those of a classifier that the network does not have, and the names of these.

    Args:
        found: of the file.
        wanted: names in the network.
    """
    known = set(wanted)
    dropped = [name for name in found if (name.startswith(CLASSIFIERS) or _NUMBERED_LAYER.fullmatch(name)) and name not in known]
    return {name: tensor for name, tensor in found.items() if name not in dropped}, dropped


def check_fit(wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], url: str, network: str, advice: str) -> None:
    """Refuse tensors that are not those of a network, by name and shape.

    Args:
        wanted: of the network.
        found: of the file.
        url: of the file.
        network: what messages call the network.
        advice: what to do about it, the end of the message.

    Raises:
        CheckpointError: names tensors that are missing, superfluous, or of another shape.
    """
    missing = [name for name in wanted if name not in found]
    surplus = [name for name in found if name not in wanted]
    faults = [f"lacks {_listed(missing)}"] * bool(missing) + [f"has {_listed(surplus)} besides"] * bool(surplus)
    if faults:
        raise CheckpointError(f"{url}: is no {network}: it {' and '.join(faults)}; {advice}")
    for name, tensor in wanted.items():
        if tensor.shape != found[name].shape:
            raise CheckpointError(f"{url}: '{name}' is {_shape(found[name])} and that of {network} is {_shape(tensor)}; {advice}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{', '.join(repr(name) for name in names[:LISTED])}{more}"


def _shape(tensor: torch.Tensor) -> str:
    return " × ".join(str(side) for side in tensor.shape) or "a number"
