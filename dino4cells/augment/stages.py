"""The handbook's order of a view's transforms, compiled into as few resamplings as give the same view.

Geometric transforms that follow each other are composed and applied in one resampling. An intensity transform between two of them that
commutes with the second may wait for it: `remove_channel` before a crop is `remove_channel` after it, and a flip may be done before a
change of brightness. Where they do not commute (contrast before a crop: the mean is that of the whole image), a new stage begins.

Dimensions: B batch, V views of an image, N = B·V, C channels, H height, W width. M is B while all views of an image are alike, then N.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from dino4cells.augment.draws import Draws
from dino4cells.augment.geometry import Geometric, Outside
from dino4cells.augment.homography import Look, resample
from dino4cells.augment.intensity import Commutes, Gain, Intensity

Transform = Geometric | Intensity


@dataclass(frozen=True)
class Stage:
    """Geometric transforms in one resampling, then intensity transforms; each with its place in the handbook's order."""

    geometric: tuple[tuple[int, Geometric], ...] = ()
    intensity: tuple[tuple[int, Intensity], ...] = ()

    def takes(self, transform: Transform) -> bool:
        """Whether a transform that follows in the order may be done in this stage."""
        if isinstance(transform, Intensity):
            return True
        if self.geometric and transform.needs_pixels(side_after([geometric for _, geometric in self.geometric])):
            return False
        needed = Commutes.WITH_SYMMETRIES if transform.symmetry else Commutes.ALWAYS
        return all(waiting.commutes >= needed for _, waiting in self.intensity)

    def with_transform(self, position: int, transform: Transform) -> Stage:
        """This stage and a transform that it takes."""
        if isinstance(transform, Geometric):
            return Stage((*self.geometric, (position, transform)), self.intensity)
        return Stage(self.geometric, (*self.intensity, (position, transform)))


def stages(transforms: Iterable[Transform]) -> list[Stage]:
    """The transforms of a view, in the handbook's order, as stages."""
    compiled = [Stage()]
    for position, transform in enumerate(transforms):
        if not compiled[-1].takes(transform):
            compiled.append(Stage())
        compiled[-1] = compiled[-1].with_transform(position, transform)
    return compiled


def side_after(transforms: Iterable[Transform]) -> int | None:
    """Side in pixels of the square that every view is, or None where views keep something of the images' sizes."""
    side: int | None = None
    for transform in transforms:
        if isinstance(transform, Geometric):
            side = transform.side_after(side)
    return side


class Views:
    """Images on their way to their views.

    What does not differ between the views of an image is done once an image. Images of different sizes lie in one tensor, padded at the
    right and bottom; what looks at more than single pixels is done one size at a time, so that it never sees the padding.
    """

    def __init__(self, images_BCHW: torch.Tensor, sizes_B2: torch.Tensor, keys_BV: torch.Tensor) -> None:
        self._images_MCHW, self.sizes_M2 = images_BCHW, sizes_B2
        self._keys_BV = keys_BV
        self._alike = True  # all views of an image, so far
        self._even: bool | None = None  # whether every image fills the tensor; None: not looked at yet
        self._gains_NC: torch.Tensor | None = None  # the images are still to be multiplied by these

    def run(self, stage: Stage) -> None:
        """Do one stage."""
        if stage.geometric:
            self._resample(stage.geometric)
        for position, transform in stage.intensity:
            if isinstance(transform, Gain):
                self._gain(position, transform)
            else:
                self._change(position, transform)

    def finish(self) -> torch.Tensor:
        """The views, (B, V, C, H, W)."""
        self._apply_gains()
        batch, count = self._keys_BV.shape
        if self._alike:
            return self._images_MCHW[:, None].expand(-1, count, -1, -1, -1)
        return self._images_MCHW.reshape(batch, count, *self._images_MCHW.shape[1:])

    def _draws(self, position: int) -> Draws:
        keys = self._keys_BV[:, 0] if self._alike else self._keys_BV.reshape(-1)
        return Draws(keys).of_transform(position)

    def _resample(self, geometric: Sequence[tuple[int, Geometric]]) -> None:
        images, stored = geometric[0][1].prepare(self._images_MCHW, self.sizes_M2)
        views = 1
        sizes_N2 = stored.to(torch.float32)
        if self._alike and any(transform.random for _, transform in geometric):
            views = self._keys_BV.shape[1]
            sizes_N2 = sizes_N2.repeat_interleave(views, dim=0)
            self._alike = False
        looks: list[Look] = []
        for position, transform in geometric:
            step_N33, after_N2 = transform.homography(sizes_N2, self._draws(position))
            step = step_N33.reshape(len(images), views, 3, 3)
            if not looks or transform.outside is not Outside.NEVER_SEEN:
                looks.append(Look(step, sizes_N2.reshape(len(images), views, 2), transform.outside.axes(step)))
            else:
                looks[-1] = replace(looks[-1], homographies_BV33=looks[-1].homographies_BV33 @ step)
            sizes_N2 = after_N2
        side = side_after(transform for _, transform in geometric)
        height, width = (side, side) if side else (int(length) for length in sizes_N2.amax(0))
        first, *later = looks
        seen = resample(images, stored, first.homographies_BV33, (height, width), axes_BV2=first.axes_BV2, later=later)
        self._images_MCHW = seen.reshape(-1, *seen.shape[2:])
        self.sizes_M2 = sizes_N2.round().to(torch.int64)
        self._even = True if side else None

    def _gain(self, position: int, transform: Gain) -> None:
        peaks_NC = self._peaks() if transform.needs_peaks else self._images_MCHW.new_ones(self._images_MCHW.shape[:2])
        if self._alike:
            peaks_NC = peaks_NC.repeat_interleave(self._keys_BV.shape[1], dim=0)
        if self._gains_NC is not None:
            peaks_NC = peaks_NC * self._gains_NC
        draws = Draws(self._keys_BV.reshape(-1)).of_transform(position)
        gains_NC = transform.gains(peaks_NC, draws)
        self._gains_NC = gains_NC if self._gains_NC is None else self._gains_NC * gains_NC

    def _peaks(self) -> torch.Tensor:
        """The largest value of each channel within the true size of each image, (M, C)."""
        images = self._images_MCHW
        if not self._all_even():
            y, x = (torch.arange(length, device=images.device) for length in images.shape[2:])
            inside = (y[:, None] < self.sizes_M2[:, 0, None, None]) & (x < self.sizes_M2[:, 1, None, None])
            images = images.masked_fill(~inside[:, None], -torch.inf)
        return images.amax(dim=(2, 3))

    def _apply_gains(self) -> None:
        if self._gains_NC is None:
            return
        self._separate()
        self._images_MCHW = self._images_MCHW * self._gains_NC[:, :, None, None]
        self._gains_NC = None

    def _separate(self) -> None:
        """From now on, the views of an image differ."""
        if self._alike:
            self._images_MCHW = self._images_MCHW.repeat_interleave(self._keys_BV.shape[1], dim=0)
            self.sizes_M2 = self.sizes_M2.repeat_interleave(self._keys_BV.shape[1], dim=0)
            self._alike = False

    def _change(self, position: int, transform: Intensity) -> None:
        self._apply_gains()
        if transform.random:
            self._separate()
        draws = self._draws(position)
        if transform.pixelwise or self._all_even():
            self._images_MCHW = transform.apply(self._images_MCHW, draws)
            return
        changed: torch.Tensor | None = None
        for height, width in sorted({(height, width) for height, width in self.sizes_M2.tolist()}):
            same = (self.sizes_M2 == self.sizes_M2.new_tensor([height, width])).all(dim=1)
            part = transform.apply(self._images_MCHW[same, :, :height, :width], draws.of_samples(same))
            if changed is None:
                changed = part.new_zeros(len(same), part.shape[1], *self._images_MCHW.shape[2:])
            changed[same, :, :height, :width] = part
        if changed is not None:
            self._images_MCHW = changed

    def _all_even(self) -> bool:
        if self._even is None:
            self._even = bool((self.sizes_M2 == self.sizes_M2.new_tensor(self._images_MCHW.shape[2:])).all())
        return self._even
