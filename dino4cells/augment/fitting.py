"""A cell of any shape fitted into a square (HANDBOOK, Transforms: Single_cell_…, FA_resize).

Dimensions: B images, N samples of a view, C channels, H height, W width. Sizes are (height, width) in pixels, float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from dino4cells.augment.draws import Draws
from dino4cells.augment.geometry import Geometric, HomographyAndSizes
from dino4cells.augment.homography import Lines, Outside, scale_and_shift
from dino4cells.augment.parameters import Pixels


@dataclass(frozen=True)
class _Fit(Geometric):
    """A transform whose outputs are squares."""

    random: ClassVar[bool] = False
    lines: ClassVar[Lines] = Lines.UPRIGHT

    size: Pixels = 224

    def side_after(self, side: int | None) -> int | None:
        return self.size

    def _placed(self, sizes_N2: torch.Tensor, fitted_N2: torch.Tensor, corner_N2: torch.Tensor) -> HomographyAndSizes:
        """The image resized to `fitted_N2` pixels, its corner at `corner_N2` of the square."""
        step_N2 = sizes_N2 / fitted_N2
        start_N2 = -corner_N2 * step_N2
        return scale_and_shift(step_N2[:, 1], step_N2[:, 0], start_N2[:, 1], start_N2[:, 0]), torch.full_like(sizes_N2, self.size)

    def _longest_side_fitted(self, sizes_N2: torch.Tensor) -> torch.Tensor:
        """Sizes with the longer side that of the square and the aspect ratio kept, in whole pixels."""
        longest_N1 = sizes_N2.amax(1, keepdim=True)
        return torch.div(sizes_N2 * self.size, longest_N1, rounding_mode="floor").clamp(min=1)


@dataclass(frozen=True)
class FitCentered(_Fit):
    """Shrinks an image that is larger than the square, keeps a smaller one, and centres it on zeros."""

    outside: ClassVar[Outside] = Outside.ZEROS

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        larger_N1 = sizes_N2.amax(1, keepdim=True) > self.size
        fitted_N2 = torch.where(larger_N1, self._longest_side_fitted(sizes_N2), sizes_N2)
        return self._placed(sizes_N2, fitted_N2, ((self.size - fitted_N2) / 2).floor())


@dataclass(frozen=True)
class FitMirrored(FitCentered):
    """Shrinks an image that is larger than the square, keeps a smaller one, and fills the square with its mirror images."""

    outside: ClassVar[Outside] = Outside.MIRRORED


@dataclass(frozen=True)
class FitKeepingAspectRatio(_Fit):
    """Shrinks or enlarges an image until its longer side fills the square, and centres it on zeros."""

    outside: ClassVar[Outside] = Outside.ZEROS

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        fitted_N2 = self._longest_side_fitted(sizes_N2)
        return self._placed(sizes_N2, fitted_N2, ((self.size - fitted_N2) / 2).ceil())


@dataclass(frozen=True)
class FitAtRandomSize(_Fit):
    """Stretches height and width, each to a random length from 180/224 of the square up to less than all of it, centred on zeros."""

    random: ClassVar[bool] = True
    outside: ClassVar[Outside] = Outside.ZEROS

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        shortest = min(round(self.size * 180 / 224), self.size - 1)
        fitted_N2 = (shortest + draws.integers(self.size - shortest, each=2).to(sizes_N2.dtype)).clamp(min=1)
        return self._placed(sizes_N2, fitted_N2, ((self.size - fitted_N2) / 2).ceil())


@dataclass(frozen=True)
class Resize(_Fit):
    """Stretches height and width to the square.

    The corners are the centres of the outermost pixels, before and after, and an image of which the shorter side is more than twice that
    of the square is first averaged down to twice, both as fastai resizes, whose form the original took over.
    """

    def homography(self, sizes_N2: torch.Tensor, draws: Draws) -> HomographyAndSizes:
        step_N2 = (sizes_N2 - 1) / max(self.size - 1, 1)
        start_N2 = 0.5 - 0.5 * step_N2
        return scale_and_shift(step_N2[:, 1], step_N2[:, 0], start_N2[:, 1], start_N2[:, 0]), torch.full_like(sizes_N2, self.size)

    def needs_pixels(self, side: int | None) -> bool:
        return side is None or side > 2 * self.size

    def prepared(self, sizes_B2: torch.Tensor, padded: tuple[int, int]) -> tuple[torch.Tensor, tuple[int, int]]:
        """Sizes of images more than twice as large as the square once they are averaged down to twice; the others' as they are."""
        if min(padded) <= 2 * self.size:
            return sizes_B2, padded
        wanted = [self._averaged(*size) for size in sizes_B2.tolist()]
        height, width = (max(sides) for sides in zip(*wanted, strict=True)) if wanted else (1, 1)
        return sizes_B2.new_tensor(wanted).reshape(-1, 2), (height, width)

    def prepare(self, images_BCHW: torch.Tensor, sizes_B2: torch.Tensor, padded: tuple[int, int]) -> torch.Tensor:
        """Images more than twice as large as the square, averaged down to twice; the others as they are."""
        if min(images_BCHW.shape[2:]) <= 2 * self.size:
            return images_BCHW
        prepared = images_BCHW.new_zeros(*images_BCHW.shape[:2], *padded)
        for height, width in sorted({(height, width) for height, width in sizes_B2.tolist()}):
            same, target = (sizes_B2 == sizes_B2.new_tensor([height, width])).all(dim=1), self._averaged(height, width)
            averaged = F.interpolate(images_BCHW[same, :, :height, :width], size=target, mode="area")
            prepared[same, :, : target[0], : target[1]] = averaged
        return prepared

    def _averaged(self, height: int, width: int) -> tuple[int, int]:
        shorter = min(height, width)
        if shorter <= 2 * self.size:
            return height, width
        return 2 * self.size * height // shorter, 2 * self.size * width // shorter
