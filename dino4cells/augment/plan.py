"""What is to be done to the pixels of a batch, found out before any of them is touched, and done to a few images at a time.

What a transform draws and where it looks are small numbers, worked out for the whole batch in one go. The pixels are changed a few images
at a time, through all the stages of their views, so that on a CPU they stay in its cache from the resampling to the normalization.

Dimensions: B batch, V views of an image, N = B·V, C channels, H height, W width. M is B while all views of an image are alike, then N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from dino4cells.augment.draws import Draws
from dino4cells.augment.geometry import Geometric
from dino4cells.augment.homography import Look, Outside, resample
from dino4cells.augment.intensity import Gain, Intensity
from dino4cells.augment.stages import Stage, side_after


@dataclass(frozen=True)
class Extents:
    """True sizes of images, and the one that they are padded to at the right and bottom."""

    sizes_M2: torch.Tensor
    padded: tuple[int, int]
    known_even: bool = False

    @cached_property
    def even(self) -> bool:
        """Whether every image fills its tensor; asks the device, unless that is known."""
        return self.known_even or bool((self.sizes_M2 == self.sizes_M2.new_tensor(self.padded)).all())


@dataclass(frozen=True)
class Resampling:
    """Geometric transforms in one resampling, of images of which each comes to `looks[0].homographies_BV33.shape[1]` views."""

    geometric: tuple[tuple[int, Geometric], ...]
    given: Extents
    looks: tuple[Look, ...]
    side: tuple[int, int]


@dataclass(frozen=True)
class Change:
    """An intensity transform of images of these extents, which begins by parting the views of an image where `parts`."""

    transform: Intensity
    draws_N: Draws
    extents: Extents
    parts: bool


class Plan:
    """What is done to the pixels of a batch, in order.

    Args:
        stages: of the view kind.
        extents: of the images.
        keys_BV: random keys of each image and view.
    """

    def __init__(self, stages: Sequence[Stage], extents: Extents, keys_BV: torch.Tensor) -> None:
        self.views = keys_BV.shape[1]
        self.steps: list[Resampling | Change] = []
        self._extents, self._alike = extents, True
        transforms = sum(len(stage.geometric) + len(stage.intensity) for stage in stages)
        self._draws = Draws(keys_BV.reshape(-1)).of_transforms(transforms)
        gained = False
        for stage in stages:
            if stage.geometric:
                self._resample(stage.geometric)
            for position, transform in stage.intensity:
                # A gain waits until something else looks at the pixels: until then the views of an image may share them.
                parts = self._alike and not isinstance(transform, Gain) and (gained or transform.random)
                gained = isinstance(transform, Gain)
                if parts:
                    self._part()
                self.steps.append(Change(transform, self._draws[position], self._extents, parts))

    def _part(self) -> None:
        sizes_N2 = self._extents.sizes_M2.repeat_interleave(self.views, dim=0)
        self._extents, self._alike = Extents(sizes_N2, self._extents.padded, self._extents.known_even), False

    def _resample(self, geometric: Sequence[tuple[int, Geometric]]) -> None:
        given = self._extents
        sizes_M2 = geometric[0][1].prepared_sizes(given.sizes_M2, given.padded).to(torch.float32)
        images, views, sizes_N2 = len(sizes_M2), 1, sizes_M2
        if self._alike and any(transform.random for _, transform in geometric):
            views, sizes_N2, self._alike = self.views, sizes_M2.repeat_interleave(self.views, dim=0), False
        looks: list[Look] = []
        for position, transform in geometric:
            step_N33, after_N2 = transform.homography(sizes_N2, self._draws[position])
            step_BV33 = step_N33.reshape(images, views, 3, 3)
            if not looks or transform.outside is not Outside.NEVER_SEEN:
                looks.append(transform.look(step_BV33, sizes_N2.reshape(images, views, 2)))
            else:
                looks[-1] = looks[-1].then(step_BV33, transform.lines)
            sizes_N2 = after_N2
        side = side_after(transform for _, transform in geometric)
        height, width = (side, side) if side else (int(length) for length in sizes_N2.amax(0))
        self.steps.append(Resampling(tuple(geometric), given, tuple(looks), (height, width)))
        self._extents = Extents(sizes_N2.round().to(torch.int64), (height, width), known_even=bool(side))

    def carry_out(self, images_BCHW: torch.Tensor, rows: slice) -> torch.Tensor:
        """Views of the images that stand at `rows` of the batch, (V, B, C, H, W); float images in [0, 1]."""
        pixels = Pixels(images_BCHW, rows, self.views)
        for step in self.steps:
            if isinstance(step, Resampling):
                pixels.resample(step)
            elif isinstance(step.transform, Gain):
                pixels.gain(step, step.transform)
            else:
                pixels.change(step)
        return pixels.finished()


class Pixels:
    """Some images of a batch on their way to their views.

    What does not differ between the views of an image is done once an image. What looks at more than single pixels is done one size at a
    time, so that it never sees the padding.
    """

    def __init__(self, images_BCHW: torch.Tensor, rows: slice, views: int) -> None:
        self._images_MCHW = images_BCHW
        self._views, self._of_images = views, rows
        self._of_views = slice(rows.start * views, rows.stop * views)
        self._alike = True  # all views of an image, so far
        self._gains_NC: torch.Tensor | None = None  # the images are still to be multiplied by these

    @property
    def _rows(self) -> slice:
        return self._of_images if self._alike else self._of_views

    def resample(self, step: Resampling) -> None:
        looks = [look.of_images(self._rows) for look in step.looks]
        prepared = step.geometric[0][1].prepare(self._images_MCHW, step.given.sizes_M2[self._rows])
        seen_MVCHW = resample(prepared, looks, step.side)
        self._images_MCHW = seen_MVCHW.reshape(-1, *seen_MVCHW.shape[2:])
        self._alike = self._alike and seen_MVCHW.shape[1] == 1

    def gain(self, step: Change, transform: Gain) -> None:
        """Find the numbers of a gain."""
        images = self._images_MCHW
        peaks_NC = self._peaks(step.extents) if transform.needs_peaks else images.new_ones(images.shape[:2])
        if self._alike:
            peaks_NC = peaks_NC.repeat_interleave(self._views, dim=0)
        if self._gains_NC is not None:
            peaks_NC = peaks_NC * self._gains_NC
        gains_NC = transform.gains(peaks_NC, step.draws_N.of_samples(self._of_views))
        self._gains_NC = gains_NC if self._gains_NC is None else self._gains_NC * gains_NC

    def change(self, step: Change) -> None:
        """Do what is no gain."""
        if step.parts:
            self._part()
        self._apply_gains()
        transform, draws = step.transform, step.draws_N.of_samples(self._of_views)
        if transform.pixelwise or step.extents.even:
            self._images_MCHW = transform.apply(self._images_MCHW, draws)
            return
        sizes_M2 = step.extents.sizes_M2[self._rows]
        changed: torch.Tensor | None = None
        for height, width in sorted({(height, width) for height, width in sizes_M2.tolist()}):
            same = (sizes_M2 == sizes_M2.new_tensor([height, width])).all(dim=1)
            # What draws nothing may be done to the images, of which there are fewer than views.
            part = transform.apply(self._images_MCHW[same, :, :height, :width], draws.of_samples(same) if transform.random else draws)
            if changed is None:
                changed = part.new_zeros(len(same), part.shape[1], *self._images_MCHW.shape[2:])
            changed[same, :, :height, :width] = part
        if changed is not None:
            self._images_MCHW = changed

    def finished(self) -> torch.Tensor:
        """The views, (V, B, C, H, W)."""
        if self._gains_NC is not None and self._alike:
            self._part()
        self._apply_gains()
        images = self._images_MCHW
        if self._alike:
            return images.expand(self._views, *images.shape)
        return images.reshape(-1, self._views, *images.shape[1:]).transpose(0, 1)

    def _peaks(self, extents: Extents) -> torch.Tensor:
        """The largest value of each channel within the true size of each image, (M, C)."""
        images = self._images_MCHW
        if not extents.even:
            y, x = (torch.arange(length, device=images.device) for length in images.shape[2:])
            height, width = extents.sizes_M2[self._rows, :, None, None].unbind(1)
            images = images.masked_fill(~((y[:, None] < height) & (x < width))[:, None], -torch.inf)
        return images.amax(dim=(2, 3))

    def _part(self) -> None:
        """From now on, the views of an image differ."""
        self._images_MCHW = self._images_MCHW.repeat_interleave(self._views, dim=0)
        self._alike = False

    def _apply_gains(self) -> None:
        if self._gains_NC is not None:
            self._images_MCHW = self._images_MCHW * self._gains_NC[:, :, None, None]
            self._gains_NC = None
