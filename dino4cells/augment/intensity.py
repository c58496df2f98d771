"""What every intensity transform is: a map of a batch of views in [0, 1] that leaves positions alone (HANDBOOK, Transforms).

Dimensions: N samples of a view, C channels, H height, W width. Factors are drawn per sample and, where the handbook says so, per channel.
Channel 1 is the protein and channels 0, 2 and 3 are its markers, as in HPA's order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

import torch

from dino4cells.augment.draws import Draws

Drawn = tuple[torch.Tensor, ...]
"""What a transform has drawn for each sample: tensors with N rows."""

Change = Callable[[torch.Tensor, Drawn], torch.Tensor]

PROTEIN = 1
MARKERS = (0, 2, 3)


class Commutes(IntEnum):
    """Geometric transforms that give the same view whether they come before or after an intensity transform."""

    NOT = 0
    WITH_SYMMETRIES = 1
    """Flips and quarter turns: it looks at pixels one by one, at their mean or maximum, or at neighbours in all directions alike."""
    ALWAYS = 2
    """It treats a channel as a whole, whatever is in it."""


@dataclass(frozen=True)
class Intensity:
    """A transform of pixel values: what it draws, for a whole batch at once, and what it does with that to some of its samples."""

    random: ClassVar[bool] = True
    """Whether it differs between the views of an image."""
    commutes: ClassVar[Commutes] = Commutes.WITH_SYMMETRIES
    pixelwise: ClassVar[bool] = False
    """Whether a pixel's outcome depends on that pixel alone, so that padding does no harm."""

    def draw(self, draws: Draws, channels: int) -> Drawn:
        """What it needs to know of each sample but its pixels."""
        return ()

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        """The changed views; the argument belongs to it, and may be what is changed."""
        raise TypeError(f"{type(self).__name__} does not say what it does")

    def apply(self, views_NCHW: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Both, on a copy: the views as changed by what is drawn."""
        return self.change(views_NCHW.clone(), self.draw(draws, views_NCHW.shape[1]))

    def channels_after(self, channels: int) -> int:
        """Channels of its output.

        Raises:
            ConfigError: it cannot be applied to images with so many channels.
        """
        return channels


@dataclass(frozen=True)
class Gain(Intensity):
    """A transform that multiplies each channel of a view by a number of at least 0.

    A gain and a resampling may be exchanged once the number is known, so the numbers are found where the transform stands and the pixels
    are multiplied when all geometric transforms are done.
    """

    needs_peaks: ClassVar[bool] = False

    def gains(self, peaks_NC: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        """The numbers (N, C), given the largest value of each channel (any values, where `needs_peaks` is false)."""
        raise TypeError(f"{type(self).__name__} does not say its gains")

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        return views_NCHW.mul_(self.gains(views_NCHW.amax(dim=(2, 3)), drawn)[:, :, None, None])


def where_chosen(chosen_N: torch.Tensor, changed_NCHW: torch.Tensor, views_NCHW: torch.Tensor) -> torch.Tensor:
    """The changed views of the chosen samples, the given views of the others."""
    return torch.where(chosen_N[:, None, None, None], changed_NCHW, views_NCHW)


def on_first_four(change: Change, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
    """Views of which the first four channels are changed and the others left alone: what `_for_5_channels` means in the handbook."""
    return torch.cat([change(views_NCHW[:, :4], drawn), views_NCHW[:, 4:]], dim=1)


@dataclass(frozen=True)
class ToTensor(Intensity):
    """Nothing to do: images are tensors in [0, 1] already."""

    random: ClassVar[bool] = False
    commutes: ClassVar[Commutes] = Commutes.ALWAYS
    pixelwise: ClassVar[bool] = True

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        return views_NCHW
