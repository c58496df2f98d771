"""Weights to start training from (`model.init`): a checkpoint of DINO4Cells or DINO, a model artifact, a timm or safetensors file.

Student and teacher begin with them, as they begin alike with random ones. What the file lacks stays random.

Dimensions: D width, C channels, P side of a patch.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from dino4cells.config import Config
from dino4cells.data.channels import are_numbered, numbered
from dino4cells.errors import ConfigError
from dino4cells.models.head import DINOHead, DINONetwork
from dino4cells.models.vit import interpolate_positions
from dino4cells.models.weights import PATCH_EMBEDDING, POSITIONS, Tensors, Weights, check_fit, first_layer, read_weights, without_classifier

MEAN = "mean"


@dataclass(frozen=True)
class ChannelPlan:
    """Where the first layer's weights for each of our channels come from.

    Attributes:
        sources: for each of ours, the index of theirs, or None: the mean of theirs.
        count: of theirs.
        said: the plan in words.
    """

    sources: tuple[int | None, ...]
    count: int
    said: str

    def apply(self, weight: torch.Tensor) -> torch.Tensor:
        """The weights (D, C, …) of a first layer for our channels.

        A mean is multiplied by their number of channels over ours: if all channels showed the same image, the layer would answer as
        it did to theirs.
        """
        mean = weight.mean(dim=1) * (self.count / len(self.sources))
        return torch.stack([mean if source is None else weight[:, source] for source in self.sources], dim=1)


def start_from(network: DINONetwork, config: Config, channels: Sequence[str]) -> tuple[str, ...]:
    """Give a network the weights that `model.init` names.

    Args:
        network: the student, with random weights; changed in place.
        config: `model.init` and `model.init_channels`, and the architecture for messages.
        channels: names of the channels that the network takes, in order; of others, if there are more or fewer, they do not count.

    Returns:
        What was and what was not taken over, a line each.

    Raises:
        ConfigError: the weights are for another network, or `init_channels` names a channel that is not there.
        CheckpointError: the file is damaged, holds code, or is no network.
        StorageError: not there, or not readable.
    """
    url = config.model.init or ""
    weights = read_weights(url)
    wanted = network.backbone.state_dict()
    first = first_layer(network.backbone)
    _check_architecture(weights, wanted, config)
    found, classifier = without_classifier(weights.backbone, wanted)
    lines = [f"Starting from {url}{f' ({weights.network})' if weights.network else ''}:"]
    if first in found:
        ours = tuple(channels) if len(channels) == wanted[first].shape[1] else numbered(wanted[first].shape[1])
        plan = plan_channels(config, ours, found[first].shape[1], weights.channels)
        found[first] = plan.apply(found[first])
        lines.append(f"  channels: {plan.said}")
    if POSITIONS in found and POSITIONS in wanted:
        lines.append(_fit_positions(found, wanted, weights))
    check_fit(wanted, found, url, config.model.arch, "use weights of the architecture in model.arch, or change that.")
    network.backbone.load_state_dict(found)
    lines.insert(1, f"  backbone: all {len(found)} tensors of {config.model.arch}")
    lines.append(_start_head(network.head, weights.head))
    if classifier:
        lines.append(f"  not taken: {', '.join(classifier)} (a classifier)")
    return tuple(lines)


def plan_channels(config: Config, ours: Sequence[str], count: int, theirs: Sequence[str] | None) -> ChannelPlan:
    """Which of their channels each of ours takes over.

    By `model.init_channels` where it is given; else by name where both have names; else in order where neither has names and both are
    as many; else the mean for each.

    Args:
        config: holds `model.init_channels`.
        ours: names of our channels; `channel_0` … where they have none.
        count: number of theirs.
        theirs: their names, where known.

    Raises:
        ConfigError: `init_channels` names a channel that is not there.
    """
    text = (config.model.init_channels or "").strip()
    named = not are_numbered(ours)
    sources: list[int | None] = [None] * len(ours)
    hint = ""
    if text and text.lower() != MEAN:
        sources = _given_channels(config, text, ours, count, theirs)
    elif not text and named and theirs:
        sources = [theirs.index(name) if name in theirs else None for name in ours]
    elif not text and not named and not theirs and len(ours) == count:
        sources = list(range(count))
    elif not text:
        hint = f"; name theirs in model.init_channels, such as '{ours[0]}=0', to take them over one by one"
    return ChannelPlan(tuple(sources), count, _said(ours, sources, count, theirs) + hint)


def _given_channels(config: Config, text: str, ours: Sequence[str], count: int, theirs: Sequence[str] | None) -> list[int | None]:
    where = config.where("model", "init_channels")
    sources: list[int | None] = [None] * len(ours)
    for pair in text.split(","):
        our, equals, their = (part.strip() for part in pair.partition("="))
        if not equals or not their:
            raise ConfigError(f"{where}: '{pair.strip()}' is no pair; write our channel = theirs, such as 'protein=1,nucleus=2', or mean.")
        if our not in ours:
            raise ConfigError(f"{where}: '{our}' is none of our channels ({', '.join(ours)}){_near(our, ours)}.")
        if their.isdecimal() and int(their) < count:
            sources[ours.index(our)] = int(their)
        elif theirs and their in theirs:
            sources[ours.index(our)] = theirs.index(their)
        else:
            known = f"0 to {count - 1}" + (f" or {', '.join(theirs)}" if theirs else "")
            raise ConfigError(f"{where}: '{their}' is none of their channels; these weights have {known}{_near(their, theirs or ())}.")
    return sources


def _near(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _said(ours: Sequence[str], sources: Sequence[int | None], count: int, theirs: Sequence[str] | None) -> str:
    taken = [
        f"{name} from {theirs[source] if theirs else source}" for name, source in zip(ours, sources, strict=True) if source is not None
    ]
    meant = [name for name, source in zip(ours, sources, strict=True) if source is None]
    mean = f"{', '.join(meant)} from the mean of their {count}" if meant else ""
    return ", ".join(taken) + ("; " if taken and mean else "") + mean


def _check_architecture(weights: Weights, wanted: Mapping[str, torch.Tensor], config: Config) -> None:
    """Refuse weights of another kind, width or patch size with a sentence that says both."""
    where, arch = config.where("model", "init"), config.model.arch
    ours_is_transformer = PATCH_EMBEDDING in wanted
    if weights.is_transformer != ours_is_transformer:
        kinds = {True: "a vision transformer", False: "none"}
        raise ConfigError(
            f"{where}: {weights.url} is {kinds[weights.is_transformer]} and model.arch, {arch}, is {kinds[ours_is_transformer]}; "
            "use weights of the architecture in model.arch, or change that."
        )
    if not ours_is_transformer:
        return
    width, patch = wanted[PATCH_EMBEDDING].shape[0], wanted[PATCH_EMBEDDING].shape[-1]
    if weights.width != width:
        raise ConfigError(
            f"{where}: {weights.url} has tokens of {weights.width} features and model.arch, {arch}, of {width}; "
            "use weights of the architecture in model.arch, or change that."
        )
    if weights.patch_size != patch:
        raise ConfigError(
            f"{where}: {weights.url} has patches of {weights.patch_size} px and model.patch_size is {patch}; make them agree."
        )


def _fit_positions(found: Tensors, wanted: Mapping[str, torch.Tensor], weights: Weights) -> str:
    """Bring their position embeddings to our grid; returns what was done."""
    theirs, ours = weights.grid_side, round((wanted[POSITIONS].shape[1] - 1) ** 0.5)
    if theirs == ours:
        return f"  positions: {ours} × {ours}, as they are"
    found[POSITIONS] = interpolate_positions(found[POSITIONS], ours, ours)
    return f"  positions: {theirs} × {theirs}, interpolated to {ours} × {ours}"


def _start_head(head: DINOHead, found: Tensors) -> str:
    """Give the projection head their weights where all shapes are the same; returns what was done."""
    wanted = head.state_dict()
    if not found:
        return "  head: not in the file, starts at random"
    sizes = [(tuple(found[name].shape) if name in found else None, tuple(wanted[name].shape)) for name in wanted]
    if any(theirs != ours for theirs, ours in sizes) or len(found) != len(wanted):
        theirs = found["last_layer.weight_v"].shape[0] if "last_layer.weight_v" in found else "unknown"
        return f"  head: not taken, is of another shape ({theirs} prototypes, ours {len(wanted['last_layer.weight_v'])}), starts at random"
    head.load_state_dict(found)
    if not head.last_layer.weight_g.requires_grad:  # model.norm_last_layer
        nn.init.ones_(head.last_layer.weight_g)
    return f"  head: taken, {len(found)} tensors, {len(wanted['last_layer.weight_v'])} prototypes"
