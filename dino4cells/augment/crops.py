"""Random crops, resized to a square (HANDBOOK, Transforms).

Dimensions: N samples of a view. Sizes are (height, width) in pixels, float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar

import torch

from dino4cells.augment.draws import Draws
from dino4cells.augment.geometry import Geometric, HomographyAndSizes
from dino4cells.augment.homography import Lines, scale_and_shift
from dino4cells.augment.parameters import Count, Fractions, Interpolation, NotNegative, Pixels, Ratios


@dataclass(frozen=True)
class RandomResizedCrop(Geometric):
    """A crop of a random area and aspect ratio, resized to a square, as torchvision's.

    As there, an area that does not fit is drawn anew, up to ten times, and then the largest centred crop is taken.

    Args:
        size: side of the view.
        scale: range of the area, as a fraction of the image's.
        ratio: range of width / height.
        interpolation: accepted for the handbook's files.
    """

    lines: ClassVar[Lines] = Lines.UPRIGHT

    size: Pixels
    scale: Fractions = (0.08, 1.0)
    ratio: Ratios = (3 / 4, 4 / 3)
    interpolation: Interpolation = "bilinear"
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

    def side_after(self, side: int | None) -> int | None:
        return self.size


@dataclass(frozen=True)
class RandomResizedCenterCrop(Geometric):
    """A square crop near the centre, resized: its side is a uniform fraction of the image's shorter side, its place normal.

    The place is that of the crop's corner in the room that the crop leaves: 1/2 is the centre, 0 and 1 are the borders. It is normal
    about 1/2; with s = 1 the borders are as far out as the largest of `depth` normal numbers is expected to be (Blom 1958). The original
    draws `depth` numbers and takes their extremes for the borders, so that its crops depend on the extremes of one random sample.

    Args:
        size: side of the view.
        scale: range of the fraction.
        interpolation: accepted for the handbook's files.
        depth: how many normal numbers lie between the borders.
        s: width of the normal, 1 for the one that just reaches the borders.
    """

    lines: ClassVar[Lines] = Lines.UPRIGHT

    size: Pixels
    scale: Fractions = (0.4, 1.0)
    interpolation: Interpolation = "bilinear"
    depth: Count = 1_000_000
    s: NotNegative = 1.0

    @property
    def deviation(self) -> float:
        """Standard deviation of the place, as a fraction of the room."""
        return self.s / (2 * NormalDist().inv_cdf((self.depth - 0.375) / (self.depth + 0.25)))

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        side = (sizes_N2.amin(1) * draws.uniform(*self.scale)).round().clamp(min=1)
        room_N2 = sizes_N2 - side[:, None]
        corner_N2 = (room_N2 * draws.normal(0.5, self.deviation, each=2).clamp(0, 1)).round()
        step = side / self.size
        return scale_and_shift(step, step, corner_N2[:, 1], corner_N2[:, 0]), torch.full_like(sizes_N2, self.size)

    def side_after(self, side: int | None) -> int | None:
        return self.size
