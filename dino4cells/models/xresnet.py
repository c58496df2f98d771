"""XResNet: the residual networks of He et al. 2019 ("Bag of tricks", ResNet-D) as fastai has them.

A stem of three 3×3 convolutions, average pooling before the 1×1 convolution of a shortcut, and residual branches that begin as zero.
Modules are numbered and named as in the published code, so that a checkpoint has the same keys here and there.

Dimensions: B batch, C channels, H height, W width, D embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from dino4cells.models.backbone import Backbone

# Blocks of the four stages, and how many times wider a block's output is than its 3×3 convolution.
DEPTHS = {
    "xresnet18": ((2, 2, 2, 2), 1),
    "xresnet34": ((3, 4, 6, 3), 1),
    "xresnet50": ((3, 4, 6, 3), 4),
    "xresnet101": ((3, 4, 23, 3), 4),
    "xresnet152": ((3, 8, 36, 3), 4),
}
STEM = (32, 32, 64)
WIDTHS = (64, 128, 256, 512)


def _convolution(inputs: int, outputs: int, side: int, stride: int = 1, *, rectified: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if rectified else nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """relu(convs(x) + shortcut(x)): two 3×3 convolutions, or with an expansion above one 1×1, 3×3, 1×1."""

    def __init__(self, inputs: int, width: int, expansion: int, stride: int) -> None:
        super().__init__()
        outputs = width * expansion
        if expansion == 1:
            layers = [_convolution(inputs, width, 3, stride), _convolution(width, outputs, 3, rectified=False)]
        else:
            layers = [_convolution(inputs, width, 1), _convolution(width, width, 3, stride)]
            layers.append(_convolution(width, outputs, 1, rectified=False))
        self.convs = nn.Sequential(*layers)
        self.idconv = nn.Identity() if inputs == outputs else _convolution(inputs, outputs, 1, rectified=False)
        self.pool = nn.Identity() if stride == 1 else nn.AvgPool2d(2, ceil_mode=True)

    def forward(self, features_BCHW: torch.Tensor) -> torch.Tensor:
        return F.relu(self.convs(features_BCHW) + self.idconv(self.pool(features_BCHW)))


class XResNet(nn.Sequential, Backbone):
    """The network up to its global average pool; D is 512, from xresnet50 on 2048. `build_backbone` makes one.

    Args:
        arch: a key of `DEPTHS`.
        channels: C.
    """

    smallest_side = 1

    def __init__(self, arch: str, channels: int) -> None:
        depths, expansion = DEPTHS[arch]
        stem = [
            _convolution(inputs, outputs, 3, 2 if number == 0 else 1)
            for number, (inputs, outputs) in enumerate(zip((channels, *STEM), STEM, strict=False))
        ]
        stages, inputs = [], STEM[-1]
        for number, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True)):
            blocks = []
            for place in range(depth):
                blocks.append(ResidualBlock(inputs, width, expansion, 2 if number and place == 0 else 1))
                inputs = width * expansion
            stages.append(nn.Sequential(*blocks))
        super().__init__(*stem, nn.MaxPool2d(3, 2, padding=1), *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.embed_dim = inputs
        _initialize(self)


def _initialize(network: nn.Module) -> None:
    """fastai's: He's normal by the inputs for convolutions, and zero for the last scale of every residual branch."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, ResidualBlock):
            nn.init.zeros_(module.convs[-1].get_parameter("1.weight"))
