"""Where the image of each row comes from: its files, and how their contents become the channels of a batch.

Dimensions: C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dino4cells import storage
from dino4cells.config import ModelConfig
from dino4cells.data.images import MAX_CHANNELS, decode
from dino4cells.data.metadata import Metadata
from dino4cells.errors import ConfigError, DataError, Dino4CellsError


@dataclass(frozen=True)
class ImageSource:
    """Which files each row has, and how they become channels.

    Attributes:
        urls: the file of each row.
        channels: names of the data's channels, in order.
    """

    urls: tuple[str, ...]
    channels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.urls)

    @property
    def in_channels(self) -> int:
        """Channels of the tensors in a batch."""
        return len(self.channels)

    def files(self, row: int) -> tuple[str, ...]:
        """URLs of the files that a row's image is made of."""
        return (self.urls[row],)

    def where(self, row: int) -> str:
        """What messages call the image of a row."""
        return self.urls[row]

    def image(self, row: int, contents: Sequence[bytes]) -> torch.Tensor:
        """The image of a row, from the contents of its files in order.

        Returns:
            (C, H, W), uint8, or float32 in [0, 1]: what can be kept from epoch to epoch.

        Raises:
            DataError: the contents are no image of these channels.
        """
        image = decode(contents[0], self.urls[row])
        if image.shape[0] != len(self.channels):
            raise DataError(f"{self.urls[row]}: has {image.shape[0]} channels where {len(self.channels)} are expected; see channels.txt.")
        return image

    def drawn(self, image: torch.Tensor, epoch: int, row: int) -> torch.Tensor:
        """The channels of an image that a batch of this epoch holds (in_channels, H, W)."""
        return image


def plain_source(urls: Sequence[str], channels: int) -> ImageSource:
    """One file a row, used with all its channels, which have no names."""
    return ImageSource(tuple(urls), _numbered(channels))


def image_source(metadata: Metadata, model: ModelConfig) -> ImageSource:
    """The images of a table as a configuration wants them.

    Raises:
        DataError: the first images cannot be read or have another number of channels than announced.
        ConfigError: the configuration contradicts itself.
    """
    return ImageSource(tuple(metadata.urls), channel_names(metadata, model.num_channels, model.channels))


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"channel_{index}" for index in range(count))


def channel_names(metadata: Metadata, number: int | None, names: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the channels in order: the configuration's, else the data's, else `channel_0 …` as many as the first readable image has.

    Args:
        metadata: the table of cells.
        number: channels that the configuration announces, or None.
        names: channel names that the configuration gives, or None.

    Raises:
        DataError: the first images cannot be read or have another number of channels than announced.
        ConfigError: the configuration names another number of channels than it announces.
    """
    found, where = _count_channels(metadata)
    if names is not None and number is not None and len(names) != number:
        raise ConfigError(
            f"model.channels names {len(names)} channels ({', '.join(names)}) and model.num_channels is {number}; make them agree."
        )
    expected = number or (len(names) if names else None)
    if expected is not None and expected != found:
        raise DataError(
            f"{where}: has {found} channels and the configuration expects {expected}; correct model.num_channels or the images."
        )
    if names is None and metadata.channels is not None:
        names = metadata.channels
        if len(names) != found:
            raise DataError(f"{where}: has {found} channels and channels.txt names {len(names)} ({', '.join(names)}); make them agree.")
    return tuple(names) if names else _numbered(found)


def _count_channels(metadata: Metadata, attempts: int = 20) -> tuple[int, str]:
    urls = metadata.urls[:attempts]
    first_error: Dino4CellsError | None = None
    for url, content in zip(urls, storage.read_many(urls), strict=True):
        try:
            if isinstance(content, Dino4CellsError):
                raise content
            channels = decode(content, url).shape[0]
        except Dino4CellsError as error:
            first_error = first_error or error
            continue
        if channels > MAX_CHANNELS:
            raise DataError(f"{url}: has {channels} channels; at most {MAX_CHANNELS} are supported.")
        return channels, url
    raise DataError(f"{metadata.source}: none of the first {len(urls)} images can be read; the first says: {first_error}")
