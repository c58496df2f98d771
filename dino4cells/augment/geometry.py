"""Geometric transforms of the handbook: each contributes one homography per sample (HANDBOOK, Transforms).

Dimensions: N samples of a view. Sizes are (height, width) in pixels, float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dino4cells.augment.draws import Draws
from dino4cells.augment.homography import affine, from_corners, scale_and_shift
from dino4cells.augment.parameters import Fractions, NotNegative, Pixels, Probability, Ratios

HomographyAndSizes = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Geometric:
    """A transform of the image plane; the pixels are resampled once, after all of them are composed."""

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        """The map from output pixels to input pixels, (N, 3, 3), and the output's sizes, (N, 2)."""
        raise TypeError(f"{type(self).__name__} does not say its homography")


@dataclass(frozen=True)
class RandomResizedCrop(Geometric):
    """torchvision's: a crop of a random area and aspect ratio, resized to a square.

    As there, an area that does not fit is drawn anew, up to ten times, and then the largest centred crop is taken.
    """

    size: Pixels
    scale: Fractions = (0.08, 1.0)
    ratio: Ratios = (3 / 4, 4 / 3)
    attempts = 10

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        height, width = sizes_N2.unbind(1)
        area = (height * width)[:, None] * draws.uniform(*self.scale, each=self.attempts)
        ratio = draws.uniform(math.log(self.ratio[0]), math.log(self.ratio[1]), each=self.attempts).exp()
        crop_w, crop_h = torch.sqrt(area * ratio).round(), torch.sqrt(area / ratio).round()
        fits = (crop_w > 0) & (crop_h > 0) & (crop_w <= width[:, None]) & (crop_h <= height[:, None])
        first = fits.to(torch.int8).argmax(dim=1, keepdim=True)
        none = ~fits.any(dim=1)
        fallback_w = torch.minimum(width, (height * self.ratio[1]).round())
        fallback_h = torch.minimum(height, (width / self.ratio[0]).round())
        w = torch.where(none, fallback_w, crop_w.gather(1, first)[:, 0])
        h = torch.where(none, fallback_h, crop_h.gather(1, first)[:, 0])
        left = torch.where(none, ((width - w) / 2).floor(), (draws.uniform() * (width - w + 1)).floor())
        top = torch.where(none, ((height - h) / 2).floor(), (draws.uniform() * (height - h + 1)).floor())
        return scale_and_shift(w / self.size, h / self.size, left, top), torch.full_like(sizes_N2, self.size)


@dataclass(frozen=True)
class RandomResizedCenterCrop(Geometric):
    """A square crop near the centre, resized: its side is a uniform fraction of the image's shorter side, its offset normal.

    Args:
        size: side of the view.
        scale: range of the fraction.
        depth: accepted for the handbook's files; the original bounds the offset by a sample of this size, here it is bounded by the image.
        s: standard deviation of the offset, in pixels.
    """

    size: Pixels
    scale: Fractions = (0.4, 1.0)
    depth: int = 5000
    s: NotNegative = 5.0

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        side = (sizes_N2.amin(1) * draws.uniform(*self.scale)).round().clamp(min=1)
        room_N2 = sizes_N2 - side[:, None]
        corner_N2 = (room_N2 / 2 + draws.normal(0.0, self.s, each=2)).round().clamp(min=0).minimum(room_N2)
        step = side / self.size
        return scale_and_shift(step, step, corner_N2[:, 1], corner_N2[:, 0]), torch.full_like(sizes_N2, self.size)


@dataclass(frozen=True)
class RandomHorizontalFlip(Geometric):
    """Mirrors left and right with probability p."""

    p: Probability = 0.5

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        flip = draws.chance(self.p).to(sizes_N2.dtype)
        one, zero = torch.ones_like(flip), torch.zeros_like(flip)
        return scale_and_shift(1 - 2 * flip, one, flip * sizes_N2[:, 1], zero), sizes_N2


@dataclass(frozen=True)
class RandomVerticalFlip(Geometric):
    """Mirrors top and bottom with probability p."""

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
    """Turns about the centre by a uniform angle in degrees; a number d stands for (−d, d)."""

    degrees: float | tuple[float, float] = 180.0

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        low, high = self.degrees if isinstance(self.degrees, Sequence) else (-self.degrees, self.degrees)
        return _rotation(torch.deg2rad(draws.uniform(low, high)), sizes_N2, sizes_N2), sizes_N2


@dataclass(frozen=True)
class RandomDihedral(Geometric):
    """rnd_dihedral: one of the eight symmetries of the square, each with the same probability; a quarter turn swaps height and width."""

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


@dataclass(frozen=True)
class WarpCell(Geometric):
    """Warp_cell: a perspective warp in which one corner, chosen at random, moves inwards; zeros outside.

    It moves by a uniform integer in [0, min(height, width)/4) pixels in x and in y.
    """

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        height, width = sizes_N2.unbind(1)
        zero = torch.zeros_like(height)
        corners_N42 = torch.stack([torch.stack(c, dim=-1) for c in ((zero, zero), (width, zero), (width, height), (zero, height))], dim=1)
        inwards_42 = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]], device=sizes_N2.device)
        reach = (sizes_N2.amin(1) / 4).floor().clamp(min=1)
        shift_N2 = draws.integers(reach, each=2).to(sizes_N2.dtype)
        chosen_N4 = torch.nn.functional.one_hot(draws.integers(4), 4).to(sizes_N2.dtype)
        moved_N42 = corners_N42 + chosen_N4[:, :, None] * inwards_42 * shift_N2[:, None, :]
        return from_corners(moved_N42, corners_N42), sizes_N2


@dataclass(frozen=True)
class FitCentered(Geometric):
    """Single_cell_centered: shrinks an image that is larger than the square, keeps a smaller one, centres it on zeros."""

    size: Pixels

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        step = (sizes_N2.amax(1) / self.size).clamp(min=1)
        corner_N2 = ((sizes_N2 - step[:, None] * self.size) / 2).floor()
        return scale_and_shift(step, step, corner_N2[:, 1], corner_N2[:, 0]), torch.full_like(sizes_N2, self.size)


@dataclass(frozen=True)
class Resize(Geometric):
    """Single_cell_Resize: stretches height and width to the square."""

    size: Pixels

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        step_N2, zero = sizes_N2 / self.size, torch.zeros_like(sizes_N2[:, 0])
        return scale_and_shift(step_N2[:, 1], step_N2[:, 0], zero, zero), torch.full_like(sizes_N2, self.size)
