"""Normalization by the data's own mean and standard deviation: `Normalize: [True, {mean: data, std: data}]`.

The word `data` is replaced by numbers once, before training, and the numbers stay in the model's configuration, so that extraction
normalizes other data as the model has learnt it. Unlike `self_normalize`, it keeps differences in brightness between cells.
"""

from __future__ import annotations

from dino4cells.config import TRANSFORM_SECTIONS, Config
from dino4cells.config.values import TransformChoice
from dino4cells.data.dataset import CellImages
from dino4cells.data.statistics import Moments, chunks, evenly_drawn

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
    moments = Moments.sum(Moments.of(images, rows) for rows in chunks(evenly_drawn(len(images), sample)))
    return moments.given_to_network(images.source.mode).mean_and_deviation()
