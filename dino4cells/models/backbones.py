"""Every architecture that `model.arch` names, built."""

from __future__ import annotations

import torch

from dino4cells.config.architectures import ALIASES, TORCHVISION, VISION_TRANSFORMERS
from dino4cells.errors import ConfigError
from dino4cells.models.backbone import Backbone
from dino4cells.models.vit import vision_transformer
from dino4cells.models.xresnet import DEPTHS, XResNet


def build_backbone(arch: str, patch_size: int, image_size: int, channels: int, *, drop_path_rate: float = 0.0, seed: int = 0) -> Backbone:
    """A backbone with random weights that depend on `seed` alone, on the CPU, in training mode.

    Args:
        arch: `vit_tiny`, `vit_small`, `vit_base` (`deit_*` are aliases), `xresnet18` … `xresnet152`, or a network of torchvision
            (`config.architectures`).
        patch_size, image_size: of a vision transformer, in pixels; the others have neither.
        channels: of the images.
        drop_path_rate: stochastic depth (Huang et al. 2016) of the last block, rising linearly from 0; networks without stochastic depth
            (ResNet and XResNet among them) ignore it, as in the published code.

    Raises:
        ConfigError: unknown architecture, or sizes that do not fit.

    Example:
        >>> build_backbone("xresnet18", 16, 224, channels=5).embed_dim
        512
    """
    name = ALIASES.get(arch, arch)
    if channels < 1:
        raise ConfigError(f"model.num_channels: must be at least 1, not {channels}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in VISION_TRANSFORMERS:
            return vision_transformer(name, patch_size, image_size, channels, drop_path_rate)
        if name in DEPTHS:
            return XResNet(name, channels)
        if name in TORCHVISION:
            from dino4cells.models.from_torchvision import torchvision_backbone  # takes longer to import than PyTorch itself

            return torchvision_backbone(name, channels, drop_path_rate)
    raise ConfigError(
        f"model.arch: '{arch}' is not available; choose one of {', '.join((*VISION_TRANSFORMERS, *DEPTHS))}, or a network of torchvision "
        "for images of any size, such as resnet50."
    )
