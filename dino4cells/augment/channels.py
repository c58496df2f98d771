"""Transforms of single channels: remove one, keep one, change the protein (HANDBOOK, Transforms).

Dimensions: N samples of a view, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from dino4cells.augment.draws import Draws
from dino4cells.augment.intensity import MARKERS, PROTEIN, Commutes, Drawn, Gain, Intensity, on_first_four, where_chosen
from dino4cells.augment.parameters import Channel, Interpolation, Probability
from dino4cells.errors import ConfigError


@dataclass(frozen=True)
class RemoveChannel(Gain):
    """Zeroes one of the marker channels 0, 2, 3, with probability p; never the protein, and nothing below four channels."""

    commutes: ClassVar[Commutes] = Commutes.ALWAYS

    p: Probability = 0.2

    def draw(self, draws: Draws, channels: int) -> Drawn:
        """The gains, (N, C)."""
        chosen, which = draws.chance(self.p), draws.integers(len(MARKERS))
        if channels < 4:
            return (torch.ones(len(draws), channels, device=draws.device),)
        numbers = [MARKERS.index(channel) if channel in MARKERS else -1 for channel in range(channels)]
        removed_NC = torch.stack([which == number for number in numbers], dim=1) & chosen[:, None]
        return (1 - removed_NC.to(torch.float32),)

    def gains(self, peaks_NC: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        return drawn[0]


@dataclass(frozen=True)
class RescaleProtein(Gain):
    """Multiplies channel 1, the protein, by U(0, 2) / the image's maximum, with probability p; an all-zero image is left alone."""

    needs_peaks: ClassVar[bool] = True

    p: Probability = 0.2

    def draw(self, draws: Draws, channels: int) -> Drawn:
        return draws.chance(self.p), draws.uniform(0, 2)

    def gains(self, peaks_NC: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        chosen, factor = drawn
        peak = peaks_NC.amax(dim=1)
        gains_NC = torch.ones_like(peaks_NC)
        gains_NC[:, PROTEIN : PROTEIN + 1] = torch.where(chosen & (peak > 0), factor / peak.clamp(min=1e-6), 1.0)[:, None]
        return gains_NC


@dataclass(frozen=True)
class ThresholdProtein(Intensity):
    """Zeroes values of channel 1, the protein, below a uniform threshold in 0 … 49 of 255, with probability p.

    Args:
        p: the probability.
        interpolation: accepted for the handbook's files.
    """

    pixelwise: ClassVar[bool] = True

    p: Probability = 0.2
    interpolation: Interpolation = "bilinear"

    def draw(self, draws: Draws, channels: int) -> Drawn:
        return draws.chance(self.p), draws.integers(50).to(torch.float32) / 255

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        chosen, threshold = drawn
        below_NCHW = views_NCHW < torch.where(chosen, threshold, -torch.inf)[:, None, None, None]
        protein_C111 = torch.arange(views_NCHW.shape[1], device=views_NCHW.device)[:, None, None] == PROTEIN
        return views_NCHW.masked_fill(below_NCHW & protein_C111, 0)


@dataclass(frozen=True)
class GetSpecificChannel(Intensity):
    """Keeps channel c alone."""

    random: ClassVar[bool] = False
    commutes: ClassVar[Commutes] = Commutes.ALWAYS
    pixelwise: ClassVar[bool] = True

    c: Channel

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        return views_NCHW[:, self.c : self.c + 1]

    def channels_after(self, channels: int) -> int:
        if self.c >= channels:
            raise ConfigError(f"the images have {channels} channels, and there is no channel {self.c}; give c from 0 to {channels - 1}.")
        return 1


@dataclass(frozen=True)
class RandomGrayscale(Intensity):
    """Shows the mean of the channels in every channel, with probability p."""

    pixelwise: ClassVar[bool] = True

    p: Probability = 0.1

    def draw(self, draws: Draws, channels: int) -> Drawn:
        return (draws.chance(self.p),)

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        return where_chosen(drawn[0], views_NCHW.mean(dim=1, keepdim=True).expand_as(views_NCHW), views_NCHW)


@dataclass(frozen=True)
class RandomGrayscaleOfFour(RandomGrayscale):
    """Shows the mean of the first four channels in each of them, with probability p; the others are left alone."""

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        return on_first_four(super().change, views_NCHW, drawn)
