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
from dino4cells.augment.homography import Lines, Look, Outside, Places, resample
from dino4cells.augment.intensity import Drawn, Gain, Intensity
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
    """Geometric transforms in one resampling.

    Attributes:
        geometric: the transforms and their places in the handbook's order.
        given: the images that they are given.
        padded: height and width of the tensor that the first of them prepares.
        looks: at what the first of them prepares.
        side: height and width of the views.
        places: those of the views, where they are few numbers.
        shared: whether every view kind that begins with the same transforms comes to the same images.
    """

    geometric: tuple[tuple[int, Geometric], ...]
    given: Extents
    padded: tuple[int, int]
    looks: tuple[Look, ...]
    side: tuple[int, int]
    places: Places | None
    shared: bool

    @property
    def transforms(self) -> tuple[Geometric, ...]:
        return tuple(transform for _, transform in self.geometric)

    def places_in(self, rows: slice) -> Places:
        """Where the pixels of the views of some of the images lie."""
        if self.places:
            return self.places.of_images(rows)
        return Places.seen([look.of_images(rows) for look in self.looks], self.padded, self.side)


@dataclass(frozen=True)
class Change:
    """An intensity transform of images of these extents, which begins by parting the views of an image where `parts`."""

    transform: Intensity
    drawn: Drawn
    extents: Extents
    parts: bool


Shared = dict[tuple[Geometric, ...], torch.Tensor]
"""Images that view kinds have in common, by the transforms that made them."""


class Plan:
    """What is done to the pixels of a batch, in order.

    Args:
        stages: of the view kind.
        extents: of the images.
        channels: of the images.
        keys_BV: random keys of each image and view.
    """

    def __init__(self, stages: Sequence[Stage], extents: Extents, channels: int, keys_BV: torch.Tensor) -> None:
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
                self.steps.append(Change(transform, transform.draw(self._draws[position], channels), self._extents, parts))
                channels = transform.channels_after(channels)

    def _part(self) -> None:
        sizes_N2 = self._extents.sizes_M2.repeat_interleave(self.views, dim=0)
        self._extents, self._alike = Extents(sizes_N2, self._extents.padded, self._extents.known_even), False

    def _resample(self, geometric: Sequence[tuple[int, Geometric]]) -> None:
        given, random = self._extents, any(transform.random for _, transform in geometric)
        prepared_M2, padded = geometric[0][1].prepared(given.sizes_M2, given.padded)
        sizes_M2 = prepared_M2.to(torch.float32)
        images, views, sizes_N2 = len(sizes_M2), 1, sizes_M2
        if self._alike and random:
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
        square = side_after(transform for _, transform in geometric)
        height, width = (square, square) if square else (int(length) for length in sizes_N2.amax(0))
        # Where columns stay columns, places are numbers of columns and of rows, not of pixels.
        places = Places.seen(looks, padded, (height, width)) if all(look.lines is Lines.UPRIGHT for look in looks) else None
        self.steps.append(
            Resampling(tuple(geometric), given, padded, tuple(looks), (height, width), places, shared=not self.steps and not random)
        )
        self._extents = Extents(sizes_N2.round().to(torch.int64), (height, width), known_even=bool(square))

    def carry_out(self, images_BCHW: torch.Tensor, white: float, rows: slice, shared: Shared) -> torch.Tensor:
        """Views of some of the images.

        Args:
            images_BCHW: float32.
            white: what of them becomes 1.
            rows: where they stand in the batch.
            shared: what other plans have made of the same images; this one adds to it.

        Returns:
            (V, B, C, H, W), float32 in [0, 1] before any normalization.
        """
        pixels = Pixels(images_BCHW, white, rows, self.views)
        for step in self.steps:
            if isinstance(step, Resampling):
                pixels.resample(step, shared)
            elif isinstance(step.transform, Gain):
                pixels.gain(step, step.transform)
            else:
                pixels.change(step)
        return pixels.finished()


class Pixels:
    """Some images of a batch on their way to their views.

    What does not differ between the views of an image is done once an image. What looks at more than single pixels is done one size at a
    time, so that it never sees the padding. Grey values become numbers up to 1 together with the first gain, or before the first change.
    """

    def __init__(self, images_BCHW: torch.Tensor, white: float, rows: slice, views: int) -> None:
        self._images_MCHW, self._own = images_BCHW, False  # whether nobody else looks at them
        self._views, self._of_images = views, rows
        self._of_views = slice(rows.start * views, rows.stop * views)
        self._alike = True  # all views of an image, so far
        self._white = white  # the images are still to be divided by this,
        self._gains_NC: torch.Tensor | None = None  # and to be multiplied by these

    @property
    def _rows(self) -> slice:
        return self._of_images if self._alike else self._of_views

    def resample(self, step: Resampling, shared: Shared) -> None:
        """Do geometric transforms."""
        seen_MVCHW = shared.get(step.transforms) if step.shared else None
        if seen_MVCHW is None:
            prepared = step.geometric[0][1].prepare(self._images_MCHW, step.given.sizes_M2[self._rows], step.padded)
            seen_MVCHW = resample(prepared, step.places_in(self._rows))
            if step.shared:
                shared[step.transforms] = seen_MVCHW
        self._images_MCHW, self._own = seen_MVCHW.reshape(-1, *seen_MVCHW.shape[2:]), not step.shared
        self._alike = self._alike and seen_MVCHW.shape[1] == 1

    def gain(self, step: Change, transform: Gain) -> None:
        """Find the numbers of a gain."""
        drawn = tuple(numbers[self._of_views] for numbers in step.drawn)
        views = self._of_views.stop - self._of_views.start
        peaks_NC = torch.ones(views, self._images_MCHW.shape[1], device=self._images_MCHW.device)
        if transform.needs_peaks:
            peaks_MC = self._peaks(step.extents)
            peaks_NC = peaks_MC[:, None].expand(-1, views // len(peaks_MC), -1).flatten(0, 1)
        if self._gains_NC is not None:
            peaks_NC = peaks_NC * self._gains_NC
        gains_NC = transform.gains(peaks_NC, drawn)
        self._gains_NC = gains_NC if self._gains_NC is None else self._gains_NC * gains_NC

    def change(self, step: Change) -> None:
        """Do what is no gain."""
        if step.parts:
            self._part()
        self._scale()
        transform, drawn = step.transform, tuple(numbers[self._of_views] for numbers in step.drawn)
        if transform.pixelwise or step.extents.even:
            self._images_MCHW = transform.change(self._images_MCHW if self._own else self._images_MCHW.clone(), drawn)
        else:
            self._images_MCHW = self._changed_by_size(transform, drawn, step.extents.sizes_M2[self._rows])
        self._own = True

    def _changed_by_size(self, transform: Intensity, drawn: Drawn, sizes_M2: torch.Tensor) -> torch.Tensor:
        images = changed = self._images_MCHW
        for number, (height, width) in enumerate(sorted({(height, width) for height, width in sizes_M2.tolist()})):
            same = (sizes_M2 == sizes_M2.new_tensor([height, width])).all(dim=1)
            part = transform.change(images[same, :, :height, :width], tuple(numbers[same] for numbers in drawn))
            if not number:
                changed = part.new_zeros(len(same), part.shape[1], *images.shape[2:])
            changed[same, :, :height, :width] = part
        return changed

    def finished(self) -> torch.Tensor:
        """The views, (V, B, C, H, W)."""
        if self._gains_NC is not None and self._alike:
            self._part()
        self._scale()
        images = self._images_MCHW
        if self._alike:
            return images.expand(self._views, *images.shape)
        return images.reshape(-1, self._views, *images.shape[1:]).transpose(0, 1)

    def _scale(self) -> None:
        """Divide and multiply the images by what they are still to be divided and multiplied by."""
        images = self._images_MCHW
        if self._gains_NC is not None:
            factors_NC11 = (self._gains_NC / self._white)[:, :, None, None]
            self._images_MCHW = images.mul_(factors_NC11) if self._own else images * factors_NC11
        elif self._white != 1:
            self._images_MCHW = images.div_(self._white) if self._own else images / self._white
        else:
            return
        self._white, self._gains_NC, self._own = 1, None, True

    def _peaks(self, extents: Extents) -> torch.Tensor:
        """The largest value of each channel within the true size of each image, (M, C)."""
        images = self._images_MCHW
        if not extents.even:
            y, x = (torch.arange(length, device=images.device) for length in images.shape[2:])
            height, width = extents.sizes_M2[self._rows, :, None, None].unbind(1)
            images = images.masked_fill(~((y[:, None] < height) & (x < width))[:, None], -torch.inf)
        return images.amax(dim=(2, 3)) / self._white

    def _part(self) -> None:
        """From now on, the views of an image differ."""
        self._images_MCHW, self._own = self._images_MCHW.repeat_interleave(self._views, dim=0), True
        self._alike = False
