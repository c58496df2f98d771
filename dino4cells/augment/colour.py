"""Colour jitter: brightness, contrast, saturation and hue in random order, as torchvision's (HANDBOOK, Transforms).

Dimensions: N samples of a view, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dino4cells.augment.constants import constant
from dino4cells.augment.draws import Draws
from dino4cells.augment.intensity import Drawn, Intensity, on_first_four, where_chosen
from dino4cells.augment.parameters import HueShift, Probability, Strength
from dino4cells.errors import ConfigError

GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision rounds it


def _grey(views_NCHW: torch.Tensor) -> torch.Tensor:
    """(N, 1, H, W): the luminance of three channels, the mean of any other number."""
    if views_NCHW.shape[1] != 3:
        return views_NCHW.mean(dim=1, keepdim=True)
    weights = constant(GREY_WEIGHTS, like=views_NCHW)[:, None, None]
    return (views_NCHW * weights).sum(dim=1, keepdim=True)


def _brightness(views_NCHW: torch.Tensor, factor_N111: torch.Tensor) -> torch.Tensor:
    return (views_NCHW * factor_N111).clamp(0, 1)


def _contrast(views_NCHW: torch.Tensor, factor_N111: torch.Tensor) -> torch.Tensor:
    mean = _grey(views_NCHW).mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (views_NCHW - mean) * factor_N111).clamp(0, 1)


def _saturation(views_NCHW: torch.Tensor, factor_N111: torch.Tensor) -> torch.Tensor:
    if views_NCHW.shape[1] == 1:
        return views_NCHW
    grey = _grey(views_NCHW)
    return (grey + (views_NCHW - grey) * factor_N111).clamp(0, 1)


def _hue(views_NCHW: torch.Tensor, shift_N111: torch.Tensor) -> torch.Tensor:
    """Turns the colour circle by a part of it; value (the maximum) and chroma (maximum − minimum) of a pixel stay."""
    if views_NCHW.shape[1] == 1:
        return views_NCHW
    red, green, blue = views_NCHW[:, 0:1], views_NCHW[:, 1:2], views_NCHW[:, 2:3]
    value, least = views_NCHW.amax(dim=1, keepdim=True), views_NCHW.amin(dim=1, keepdim=True)
    chroma = value - least
    divisor = torch.where(chroma > 0, chroma, 1.0)
    sixths = torch.where(
        value == red, (green - blue) / divisor, torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor)
    )
    # A channel is at its maximum within one sixth of the circle around its own colour, and at its minimum from two sixths on.
    starts_3 = constant((5, 3, 1), like=views_NCHW)[:, None, None]
    places = (starts_3 + sixths + 6 * shift_N111).remainder(6)
    return (value - chroma * torch.minimum(places, 4 - places).clamp(0, 1)).clamp(0, 1)


_CHANGES = (_brightness, _contrast, _saturation, _hue)


@dataclass(frozen=True)
class ColorJitter(Intensity):
    """Changes brightness, contrast, saturation and hue in random order, all with probability p.

    A strength s stands for factors from 1 − s to 1 + s, shared by the channels, and for hue h for shifts by −h to h of the colour
    circle; two numbers are the range itself. A view of one channel has neither saturation nor hue to change; views of other numbers than
    three have no colours, and take brightness and contrast alone.
    """

    brightness: Strength = 0.0
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    hue: HueShift = 0.0
    p: Probability = 0.8

    def draw(self, draws: Draws, channels: int) -> Drawn:
        """Whether each sample is changed (N,), the order of the four changes (N, 4), and their factors or shift (N, 4)."""
        chosen, order = draws.chance(self.p), draws.uniform(each=4).argsort(dim=1)
        ranges = [*(_around(1.0, strength) for strength in (self.brightness, self.contrast, self.saturation)), _around(0.0, self.hue)]
        return chosen, order, torch.stack([draws.uniform(*bounds) for bounds in ranges], dim=1)

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        chosen, order_N4, factors_N4 = drawn
        views = views_NCHW.clone()
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        active = [number for number, strength in enumerate(strengths) if not _is_nothing(strength)]
        for turn in range(4):
            for number in active:
                now = chosen & (order_N4[:, turn] == number)
                views[now] = _CHANGES[number](views[now], factors_N4[now, number, None, None, None])
        return where_chosen(chosen, views, views_NCHW)

    def channels_after(self, channels: int) -> int:
        coloured = not (_is_nothing(self.saturation) and _is_nothing(self.hue))
        if coloured and channels not in (1, 3):
            raise ConfigError(
                f"the images have {channels} channels, and only three have saturation and hue; "
                "take ColorJitter_for_RGBA, or set saturation and hue to 0."
            )
        return channels


def _around(middle: float, strength: float | tuple[float, float]) -> tuple[float, float]:
    """The range that a strength stands for; factors, which lie around 1, are never below 0."""
    if isinstance(strength, tuple):
        return strength
    return (max(0.0, middle - strength) if middle else -strength), middle + strength


def _is_nothing(strength: float | tuple[float, float]) -> bool:
    return strength == 0


@dataclass(frozen=True)
class ColorJitterOfThree(ColorJitter):
    """ColorJitter of three channels drawn at random, in random order, as red, green and blue; the others are left alone."""

    brightness: Strength = 0.4
    contrast: Strength = 0.4
    saturation: Strength = 0.2
    hue: HueShift = 0.1

    def draw(self, draws: Draws, channels: int) -> Drawn:
        """The three channels of each sample, (N, 3), and what ColorJitter draws."""
        return draws.uniform(each=channels).argsort(dim=1)[:, :3], *super().draw(draws, channels)

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        index_N3HW = drawn[0][:, :, None, None].expand(-1, -1, *views_NCHW.shape[2:])
        return views_NCHW.scatter(1, index_N3HW, super().change(views_NCHW.gather(1, index_N3HW), drawn[1:]))

    def channels_after(self, channels: int) -> int:
        if channels < 3:
            raise ConfigError(
                f"the images have {channels} channels, and three are jittered together; take ColorJitter with saturation and hue 0."
            )
        return channels


@dataclass(frozen=True)
class ColorJitterOfThreeOfFour(ColorJitterOfThree):
    """ColorJitter of three of the first four channels, drawn at random, as red, green and blue; the others are left alone."""

    def draw(self, draws: Draws, channels: int) -> Drawn:
        return super().draw(draws, min(channels, 4))

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        return on_first_four(super().change, views_NCHW, drawn)
