"""Reading images and making their views, over the size of the images and the number of channels."""

from __future__ import annotations

import tempfile

import torch

from benchmarks.growth.sweep import Sweep, cpu_seconds
from benchmarks.reference.images import draw_cell, write_images
from dino4cells.augment.views import MultiCrop
from dino4cells.config import load_config
from dino4cells.data.dataset import Batch, CellImages
from dino4cells.data.source import plain_source

SIDES = (64, 128, 256, 512, 1024)
CHANNELS = (1, 2, 3, 4, 6, 8, 12)
FILES, IMAGES, SIDE = 4, 4, 256


def sweeps() -> list[Sweep]:
    """Milliseconds for an image."""
    pixels = [side**2 for side in SIDES]
    return [
        Sweep("read and decode a PNG of 4 channels", "pixels", "CPU ms", pixels, [_decoding(side) for side in SIDES]),
        Sweep("views, 2×224 + 8×96 px, of 4 channels", "pixels", "CPU ms", pixels, [_views(side, 4) for side in SIDES]),
        Sweep(f"views of {SIDE}-px images", "channels", "CPU ms", CHANNELS, [_views(SIDE, channels) for channels in CHANNELS]),
    ]


def _decoding(side: int) -> float:
    with tempfile.TemporaryDirectory() as directory:
        paths = write_images(directory, FILES, side)
        images = CellImages(plain_source([str(path) for path in paths], 4), cache_bytes=0)
        return 1000 * cpu_seconds(lambda: images.read(range(FILES))) / FILES


def _views(side: int, channels: int) -> float:
    make = MultiCrop.from_config(load_config())
    batch = stored(IMAGES, side, channels)
    return 1000 * cpu_seconds(lambda: make(batch)) / IMAGES


def stored(images: int, side: int, channels: int) -> Batch:
    """A batch as it is read."""
    drawn = torch.stack([torch.from_numpy(draw_cell(side, channels, seed)).permute(2, 0, 1) for seed in range(images)])
    return Batch(drawn.contiguous(), torch.full((images, 2), side), torch.arange(images), torch.zeros(images, dtype=torch.int64))
