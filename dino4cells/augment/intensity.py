"""Intensity transforms of the handbook: each maps a batch of views in [0, 1] (HANDBOOK, Transforms).

Dimensions: N samples of a view, C channels, H height, W width. Factors are drawn per sample and, where the handbook says so, per channel.
Channel 1 is the protein and channels 0, 2 and 3 are its markers, as in HPA's order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from dino4cells.augment.draws import Draws
from dino4cells.augment.parameters import NotNegative, PerChannel, PositivePerChannel, Probability
from dino4cells.errors import ConfigError

PROTEIN = 1
MARKERS = (0, 2, 3)
GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision rounds it


@dataclass(frozen=True)
class Intensity:
    """A transform of pixel values that leaves positions alone."""

    def apply(self, views_NCHW: torch.Tensor, draws: Draws) -> torch.Tensor:
        """The changed views; the argument is not modified."""
        raise TypeError(f"{type(self).__name__} does not say what it does")


def _where(chosen_N: torch.Tensor, changed_NCHW: torch.Tensor, views_NCHW: torch.Tensor) -> torch.Tensor:
    return torch.where(chosen_N[:, None, None, None], changed_NCHW, views_NCHW)


def _factor(draws: Draws, p: float, channels: int) -> torch.Tensor:
    return draws.normal(1.0, p, each=channels).clamp(min=0.5)[:, :, None, None]


@dataclass(frozen=True)
class ChangeBrightness(Intensity):
    """Change_brightness: multiplies each channel by max(N(1, p), 0.5) and clamps to [0, 1]."""

    p: NotNegative = 0.5

    def apply(self, views_NCHW: torch.Tensor, draws: Draws) -> torch.Tensor:
        return (views_NCHW * _factor(draws, self.p, views_NCHW.shape[1])).clamp(0, 1)


@dataclass(frozen=True)
class ChangeContrast(Intensity):
    """Change_contrast: moves each channel away from or towards its mean by the factor max(N(1, p), 0.5) and clamps to [0, 1]."""

    p: NotNegative = 0.5

    def apply(self, views_NCHW: torch.Tensor, draws: Draws) -> torch.Tensor:
        mean = views_NCHW.mean(dim=(2, 3), keepdim=True)
        return (mean + (views_NCHW - mean) * _factor(draws, self.p, views_NCHW.shape[1])).clamp(0, 1)


@dataclass(frozen=True)
class RemoveChannel(Intensity):
    """remove_channel: with probability p zeroes one of the marker channels 0, 2, 3, never the protein; needs four channels."""

    p: Probability = 0.2

    def apply(self, views_NCHW: torch.Tensor, draws: Draws) -> torch.Tensor:
        chosen, which = draws.chance(self.p), draws.integers(len(MARKERS))
        if views_NCHW.shape[1] < 4:
            return views_NCHW
        removed = F.one_hot(torch.tensor(MARKERS, device=which.device)[which], views_NCHW.shape[1]).bool() & chosen[:, None]
        return views_NCHW.masked_fill(removed[:, :, None, None], 0)


def _replace_protein(views_NCHW: torch.Tensor, protein_NHW: torch.Tensor) -> torch.Tensor:
    return torch.cat([views_NCHW[:, :PROTEIN], protein_NHW[:, None], views_NCHW[:, PROTEIN + 1 :]], dim=1)


@dataclass(frozen=True)
class RescaleProtein(Intensity):
    """rescale_protein: with probability p multiplies the protein by U(0, 2)/max(image) and clamps to [0, 1]."""

    p: Probability = 0.2

    def apply(self, views_NCHW: torch.Tensor, draws: Draws) -> torch.Tensor:
        chosen, factor = draws.chance(self.p), draws.uniform(0, 2)
        if views_NCHW.shape[1] <= PROTEIN:
            return views_NCHW
        factor = factor / views_NCHW.amax(dim=(1, 2, 3)).clamp(min=1e-6)
        return _where(chosen, _replace_protein(views_NCHW, (views_NCHW[:, PROTEIN] * factor[:, None, None]).clamp(0, 1)), views_NCHW)


@dataclass(frozen=True)
class ThresholdProtein(Intensity):
    """Threshold_protein: with probability p zeroes protein values below a uniform threshold in 0 … 49 of 255."""

    p: Probability = 0.2

    def apply(self, views_NCHW: torch.Tensor, draws: Draws) -> torch.Tensor:
        chosen, threshold = draws.chance(self.p), draws.integers(50).to(views_NCHW.dtype) / 255
        if views_NCHW.shape[1] <= PROTEIN:
            return views_NCHW
        protein = views_NCHW[:, PROTEIN]
        kept = torch.where(protein < threshold[:, None, None], torch.zeros_like(protein), protein)
        return _where(chosen, _replace_protein(views_NCHW, kept), views_NCHW)


@dataclass(frozen=True)
class Solarization(Intensity):
    """Solarization: with probability p inverts the values of at least one half."""

    p: Probability = 0.2

    def apply(self, views_NCHW: torch.Tensor, draws: Draws) -> torch.Tensor:
        return _where(draws.chance(self.p), torch.where(views_NCHW >= 0.5, 1 - views_NCHW, views_NCHW), views_NCHW)


@dataclass(frozen=True)
class GaussianBlur(Intensity):
    """GaussianBlur: with probability p blurs with a standard deviation U(radius_min, radius_max) in pixels of the view."""

    p: Probability = 0.5
    radius_min: NotNegative = 0.1
    radius_max: NotNegative = 2.0

    def __post_init__(self) -> None:
        if self.radius_min > self.radius_max:
            raise ValueError(f"radius_min ({self.radius_min}) must be at most radius_max ({self.radius_max})")

    def apply(self, views_NCHW: torch.Tensor, draws: Draws) -> torch.Tensor:
        chosen, sigma = draws.chance(self.p), draws.uniform(self.radius_min, self.radius_max)
        reach = min(int(3 * self.radius_max + 0.5), min(views_NCHW.shape[2:]) - 1)
        offsets = torch.arange(-reach, reach + 1, device=views_NCHW.device, dtype=views_NCHW.dtype)
        kernel_NK = torch.exp(-0.5 * (offsets / sigma[:, None].clamp(min=1e-3)) ** 2)
        kernel_NK = kernel_NK / kernel_NK.sum(dim=1, keepdim=True)
        count, channels, height, width = views_NCHW.shape
        # One convolution for the batch: groups are samples.
        planes = F.pad(views_NCHW, (reach,) * 4, mode="reflect").transpose(0, 1)
        planes = F.conv2d(planes, kernel_NK[:, None, :, None], groups=count)
        planes = F.conv2d(planes, kernel_NK[:, None, None, :], groups=count)
        return _where(chosen, planes.transpose(0, 1).reshape(count, channels, height, width), views_NCHW)


def _grey(views_NCHW: torch.Tensor) -> torch.Tensor:
    """(N, 1, H, W): the luminance of three channels, the mean of any other number."""
    if views_NCHW.shape[1] != 3:
        return views_NCHW.mean(dim=1, keepdim=True)
    weights = torch.tensor(GREY_WEIGHTS, device=views_NCHW.device, dtype=views_NCHW.dtype)[:, None, None]
    return (views_NCHW * weights).sum(dim=1, keepdim=True)


@dataclass(frozen=True)
class ColorJitter(Intensity):
    """ColorJitter for views of three channels, applied with probability 0.8: brightness, contrast and saturation as in torchvision.

    Brightness and contrast factors are shared by the channels; saturation blends with grey. Other numbers of channels get brightness
    and contrast alone.
    """

    brightness: NotNegative = 0.4
    contrast: NotNegative = 0.4
    saturation: NotNegative = 0.2
    p: Probability = 0.8

    def apply(self, views_NCHW: torch.Tensor, draws: Draws) -> torch.Tensor:
        chosen = draws.chance(self.p)
        brightness, contrast, saturation = (
            draws.uniform(max(0.0, 1 - strength), 1 + strength)[:, None, None, None]
            for strength in (self.brightness, self.contrast, self.saturation)
        )
        views = (views_NCHW * brightness).clamp(0, 1)
        mean = _grey(views).mean(dim=(1, 2, 3), keepdim=True)
        views = (mean + (views - mean) * contrast).clamp(0, 1)
        if views.shape[1] == 3:
            grey = _grey(views)
            views = (grey + (views - grey) * saturation).clamp(0, 1)
        return _where(chosen, views, views_NCHW)


@dataclass(frozen=True)
class Normalize(Intensity):
    """Normalize: subtracts a mean and divides by a standard deviation per channel; one number stands for all channels."""

    mean: PerChannel = (0.5,)
    std: PositivePerChannel = (0.5,)

    def apply(self, views_NCHW: torch.Tensor, draws: Draws) -> torch.Tensor:
        channels = views_NCHW.shape[1]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise ConfigError(f"Normalize: '{name}' has {len(values)} values and the images have {channels} channels; give one each.")
        mean, std = (torch.tensor(v, device=views_NCHW.device, dtype=views_NCHW.dtype)[:, None, None] for v in (self.mean, self.std))
        return (views_NCHW - mean) / std


@dataclass(frozen=True)
class SelfNormalize(Intensity):
    """self_normalize: per image and channel, subtracts the mean and divides by the population standard deviation + 1e-7."""

    def apply(self, views_NCHW: torch.Tensor, draws: Draws) -> torch.Tensor:
        deviation, mean = torch.std_mean(views_NCHW, dim=(2, 3), correction=0, keepdim=True)
        return (views_NCHW - mean) / (deviation + 1e-7)


@dataclass(frozen=True)
class ToTensor(Intensity):
    """ToTensor: nothing to do, images are tensors in [0, 1] already."""

    def apply(self, views_NCHW: torch.Tensor, draws: Draws) -> torch.Tensor:
        return views_NCHW
