"""The published configuration's transforms of one image, one after the other, as the handbook describes them.

An image is a float tensor (C, H, W) in [0, 1]. What is random is drawn in the classes; the functions do what was drawn.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
import torchvision.transforms.functional as TF
from torchvision.transforms import InterpolationMode, RandomResizedCrop

BILINEAR = InterpolationMode.BILINEAR
Image = torch.Tensor


def warp_cell(image: Image, corner: int, x: int, y: int) -> Image:
    """Moves a corner (clockwise from the upper left) inwards by x and y pixels; zeros outside."""
    height, width = image.shape[1:]
    corners = [[0, 0], [width, 0], [width, height], [0, height]]
    moved = [list(point) for point in corners]
    moved[corner][0] += x if corner in (0, 3) else -x
    moved[corner][1] += y if corner in (0, 1) else -y
    return TF.perspective(image, corners, moved, interpolation=BILINEAR, fill=[0.0])


def remove_channel(image: Image, channel: int) -> Image:
    image = image.clone()
    image[channel] = 0
    return image


def change_brightness(image: Image, factors: torch.Tensor) -> Image:
    """Each channel times its factor."""
    return torch.stack([(channel * factor).clamp(0, 1) for channel, factor in zip(image, factors, strict=True)])


def change_contrast(image: Image, factors: torch.Tensor) -> Image:
    """Each channel blended with its mean."""
    return torch.stack([(factor * c + (1 - factor) * c.mean()).clamp(0, 1) for c, factor in zip(image, factors, strict=True)])


def self_normalize(image: Image) -> Image:
    """Each channel minus its mean, by its population standard deviation + 1e-7."""
    return torch.stack([(channel - channel.mean()) / (channel.std(correction=0) + 1e-7) for channel in image])


@dataclass(frozen=True)
class WarpCell:
    def __call__(self, image: Image) -> Image:
        reach = max(1, min(image.shape[1:]) // 4)
        return warp_cell(image, random.randrange(4), random.randrange(reach), random.randrange(reach))


@dataclass(frozen=True)
class RemoveChannel:
    """With probability p, one of the markers; never channel 1, the protein."""

    p: float

    def __call__(self, image: Image) -> Image:
        if len(image) < 4 or random.random() >= self.p:
            return image
        return remove_channel(image, random.choice((0, 2, 3)))


@dataclass(frozen=True)
class Flip:
    p: float

    def __call__(self, image: Image) -> Image:
        if random.random() < self.p:
            image = TF.hflip(image)
        if random.random() < self.p:
            image = TF.vflip(image)
        return image


@dataclass(frozen=True)
class ChangeBrightness:
    """Always; p is the deviation of the factors."""

    p: float

    def __call__(self, image: Image) -> Image:
        return change_brightness(image, torch.normal(1.0, self.p, (len(image),)).clamp(min=0.5))


@dataclass(frozen=True)
class ChangeContrast:
    p: float

    def __call__(self, image: Image) -> Image:
        return change_contrast(image, torch.normal(1.0, self.p, (len(image),)).clamp(min=0.5))


def jitter_and_normalize(image: Image) -> Image:
    """What all views end with: `flip_and_color_jitter_transforms`, then `normalization`."""
    for transform in (Flip(0.5), ChangeBrightness(0.5), ChangeContrast(0.5), self_normalize):
        image = transform(image)
    return image


def crop(size: int, scale: tuple[float, float]) -> RandomResizedCrop:
    return RandomResizedCrop(size, scale=scale, interpolation=BILINEAR, antialias=False)


class GlobalView:
    """`global_transfo1` warps the cell, `global_transfo2` may remove a channel; both crop."""

    def __init__(self, size: int, first: bool) -> None:
        self.change = WarpCell() if first else RemoveChannel(0.2)
        self.crop = crop(size, (0.4, 1))

    def __call__(self, image: Image) -> Image:
        return jitter_and_normalize(self.crop(self.change(image)))


class LocalView:
    def __init__(self, size: int) -> None:
        self.change = RemoveChannel(0.2)
        self.crop = crop(size, (0.05, 0.4))

    def __call__(self, image: Image) -> Image:
        return jitter_and_normalize(self.crop(self.change(image)))


class MultiCrop:
    """An image's views: two global ones, then the local ones."""

    def __init__(self, global_size: int = 224, local_size: int = 96, local_count: int = 8) -> None:
        self.views = [GlobalView(global_size, first=True), GlobalView(global_size, first=False), *[LocalView(local_size)] * local_count]

    def __call__(self, image: Image) -> list[Image]:
        return [view(image) for view in self.views]
