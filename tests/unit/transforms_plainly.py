"""What the tests of transforms share: images, draws, and one transform alone.

Dimensions: N samples, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dino4cells.augment.draws import Draws
from dino4cells.augment.geometry import Geometric
from dino4cells.augment.homography import Look, Places, resample
from dino4cells.augment.intensity import Intensity
from dino4cells.augment.stages import Transform

UNLIKELY = 1e-4
"""A sound generator falls below this once in ten thousand seeds; the keys are fixed, so that a passing test passes for ever."""
NEAR = {"rtol": 0, "atol": 1e-4}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def grey_levels(*shape: int, seed: int = 0) -> torch.Tensor:
    """Noise as stored: whole numbers from 0 to 255."""
    return (noise(*shape, seed=seed) * 255).round()


def draws(count: int) -> Draws:
    return Draws(torch.arange(count))


def sizes(count: int, height: int, width: int) -> torch.Tensor:
    return torch.tensor([[float(height), float(width)]]).expand(count, 2)


def apply(transform: Intensity, views_NCHW: torch.Tensor) -> torch.Tensor:
    return transform.apply(views_NCHW, draws(len(views_NCHW)))


def changed(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    return (before != after).flatten(1).any(dim=1)


def prepared(transform: Geometric, image_CHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the transform resamples instead of an image, (1, C, H, W), and its size, (1, 2)."""
    size = torch.tensor([image_CHW.shape[1:]])
    stored, padded = transform.prepared(size, (image_CHW.shape[1], image_CHW.shape[2]))
    images = transform.prepare(image_CHW[None], size, padded)
    assert stored.tolist() == [list(images.shape[2:])]
    return images, stored


def shown(images: torch.Tensor, sizes_B2: torch.Tensor, homographies_BV33: torch.Tensor, side: tuple[int, int]) -> torch.Tensor:
    """Images through homographies, zeros outside."""
    return resample(images, Places.seen([Look(homographies_BV33, sizes_B2[:, None])], (images.shape[2], images.shape[3]), side))


def one_after_the_other(transforms: Sequence[Transform], image_CHW: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """One image through its transforms in their order, each alone, with a resampling of its own and the draws of the sample's key."""
    image = image_CHW
    for position, transform in enumerate(transforms):
        own = Draws(key.reshape(1)).of_transform(position)
        if isinstance(transform, Intensity):
            image = transform.apply(image[None], own)[0]
            continue
        images, stored = prepared(transform, image)
        maps, outputs = transform.homography(stored.float(), own)
        side = (int(outputs[0, 0]), int(outputs[0, 1]))
        image = resample(images, Places.seen([transform.look(maps[None], stored[:, None])], (images.shape[2], images.shape[3]), side))[0, 0]
    return image


def views(transform: Geometric, image: torch.Tensor, count: int) -> torch.Tensor:
    """(count, C, h, w): an image seen through `count` draws of a transform whose outputs have one size."""
    images, stored = prepared(transform, image)
    height, width = stored[0].tolist()
    maps, outputs = transform.homography(sizes(count, height, width), draws(count))
    assert len(torch.unique(outputs, dim=0)) == 1
    side = (int(outputs[0, 0]), int(outputs[0, 1]))
    return resample(images, Places.seen([transform.look(maps[None], stored[:, None])], (images.shape[2], images.shape[3]), side))[0]
