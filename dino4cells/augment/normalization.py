"""Normalization by the data's own mean and standard deviation: `Normalize: [True, {mean: data, std: data}]`.

The word `data` is replaced by numbers once, before training, and the numbers stay in the model's configuration, so that extraction
normalizes other data as the model has learnt it. Unlike `self_normalize`, it keeps differences in brightness between cells.
"""

from __future__ import annotations

from functools import partial

from dino4cells.augment.channels import GetSpecificChannel
from dino4cells.augment.parameters import BY_DATA
from dino4cells.augment.registry import build_transform
from dino4cells.augment.views import EXTRACTION, FIRST, LOCAL, SECOND
from dino4cells.config import TRANSFORM_SECTIONS, Config
from dino4cells.config.values import TransformChoice
from dino4cells.data.dataset import CellImages
from dino4cells.data.statistics import Moments, chunks, evenly_drawn

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
    update = {}
    for section in TRANSFORM_SECTIONS:
        choices: dict[str, TransformChoice] = getattr(config, section)
        kept = _kept_channel(config, section)
        numbers = {
            name: [round(value, 5) for value in (values if kept is None else values[kept : kept + 1])]
            for name, values in (("mean", mean), ("std", deviation))
        }
        update[section] = {
            name: TransformChoice(active=choice.active, parameters=dict(numbers)) if _asks(choice) else choice
            for name, choice in choices.items()
        }
    resolved: Config = config.model_copy(update=update)
    return resolved


def with_numbers_of(config: Config, learnt: Config) -> Config:
    """The configuration with the sections of another one, which a model was trained with, where it says `data`."""
    asking = [section for section in TRANSFORM_SECTIONS if any(_asks(choice) for choice in getattr(config, section).values())]
    changed: Config = config.model_copy(update={section: getattr(learnt, section) for section in asking})
    return changed


def _asks(choice: TransformChoice) -> bool:
    given = choice.parameters.values() if isinstance(choice.parameters, dict) else choice.parameters or ()
    return BY_DATA in given


def _kept_channel(config: Config, section: str) -> int | None:
    """The one channel that is left where a section normalizes, or None: all."""
    order = next(sections for sections in (FIRST, SECOND, LOCAL, EXTRACTION) if section in sections)
    kept: int | None = None
    for earlier in order[: order.index(section) + 1]:
        for name, parameters in config.section(earlier):
            if earlier == section and _asks(getattr(config, section)[name]):
                break
            if name == "Get_specific_channel":
                transform = build_transform(name, parameters, partial(config.where, earlier, name))
                kept = transform.c if isinstance(transform, GetSpecificChannel) else None
    return kept


def channel_statistics(images: CellImages, sample: int = SAMPLE) -> tuple[list[float], list[float]]:
    """Mean and population standard deviation of each channel over the pixels of up to `sample` images, evenly drawn, in [0, 1].

    Raises:
        DataError: none of them can be read.
    """
    moments = Moments.sum(Moments.of(images, rows) for rows in chunks(evenly_drawn(len(images), sample)))
    return moments.given_to_network(images.source.mode).mean_and_deviation()
