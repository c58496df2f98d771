"""Normalization of pixel values: by given numbers, or each image by itself (HANDBOOK, Transforms).

Dimensions: N samples of a view, C channels, H height, W width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from dino4cells.augment.constants import constant
from dino4cells.augment.intensity import Drawn, Intensity
from dino4cells.augment.parameters import PerChannel, PositivePerChannel
from dino4cells.errors import ConfigError

EPSILON = 1e-7


@dataclass(frozen=True)
class Normalize(Intensity):
    """Subtracts a mean and divides by a standard deviation per channel; one number stands for all, `data` for the data's own."""

    random: ClassVar[bool] = False
    pixelwise: ClassVar[bool] = True

    mean: PerChannel
    std: PositivePerChannel

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        mean, std = (constant(numbers, like=views_NCHW)[:, None, None] for numbers in (self.mean, self.std))
        return views_NCHW.sub_(mean).div_(std)

    def channels_after(self, channels: int) -> int:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise ConfigError(
                    f"{name} has {len(values)} numbers and the images have {channels} channels; give one each, or one for all."
                )
        return channels


@dataclass(frozen=True)
class SelfNormalize(Intensity):
    """Subtracts each channel's mean and divides by its population standard deviation + 1e-7, per image."""

    random: ClassVar[bool] = False

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        centred_NCHW = views_NCHW.sub_(views_NCHW.mean(dim=(2, 3), keepdim=True))
        # The root of the sum of squares: on a CPU some forty times faster than torch.std.
        norm = torch.linalg.vector_norm(centred_NCHW, dim=(2, 3), keepdim=True)
        return centred_NCHW.div_(norm / math.sqrt(views_NCHW.shape[2] * views_NCHW.shape[3]) + EPSILON)


@dataclass(frozen=True)
class SelfNormalizeWithoutBlackPixels(Intensity):
    """As self_normalize, with the mean and deviation of the pixels above 0; a channel without one stays as it is."""

    random: ClassVar[bool] = False

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        seen = views_NCHW > 0
        count = seen.sum(dim=(2, 3), keepdim=True)
        mean = (views_NCHW * seen).sum(dim=(2, 3), keepdim=True) / count.clamp(min=1)
        variance = ((views_NCHW - mean).square() * seen).sum(dim=(2, 3), keepdim=True) / count.clamp(min=1)
        return torch.where(count > 0, (views_NCHW - mean) / (variance.sqrt() + EPSILON), views_NCHW)
