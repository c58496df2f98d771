"""Geometric transforms that keep the size of an image: flips, turns, rotation, warp; and what every geometric transform is.

Dimensions: B images, N samples of a view, C channels. Sizes are (height, width) in pixels, float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from dino4cells.augment.constants import constant
from dino4cells.augment.draws import Draws
from dino4cells.augment.homography import Lines, Look, Outside, affine, from_corners, scale_and_shift
from dino4cells.augment.parameters import Degrees, Flag, Interpolation, Probability

HomographyAndSizes = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Geometric:
    """A transform of the image plane; the pixels are resampled once, after all that follow each other are composed."""

    random: ClassVar[bool] = True
    """Whether it differs between the views of an image."""
    outside: ClassVar[Outside] = Outside.NEVER_SEEN
    lines: ClassVar[Lines] = Lines.STRAIGHT
    """What its homographies leave of lines; those that leave more take less time."""
    symmetry: ClassVar[bool] = False
    """Whether it only moves whole pixels, so that it may be exchanged with what looks at pixels without regard to where they are."""

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        """The map from output pixels to input pixels, (N, 3, 3), and the output's sizes, (N, 2)."""
        raise TypeError(f"{type(self).__name__} does not say its homography")

    def look(self, homographies_BV33: torch.Tensor, sizes_BV2: torch.Tensor) -> Look:
        """The look at images of these sizes through homographies of this transform."""
        axes_BV2 = None
        if self.outside is Outside.MIRRORED:  # at the centres of the outermost pixels that the output shows
            axes_BV2 = torch.stack([homographies_BV33[..., 1, 1], homographies_BV33[..., 0, 0]], dim=-1) / 2
        return Look(homographies_BV33, sizes_BV2, self.outside, axes_BV2, self.lines)

    def channels_after(self, channels: int) -> int:
        """Channels of its output: those of its input."""
        return channels

    def side_after(self, side: int | None) -> int | None:
        """Side of the square that every output is, given that of the input; None where outputs differ in size."""
        return side

    def turns(self, sizes_N2: torch.Tensor) -> bool:
        """Whether images of one of these sizes may come out in several sizes, as drawn."""
        return False

    def needs_pixels(self, side: int | None) -> bool:
        """Whether it may look at the pixels of its input, of this side or any, before they are resampled (`prepare`)."""
        return False

    def prepared(self, sizes_B2: torch.Tensor, padded: tuple[int, int]) -> tuple[torch.Tensor, tuple[int, int]]:
        """Sizes of what is resampled instead of images of these sizes, and what they are padded to: here those of the images."""
        return sizes_B2, padded

    def prepare(self, images_BCHW: torch.Tensor, sizes_B2: torch.Tensor, padded: tuple[int, int]) -> torch.Tensor:
        """What is resampled instead of the images, padded as said: here the images themselves."""
        return images_BCHW


@dataclass(frozen=True)
class RandomHorizontalFlip(Geometric):
    """Mirrors left and right with probability p."""

    lines: ClassVar[Lines] = Lines.UPRIGHT
    symmetry: ClassVar[bool] = True

    p: Probability = 0.5

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        flip = draws.chance(self.p).to(sizes_N2.dtype)
        one, zero = torch.ones_like(flip), torch.zeros_like(flip)
        return scale_and_shift(1 - 2 * flip, one, flip * sizes_N2[:, 1], zero), sizes_N2


@dataclass(frozen=True)
class RandomVerticalFlip(Geometric):
    """Mirrors top and bottom with probability p."""

    lines: ClassVar[Lines] = Lines.UPRIGHT
    symmetry: ClassVar[bool] = True

    p: Probability = 0.5

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        flip = draws.chance(self.p).to(sizes_N2.dtype)
        one, zero = torch.ones_like(flip), torch.zeros_like(flip)
        return scale_and_shift(one, 1 - 2 * flip, zero, flip * sizes_N2[:, 0]), sizes_N2


def _rotation(angle: torch.Tensor, inputs_N2: torch.Tensor, outputs_N2: torch.Tensor) -> torch.Tensor:
    """Turns about the centres of input and output by `angle` in radians, counter-clockwise as seen, (N, 3, 3)."""
    cosine, sine = angle.cos(), angle.sin()
    out_y, out_x = (outputs_N2 / 2).unbind(1)
    in_y, in_x = (inputs_N2 / 2).unbind(1)
    return affine(cosine, -sine, in_x - cosine * out_x + sine * out_y, sine, cosine, in_y - sine * out_x - cosine * out_y)


@dataclass(frozen=True)
class RandomRotation(Geometric):
    """Turns about the centre by a uniform angle in degrees; what turns in from outside is zero.

    Args:
        degrees: the angles; a number d stands for those from −d to d.
        interpolation: accepted for the handbook's files.
        expand: the output grows until it holds the whole turned image; otherwise its corners are cut.
    """

    lines: ClassVar[Lines] = Lines.PARALLEL
    outside: ClassVar[Outside] = Outside.ZEROS

    degrees: Degrees = 180.0
    interpolation: Interpolation = "bilinear"
    expand: Flag = False

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        low, high = self.degrees if isinstance(self.degrees, tuple) else (-self.degrees, self.degrees)
        angle = torch.deg2rad(draws.uniform(low, high))
        outputs_N2 = sizes_N2
        if self.expand:
            height, width = sizes_N2.unbind(1)
            sine, cosine = angle.sin().abs(), angle.cos().abs()
            # A thousandth of a pixel is no pixel: float32 makes a quarter turn that much larger than it is.
            outputs_N2 = (torch.stack([height * cosine + width * sine, width * cosine + height * sine], dim=1) - 1e-3).ceil()
        return _rotation(angle, sizes_N2, outputs_N2), outputs_N2

    def side_after(self, side: int | None) -> int | None:
        return None if self.expand else side

    def turns(self, sizes_N2: torch.Tensor) -> bool:
        return self.expand


@dataclass(frozen=True)
class RandomDihedral(Geometric):
    """One of the eight symmetries of the square, each with the same probability; a quarter turn swaps height and width."""

    lines: ClassVar[Lines] = Lines.PARALLEL
    symmetry: ClassVar[bool] = True

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        element = draws.integers(8)
        quarters, mirrored = element % 4, (element >= 4).to(sizes_N2.dtype)
        outputs_N2 = torch.where((quarters % 2 == 1)[:, None], sizes_N2.flip(1), sizes_N2)
        angle = quarters.to(sizes_N2.dtype) * (math.pi / 2)
        # Exact zeros and ones: a view that is only turned is not resampled between pixels.
        turn = _rotation(angle, sizes_N2, outputs_N2)
        turn[:, :2, :2] = turn[:, :2, :2].round()
        turn[:, :2, 2] = (turn[:, :2, 2] * 2).round() / 2
        one, zero = torch.ones_like(mirrored), torch.zeros_like(mirrored)
        return turn @ scale_and_shift(1 - 2 * mirrored, one, mirrored * outputs_N2[:, 1], zero), outputs_N2

    def turns(self, sizes_N2: torch.Tensor) -> bool:
        return bool((sizes_N2[:, 0] != sizes_N2[:, 1]).any())


@dataclass(frozen=True)
class WarpCell(Geometric):
    """A perspective warp in which one corner, chosen at random, moves inwards; zeros outside.

    It moves by a uniform integer in [0, min(height, width)/4) pixels in x and in y.
    """

    outside: ClassVar[Outside] = Outside.ZEROS

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        height, width = sizes_N2.unbind(1)
        zero = torch.zeros_like(height)
        corners_N42 = torch.stack([torch.stack(c, dim=-1) for c in ((zero, zero), (width, zero), (width, height), (zero, height))], dim=1)
        inwards_42 = constant((1, 1, -1, 1, -1, -1, 1, -1), like=sizes_N2).reshape(4, 2)
        reach = (sizes_N2.amin(1) / 4).floor().clamp(min=1)
        shift_N2 = draws.integers(reach, each=2).to(sizes_N2.dtype)
        chosen_N4 = (draws.integers(4)[:, None] == torch.arange(4, device=sizes_N2.device)).to(sizes_N2.dtype)
        moved_N42 = corners_N42 + chosen_N4[:, :, None] * inwards_42 * shift_N2[:, None, :]
        return from_corners(moved_N42, corners_N42), sizes_N2
