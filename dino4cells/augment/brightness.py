"""Brightness, contrast, solarization and blur (HANDBOOK, Transforms).

Dimensions: N samples of a view, C channels, H height, W width, K taps of a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from dino4cells.augment.draws import Draws
from dino4cells.augment.intensity import Drawn, Intensity, on_first_four, where_chosen
from dino4cells.augment.parameters import NotNegative, Probability


@dataclass(frozen=True)
class _FactorOfEachChannel(Intensity):
    p: NotNegative = 0.2

    def draw(self, draws: Draws, channels: int) -> Drawn:
        """Factors max(N(1, p), 0.5), (N, C, 1, 1)."""
        return (draws.normal(1.0, self.p, each=channels).clamp(min=0.5)[:, :, None, None],)


@dataclass(frozen=True)
class ChangeBrightness(_FactorOfEachChannel):
    """Multiplies each channel by its own max(N(1, p), 0.5) and clamps to [0, 1]; always, p is no probability."""

    pixelwise: ClassVar[bool] = True

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        return views_NCHW.mul_(drawn[0]).clamp_(0, 1)


@dataclass(frozen=True)
class ChangeContrast(_FactorOfEachChannel):
    """Moves each channel from or to its mean by its own factor max(N(1, p), 0.5) and clamps to [0, 1]; always, p is no probability."""

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        mean_NC11 = views_NCHW.mean(dim=(2, 3), keepdim=True)
        return views_NCHW.mul_(drawn[0]).add_(mean_NC11 * (1 - drawn[0])).clamp_(0, 1)


@dataclass(frozen=True)
class Solarization(Intensity):
    """Inverts the values of at least one half (128 of 255), with probability p."""

    pixelwise: ClassVar[bool] = True

    p: Probability = 0.2

    def draw(self, draws: Draws, channels: int) -> Drawn:
        return (draws.chance(self.p),)

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        return where_chosen(drawn[0], torch.where(views_NCHW >= 0.5, 1 - views_NCHW, views_NCHW), views_NCHW)


@dataclass(frozen=True)
class SolarizationOfFour(Solarization):
    """Inverts the values of at least one half in the first four channels, with probability p; the others are left alone."""

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        return on_first_four(super().change, views_NCHW, drawn)


@dataclass(frozen=True)
class GaussianBlur(Intensity):
    """Blurs with a standard deviation U(radius_min, radius_max) in pixels of the view, with probability p.

    The image goes on beyond its border as it is there; Pillow, which the original uses, does the same and replaces the Gaussian by
    three boxes.
    """

    p: Probability = 0.5
    radius_min: NotNegative = 0.1
    radius_max: NotNegative = 2.0

    def __post_init__(self) -> None:
        if self.radius_min > self.radius_max:
            raise ValueError(f"radius_min ({self.radius_min:g}) must be at most radius_max ({self.radius_max:g})")

    def draw(self, draws: Draws, channels: int) -> Drawn:
        return draws.chance(self.p), draws.uniform(self.radius_min, self.radius_max)

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        chosen, sigma = drawn
        reach = int(3 * self.radius_max + 0.5)
        offsets = torch.arange(-reach, reach + 1, device=views_NCHW.device, dtype=views_NCHW.dtype)
        kernel_NK = torch.exp(-0.5 * (offsets / sigma[:, None].clamp(min=1e-3)) ** 2)
        kernel_NK = kernel_NK / kernel_NK.sum(dim=1, keepdim=True)
        count, channels, height, width = views_NCHW.shape
        # One convolution for the batch: groups are samples.
        planes = F.pad(views_NCHW, (reach,) * 4, mode="replicate").transpose(0, 1)
        planes = F.conv2d(planes, kernel_NK[:, None, :, None], groups=count)
        planes = F.conv2d(planes, kernel_NK[:, None, None, :], groups=count)
        return where_chosen(chosen, planes.transpose(0, 1).reshape(count, channels, height, width), views_NCHW)


@dataclass(frozen=True)
class GaussianBlurOfFour(GaussianBlur):
    """Blurs the first four channels as GaussianBlur, with probability p; the others are left alone."""

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        return on_first_four(super().change, views_NCHW, drawn)
