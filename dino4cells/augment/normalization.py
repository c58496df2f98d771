"""Normalization by the data's own mean and standard deviation: `Normalize: [True, {mean: data, std: data}]`.

The word `data` is replaced by numbers once, before training, and the numbers stay in the model's configuration, so that extraction
normalizes other data as the model has learnt it. Unlike `self_normalize`, it keeps differences in brightness between cells.
"""

from __future__ import annotations

import torch

from dino4cells.config import TRANSFORM_SECTIONS, Config
from dino4cells.config.values import TransformChoice
from dino4cells.data.dataset import CellImages, to_unit_range
from dino4cells.errors import DataError

BY_DATA = "data"
SAMPLE = 1000


def needs_data_statistics(config: Config) -> bool:
    """Whether a transform asks for the mean or deviation of the data."""
    return any(_asks(choice) for section in TRANSFORM_SECTIONS for choice in getattr(config, section).values())


def with_data_statistics(config: Config, images: CellImages) -> Config:
    """The configuration with numbers where it says `data`; the same one where it does not.

    Raises:
        DataError: none of the sampled images can be read.
    """
    if not needs_data_statistics(config):
        return config
    mean, deviation = channel_statistics(images)
    numbers = {"mean": [round(value, 5) for value in mean], "std": [round(value, 5) for value in deviation]}
    update = {}
    for section in TRANSFORM_SECTIONS:
        choices: dict[str, TransformChoice] = getattr(config, section)
        update[section] = {
            name: TransformChoice(active=choice.active, parameters=dict(numbers)) if _asks(choice) else choice
            for name, choice in choices.items()
        }
    resolved: Config = config.model_copy(update=update)
    return resolved


def _asks(choice: TransformChoice) -> bool:
    return isinstance(choice.parameters, dict) and BY_DATA in choice.parameters.values()


def channel_statistics(images: CellImages, sample: int = SAMPLE) -> tuple[list[float], list[float]]:
    """Mean and population standard deviation of each channel over the pixels of up to `sample` images, evenly drawn, in [0, 1].

    Raises:
        DataError: none of them can be read.
    """
    count = min(sample, len(images))
    rows = [place * len(images) // count for place in range(count)]
    batch = images.__getitems__([(0, row) for row in rows])
    if not len(batch):
        raise DataError(f"None of {len(rows)} sampled images can be read; the first says: {batch.failures[0][1]}")
    pixel_count, (total, squares) = 0, torch.zeros(2, images.source.in_channels, dtype=torch.float64)
    for image, (height, width) in zip(batch.images_BCHW, batch.sizes_B2.tolist(), strict=True):
        pixels = to_unit_range(image[:, :height, :width]).to(torch.float64)
        pixel_count += height * width
        total += pixels.sum(dim=(1, 2))
        squares += pixels.square().sum(dim=(1, 2))
    mean = total / pixel_count
    # A channel without contrast has no deviation to divide by.
    deviation = (squares / pixel_count - mean**2).clamp(min=0).sqrt().clamp(min=1e-3)
    return mean.tolist(), deviation.tolist()
