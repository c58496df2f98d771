"""Models out of checkpoints that others wrote: DINO4Cells' own, and DINO's on photographs (HANDBOOK, Files).

A checkpoint is its tensors; what else extraction needs is in the configuration, as it was for the code that wrote it.
"""

from __future__ import annotations

from dino4cells.artifacts import SingleFile
from dino4cells.config import Config
from dino4cells.errors import CheckpointError
from dino4cells.models.artifact import NetworkCard, TrainedModel, untrained_backbone
from dino4cells.models.vit import ARCHITECTURES, PATCH_SIZES
from dino4cells.models.weights import Weights, check_fit, read_weights


def load_published(url: str, config: Config) -> TrainedModel:
    """A model from a checkpoint or a state dictionary, with the teacher's weights where the file has both networks.

    Args:
        url: the file.
        config: gives the image mode, the names of the channels and the transforms of extraction, which the file does not hold.

    Raises:
        CheckpointError: damaged, holding code, or not a network of an architecture that is available.
        StorageError: not there, or not readable.
    """
    weights = read_weights(url)
    card = describe(weights, config)
    backbone = untrained_backbone(card)
    check_fit(backbone.state_dict(), weights.backbone, url, card.arch, "use a checkpoint of this architecture.")
    backbone.load_state_dict(weights.backbone)
    return TrainedModel(card, config, backbone.eval(), SingleFile(url, weights.fingerprint))


def describe(weights: Weights, config: Config) -> NetworkCard:
    """What a file's network is: of a vision transformer the shapes say it, of another the file's settings or the configuration.

    Raises:
        CheckpointError: a vision transformer of a width or patch size that is not available.
    """
    arch, patch_size, image_size = _transformer(weights)
    channels = weights.backbone["patch_embed.proj.weight"].shape[1]
    names = weights.channels or config.model.channels
    return NetworkCard(
        arch=arch,
        patch_size=patch_size,
        image_size=image_size,
        embedding_dim=weights.width,
        channels=tuple(names) if names and len(names) == channels else tuple(f"channel_{index}" for index in range(channels)),
        image_mode=config.model.image_mode,
        in_channels=channels,
        seed=config.model.seed,
        normalization=[[name, parameters] for name, parameters in config.section("testing_transfo")],
    )


def _transformer(weights: Weights) -> tuple[str, int, int]:
    """Architecture, patch size, and side in pixels that the positions are stored for."""
    names = {width: name for name, (width, _) in ARCHITECTURES.items()}
    if weights.width not in names:
        known = ", ".join(f"{width} ({name})" for width, name in names.items())
        raise CheckpointError(f"{weights.url}: its tokens have {weights.width} features; the architectures here have {known}.")
    if weights.patch_size not in PATCH_SIZES:
        raise CheckpointError(f"{weights.url}: its patches have {weights.patch_size} pixels; those here have 8 or 16.")
    return names[weights.width], weights.patch_size, weights.grid_side * weights.patch_size
