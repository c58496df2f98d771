"""The views of DINO, made on the device from a batch as stored: two global ones and several local ones per image.

Order within a view as in the handbook; its geometric transforms are composed and applied in one resampling, then come its intensity
transforms, so a flip that the configuration lists after a change of brightness is done before it, which gives the same pixels.

Dimensions: B batch, V views of a kind, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from dino4cells.augment.draws import Draws, sample_keys
from dino4cells.augment.geometry import Geometric
from dino4cells.augment.homography import resample
from dino4cells.augment.intensity import Intensity
from dino4cells.augment.registry import build_transform
from dino4cells.config import Config
from dino4cells.data.dataset import Batch, to_unit_range
from dino4cells.errors import ConfigError


@dataclass(frozen=True)
class ViewKind:
    """Transforms that the views of one kind share."""

    geometric: tuple[Geometric, ...]
    intensity: tuple[Intensity, ...]

    @classmethod
    def from_sections(cls, config: Config, sections: Iterable[str]) -> ViewKind:
        """The active transforms of the named sections of a configuration, in their order."""
        transforms = [build_transform(name, parameters, section) for section in sections for name, parameters in config.section(section)]
        geometric = tuple(transform for transform in transforms if isinstance(transform, Geometric))
        return cls(geometric, tuple(transform for transform in transforms if isinstance(transform, Intensity)))

    @property
    def side(self) -> int | None:
        """Height and width in pixels that the geometric transforms fit every image to, or None."""
        return next((transform.size for transform in reversed(self.geometric) if hasattr(transform, "size")), None)

    def make(self, images_BCHW: torch.Tensor, sizes_B2: torch.Tensor, keys_BV: torch.Tensor) -> torch.Tensor:
        """Views of every image.

        Args:
            images_BCHW: float32 in [0, 1], padded at the right and bottom.
            sizes_B2: true height and width.
            keys_BV: random keys of each image and view (`sample_keys`).

        Returns:
            (V, B, C, H, W).
        """
        batch, count = keys_BV.shape
        side = (self.side, self.side) if self.side else (images_BCHW.shape[2], images_BCHW.shape[3])
        if not keys_BV.numel():
            return images_BCHW.new_empty(count, batch, images_BCHW.shape[1], *side)
        draws = Draws(keys_BV.reshape(-1))
        if self.geometric:
            sizes_N2 = sizes_B2.to(torch.float32).repeat_interleave(count, dim=0)
            composed = torch.eye(3, device=images_BCHW.device).expand(batch * count, 3, 3)
            for transform in self.geometric:
                step, sizes_N2 = transform.homography(sizes_N2, draws)
                composed = composed @ step
            views_BVCHW = resample(images_BCHW, sizes_B2, composed.reshape(batch, count, 3, 3), side)
        else:
            views_BVCHW = images_BCHW[:, None].expand(-1, count, -1, -1, -1)
        views_NCHW = views_BVCHW.reshape(batch * count, *views_BVCHW.shape[2:])
        for change in self.intensity:
            views_NCHW = change.apply(views_NCHW, draws)
        return views_NCHW.reshape(batch, count, *views_NCHW.shape[1:]).transpose(0, 1)


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
        jitter, last = "flip_and_color_jitter_transforms", "normalization"
        first = ViewKind.from_sections(config, ("global_transfo1", jitter, "global_aug1", last))
        second = ViewKind.from_sections(config, ("global_transfo2", jitter, "global_aug2", last))
        local = ViewKind.from_sections(config, ("local_transfo", "local_aug", jitter, last))
        for section, kind in (("global_transfo1", first), ("global_transfo2", second), ("local_transfo", local)):
            if kind.side is None and (config.local_crops_number or kind is not local):
                raise ConfigError(f"{section}: no active transform fits the images to one size; add RandomResizedCrop with a 'size'.")
        if first.side != second.side:
            raise ConfigError(
                f"global_transfo2: its views have {second.side} px and those of global_transfo1 {first.side}; make them equal."
            )
        return cls(first, second, local, config.local_crops_number, config.model.seed)

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Global views (2, B, C, H, W) and local views (V, B, C, h, w) of a batch, on its device."""
        images_BCHW = to_unit_range(batch.images_BCHW)
        views = torch.arange(2 + self.local_count, device=images_BCHW.device)
        keys_BV = sample_keys(self.seed, batch.epoch_B[:, None], batch.index_B[:, None], views[None])
        first = self.first.make(images_BCHW, batch.sizes_B2, keys_BV[:, :1])
        second = self.second.make(images_BCHW, batch.sizes_B2, keys_BV[:, 1:2])
        local = self.local.make(images_BCHW, batch.sizes_B2, keys_BV[:, 2:])
        return torch.cat([first, second]), local
