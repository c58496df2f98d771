"""The views of DINO, made on the device from a batch as stored: two global ones and several local ones per image.

Order within a view as in the handbook; `stages` says how its transforms come to one resampling where their order allows it.

Dimensions: B batch, V views of a kind, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from dino4cells.augment.draws import sample_keys
from dino4cells.augment.plan import Extents, Plan, Resampling, Shared
from dino4cells.augment.registry import active_transforms
from dino4cells.augment.stages import Stage, Transform, side_after, stages
from dino4cells.config import Config
from dino4cells.data.dataset import Batch
from dino4cells.data.images import LARGEST, to_unit_range
from dino4cells.errors import ConfigError

_JITTER, _LAST = "flip_and_color_jitter_transforms", "normalization"
FIRST = ("global_transfo1", _JITTER, "global_aug1", _LAST)
SECOND = ("global_transfo2", _JITTER, "global_aug2", _LAST)
LOCAL = ("local_transfo", "local_aug", _JITTER, _LAST)
EXTRACTION = ("testing_transfo",)
"""Sections of a view's transforms, in the handbook's order."""

CACHED_FLOATS = 2**19
"""Of the largest kind of views, what a core works on at once, unless an image has more: 2 MiB stay in its cache while they are changed."""


@dataclass(frozen=True)
class ViewKind:
    """Transforms that the views of one kind share, in order.

    Attributes:
        transforms: the transforms.
        places: where the configuration gives each, for messages.
    """

    transforms: tuple[Transform, ...]
    places: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def from_sections(cls, config: Config, sections: Iterable[str]) -> ViewKind:
        """The active transforms of the named sections of a configuration, in their order.

        Raises:
            ConfigError: an active transform is wrong.
        """
        built = [placed for section in sections for placed in active_transforms(config, section)]
        return cls(tuple(transform for _, transform in built), tuple(place for place, _ in built))

    @cached_property
    def stages(self) -> list[Stage]:
        """What is done, in which order."""
        return stages(self.transforms)

    @cached_property
    def side(self) -> int | None:
        """Height and width in pixels that the geometric transforms fit every image to, or None."""
        return side_after(self.transforms)

    def channels_after(self, channels: int) -> int:
        """Channels of the views of images with `channels` channels.

        Raises:
            ConfigError: a transform cannot be applied to so many channels; says which one and where it stands.
        """
        for number, transform in enumerate(self.transforms):
            try:
                channels = transform.channels_after(channels)
            except ConfigError as error:
                raise ConfigError(f"{self._place(number)}: {error}") from error
        return channels

    def make(self, images_BCHW: torch.Tensor, sizes_B2: torch.Tensor, keys_BV: torch.Tensor) -> torch.Tensor:
        """Views of every image.

        Args:
            images_BCHW: uint8, or float32 in [0, 1]; padded at the right and bottom.
            sizes_B2: true height and width.
            keys_BV: random keys of each image and view (`sample_keys`).

        Returns:
            (V, B, C, H, W), float32. Where `side` is None, views are padded like the images.

        Raises:
            ConfigError: images of one size may come to views of different sizes, or have another number of channels than a transform takes.
        """
        if self.side is None and keys_BV.numel():
            self.channels_after(images_BCHW.shape[1])
            return self.plan(images_BCHW, sizes_B2, keys_BV).carry_out(to_unit_range(images_BCHW), 1, slice(0, len(images_BCHW)), {})
        views_VBCHW = self.empty(images_BCHW, keys_BV.shape[1])
        make_views(images_BCHW, sizes_B2, [(self, keys_BV, views_VBCHW)])
        return views_VBCHW

    def empty(self, images_BCHW: torch.Tensor, count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Room for `count` views of each image; where `side` is None, as large as the images.

        Raises:
            ConfigError: images have another number of channels than a transform takes.
        """
        channels = self.channels_after(images_BCHW.shape[1])
        height, width = (self.side, self.side) if self.side else images_BCHW.shape[2:]
        return images_BCHW.new_empty(count, len(images_BCHW), channels, height, width, dtype=dtype)

    def plan(self, images_BCHW: torch.Tensor, sizes_B2: torch.Tensor, keys_BV: torch.Tensor) -> Plan:
        """What is done to the images; they are not looked at.

        Raises:
            ConfigError: images of one size may come to views of different sizes.
        """
        plan = Plan(self.stages, Extents(sizes_B2, (images_BCHW.shape[2], images_BCHW.shape[3])), images_BCHW.shape[1], keys_BV)
        for step in plan.steps if self.side is None else ():
            if isinstance(step, Resampling):
                self._check_sizes(step)
        return plan

    def _check_sizes(self, step: Resampling) -> None:
        for number, transform in step.geometric:
            if transform.turns(step.given.sizes_M2):
                raise ConfigError(
                    f"{self._place(number)}: images of one size come out in several; "
                    "fit them to a square first, for example with Single_cell_centered."
                )

    def _place(self, number: int) -> str:
        return self.places[number] if self.places else type(self.transforms[number]).__name__


Asked = tuple[ViewKind, torch.Tensor, torch.Tensor]
"""A kind of views, the keys (B, V) of those that are asked for, and the room (V, B, C, H, W) that they are written to."""


def make_views(images_BCHW: torch.Tensor, sizes_B2: torch.Tensor, asked: Sequence[Asked]) -> None:
    """Write views of several kinds, each of one size, of images as stored; the images are read once for all of them."""
    asked = [(kind, keys_BV, views_VBCHW) for kind, keys_BV, views_VBCHW in asked if keys_BV.numel()]
    if not asked:
        return
    plans = [(kind.plan(images_BCHW, sizes_B2, keys_BV), views_VBCHW) for kind, keys_BV, views_VBCHW in asked]
    count = len(images_BCHW)
    at_once = count
    if images_BCHW.device.type == "cpu":
        floats = max(views_VBCHW[:, 0].numel() for _, views_VBCHW in plans)
        at_once = max(1, CACHED_FLOATS // floats) * torch.get_num_threads()
    for start in range(0, count, at_once):
        rows = slice(start, min(start + at_once, count))
        # Grey values become numbers up to 1 where there are fewer of them: in the views.
        images, white = images_BCHW[rows].to(torch.float32), LARGEST.get(images_BCHW.dtype, 1)
        shared: Shared = {}
        for plan, views_VBCHW in plans:
            views_VBCHW[:, rows] = plan.carry_out(images, white, rows, shared)


@dataclass(frozen=True)
class MultiCrop:
    """DINO's multi-crop (Caron et al. 2021, §3.1; SwAV, Caron et al. 2020, §3.3) in the handbook's sections."""

    first: ViewKind
    second: ViewKind
    local: ViewKind
    local_count: int
    seed: int

    @classmethod
    def from_config(cls, config: Config) -> MultiCrop:
        """Global 1 and 2: crop, jitter, augmentation, normalization; local: crop, augmentation, jitter, normalization.

        Raises:
            ConfigError: a transform is wrong, or a view has no transform that fits images to one size.
        """
        first, second, local = (ViewKind.from_sections(config, sections) for sections in (FIRST, SECOND, LOCAL))
        for section, kind in (("global_transfo1", first), ("global_transfo2", second), ("local_transfo", local)):
            if kind.side is None and (config.local_crops_number or kind is not local):
                raise ConfigError(
                    f"{config.where(section)}: no active transform fits the images to one size; add RandomResizedCrop with a 'size'."
                )
        if first.side != second.side:
            raise ConfigError(
                f"{config.where('global_transfo2')}: its views have {second.side} px and those of global_transfo1 {first.side}; "
                "make them equal."
            )
        return cls(first, second, local, config.local_crops_number, config.model.seed)

    def channels_after(self, channels: int) -> int:
        """Channels of the views of images with `channels` channels.

        Raises:
            ConfigError: a transform cannot be applied to so many channels, or the views differ.
        """
        counts = {"the first global view": self.first.channels_after(channels), "the second": self.second.channels_after(channels)}
        if self.local_count:
            counts["the local ones"] = self.local.channels_after(channels)
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{kind} {count}" for kind, count in counts.items())
            raise ConfigError(
                f"global_transfo1: views must agree in their channels, and there are in {listed}; use Get_specific_channel in all."
            )
        return counts["the second"]

    def __call__(self, batch: Batch, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
        """Global views (2, B, C, H, W) and local views (V, B, C, h, w) of a batch, on its device.

        Args:
            batch: images as stored.
            dtype: of the views. They are worked out in float32 and rounded last, as a network that computes in bfloat16 would round them.
        """
        images_BCHW = batch.images_BCHW
        views = torch.arange(2 + self.local_count, device=images_BCHW.device)
        keys_BV = sample_keys(self.seed, batch.epoch_B[:, None], batch.index_B[:, None], views[None])
        big, small = self.first.empty(images_BCHW, 2, dtype), self.local.empty(images_BCHW, self.local_count, dtype)
        asked = [(self.first, keys_BV[:, :1], big[:1]), (self.second, keys_BV[:, 1:2], big[1:])]
        if self.first == self.second:
            asked = [(self.first, keys_BV[:, :2], big)]
        make_views(images_BCHW, batch.sizes_B2, [*asked, (self.local, keys_BV[:, 2:], small)])
        return big, small
