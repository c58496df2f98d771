"""Models out of checkpoints that others wrote: DINO4Cells' own, and DINO's on photographs (HANDBOOK, Files).

A checkpoint is its tensors; what else extraction needs is in the configuration, as it was for the code that wrote it.
"""

from __future__ import annotations

from dino4cells.artifacts import SingleFile
from dino4cells.config import Config
from dino4cells.config.architectures import ALIASES, ARCHITECTURES, VISION_TRANSFORMERS
from dino4cells.data.channels import Names, numbered
from dino4cells.data.metadata import Metadata
from dino4cells.data.source import image_source
from dino4cells.errors import CheckpointError
from dino4cells.models.artifact import NetworkCard, TrainedModel, untrained_backbone
from dino4cells.models.backbones import build_backbone
from dino4cells.models.vit import ARCHITECTURES as WIDTHS
from dino4cells.models.vit import PATCH_SIZES
from dino4cells.models.weights import PATCH_EMBEDDING, Weights, check_fit, first_layer, read_weights, without_classifier


def load_published(url: str, config: Config, metadata: Metadata | None = None) -> TrainedModel:
    """A model from a checkpoint or a state dictionary, with the teacher's weights where the file has both networks.

    Args:
        url: the file.
        config: gives the image mode, the names of the channels and the transforms of extraction, which the file does not hold.
        metadata: the cells that features are wanted of; their channels count where the image mode or a transform uses some of them.

    Raises:
        CheckpointError: damaged, holding code, or not a network of an architecture that is available.
        StorageError: not there, or not readable.
    """
    weights = read_weights(url)
    arch, patch_size, image_size = _transformer(weights) if weights.is_transformer else _convolutional(weights, config)
    in_channels = _in_channels(weights, arch)
    card = NetworkCard(
        arch=arch,
        patch_size=patch_size,
        image_size=image_size,
        embedding_dim=1,  # known when the network is built
        channels=_channels(in_channels, config, metadata),
        image_mode=config.model.image_mode,
        in_channels=in_channels,
        seed=config.model.seed,
        normalization=[[name, parameters] for name, parameters in config.section("testing_transfo")],
    )
    backbone = untrained_backbone(card)
    tensors, _ = without_classifier(weights.backbone, backbone.state_dict())
    check_fit(backbone.state_dict(), tensors, url, arch, "use a checkpoint of an architecture that is available.")
    backbone.load_state_dict(tensors)
    card = card.model_copy(update={"embedding_dim": backbone.embed_dim})
    return TrainedModel(card, config, backbone.eval(), SingleFile(url, weights.fingerprint))


def _transformer(weights: Weights) -> tuple[str, int, int]:
    """Architecture, patch size, and side in pixels that the positions are stored for, as the shapes say them."""
    names = {width: name for name, (width, _) in WIDTHS.items()}
    if weights.width not in names:
        known = ", ".join(f"{width} ({name})" for width, name in names.items())
        raise CheckpointError(f"{weights.url}: its tokens have {weights.width} features; choose a network whose tokens have {known}.")
    if weights.patch_size not in PATCH_SIZES:
        raise CheckpointError(f"{weights.url}: its patches have {weights.patch_size} pixels; choose a network with patches of 8 or 16.")
    return names[weights.width], weights.patch_size, weights.grid_side * weights.patch_size


def _convolutional(weights: Weights, config: Config) -> tuple[str, int, int]:
    """The same of another network, which the file's settings name, or else the configuration."""
    said = (weights.settings.get("arch"), config.model.arch)
    for name in said:
        arch = ALIASES.get(name, name) if isinstance(name, str) else ""
        if arch in ARCHITECTURES and arch not in VISION_TRANSFORMERS:
            return arch, config.model.patch_size, config.model.image_size
    raise CheckpointError(
        f"{weights.url}: is no vision transformer of DINO or timm, and nothing says what it is; "
        "name its architecture in model.arch, such as resnet50 or xresnet50."
    )


def _in_channels(weights: Weights, arch: str) -> int:
    """Channels that the network takes: those of its first layer."""
    name = PATCH_EMBEDDING if weights.is_transformer else first_layer(build_backbone(arch, PATCH_SIZES[0], PATCH_SIZES[0], 3))
    if name not in weights.backbone:
        raise CheckpointError(f"{weights.url}: is no {arch}: it lacks '{name}'; correct model.arch, or use another file.")
    return weights.backbone[name].shape[1]


def _channels(in_channels: int, config: Config, metadata: Metadata | None) -> Names:
    """Names of the channels that the model was trained on, as far as they are known."""
    if config.model.channels:
        return tuple(config.model.channels)
    every = config.model.image_mode.startswith(("normalized", "unnormalized"))
    one = any(name == "Get_specific_channel" for name, _ in config.section("testing_transfo"))
    if metadata is None or (every and not one) or config.embedding.channels:
        return numbered(in_channels)
    return image_source(metadata, config.model).channels
