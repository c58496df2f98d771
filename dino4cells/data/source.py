"""Where the images of a batch come from: the stored channels that are used, in order, and what of them the network is given.

Dimensions: C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dino4cells.config import ModelConfig
from dino4cells.config.model import ImageMode
from dino4cells.data.block_buffer import BlockBuffer
from dino4cells.data.block_order import BlockOrder
from dino4cells.data.channels import Names, are_numbered, asked_for, mapped, matched_to_model, numbered
from dino4cells.data.layout import Layout
from dino4cells.data.metadata import CHANNELS_FILE, Metadata
from dino4cells.data.modes import Mode, mode_for, stretch
from dino4cells.data.stored import StoredImages, first_picture
from dino4cells.errors import ConfigError, DataError, StorageError

MODE_DRAW = 0x6D6F6465
"""Keeps the draws of a mode apart from other draws of the same seed, epoch and row."""


@dataclass(frozen=True)
class ImageSource:
    """Which files each row has, and how they become the channels of a batch.

    Attributes:
        stored: all channels of the data.
        taken: positions among the data's channels of those that the model is about, in its order.
        mode: what of them the network is given.
        seed: of the mode's draws, a function of which, the epoch and the row they are.
        whole: batches hold all kept channels, for extraction, in place of one input of the mode.
    """

    stored: StoredImages
    taken: tuple[int, ...]
    mode: Mode
    seed: int = 0
    whole: bool = False

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def channels(self) -> Names:
        """Names of the channels that the model is about, in order."""
        names = self.stored.names or ()
        return tuple(names[position] for position in self.taken)

    @property
    def kept_channels(self) -> Names:
        """Names of the channels that the mode uses of them."""
        channels = self.channels
        return tuple(channels[position] for position in self.mode.kept)

    @property
    def batch_channels(self) -> int:
        """Channels of the tensors in a batch."""
        return len(self.mode.kept) if self.whole else self.mode.in_channels

    @property
    def in_channels(self) -> int:
        """Channels that the network is given: those of the tensors in a batch of training."""
        return self.mode.in_channels

    def files(self, row: int) -> tuple[str, ...]:
        """URLs of the files that a row's image is made of."""
        return self.stored.files(row, self._positions)

    def contents(self, rows: Sequence[int]) -> list[list[bytes | StorageError]]:
        """Of each row the contents of its `files`, all asked for at once; a failure stands at its place as a value."""
        return self.stored.contents(rows, self._positions)

    def buffered(self, order: BlockOrder, world_size: int) -> ImageSource:
        """The same packed images, read by whole blocks, as one of `world_size` processes that draw them in this order does best."""
        packed = self.stored.packed
        if packed is None:
            raise ValueError("only packed images have blocks")
        buffer = BlockBuffer(packed.shards, order.open_blocks(world_size))
        return replace(self, stored=replace(self.stored, packed=replace(packed, reader=buffer)))

    def where(self, row: int) -> str:
        """What messages call the image of a row."""
        return self.stored.urls[row]

    def image(self, row: int, contents: Sequence[bytes]) -> torch.Tensor:
        """The kept channels of a row's image, from the contents of its files in order.

        Returns:
            (C, H, W), uint8, uint16, or float32 in [0, 1]: what can be kept from epoch to epoch.

        Raises:
            DataError: the contents are no image of these channels.
        """
        pixels = self.stored.picture(row, contents, self._positions).pixels
        return stretch(pixels) if self.mode.stretched else pixels

    def drawn(self, image: torch.Tensor, epoch: int, row: int) -> torch.Tensor:
        """The channels of an image that a batch of this epoch holds (batch_channels, H, W)."""
        if self.whole:
            return image
        inputs = self.mode.inputs
        chosen = inputs[0]
        if len(inputs) > 1:
            chosen = inputs[int(np.random.default_rng((self.seed, epoch, row, MODE_DRAW)).integers(len(inputs)))]
        return image if chosen == tuple(range(image.shape[0])) else image[list(chosen)]

    @property
    def _positions(self) -> tuple[int, ...]:
        return tuple(self.taken[position] for position in self.mode.kept)


def plain_source(urls: Sequence[str], channels: int) -> ImageSource:
    """One file a row, used with all its channels, which have no names."""
    names = numbered(channels)
    every = tuple(range(channels))
    return ImageSource(StoredImages("", tuple(urls), names, Layout()), every, Mode("normalized", every, (every,)))


def image_source(metadata: Metadata, model: ModelConfig, *, one_channel_views: bool = False) -> ImageSource:
    """The images of a table as training wants them.

    Args:
        metadata: the table of cells.
        model: names of the channels, their number, the image mode and the seed.
        one_channel_views: whether the views keep one channel of what they are given, which `model.num_channels` may then count.

    Raises:
        DataError: the first images cannot be read or have other channels than the configuration or the image mode says.
        ConfigError: the configuration contradicts itself or the data's names.
    """
    wanted, announced = model.channels, model.num_channels
    keeps_all = model.image_mode.startswith(("normalized", "unnormalized"))
    if wanted is not None and announced is not None and len(wanted) != announced and keeps_all:
        raise ConfigError(
            f"model.channels names {len(wanted)} channels ({', '.join(wanted)}) and model.num_channels is {announced}; make them agree."
        )
    stored, where = _stored(metadata, wanted)
    names = stored.names or ()
    taken = tuple(range(len(names)))
    if wanted is not None and tuple(wanted) != names:
        taken = asked_for(wanted, names, metadata.source)
    channels = tuple(names[position] for position in taken)
    mode = mode_for(model.image_mode, channels, where=where, counted=not metadata.layout.has_strips)
    allowed = {len(channels), mode.in_channels, *([1] if one_channel_views else [])}
    if announced is not None and announced not in allowed:
        raise DataError(
            f"{where}: has {len(channels)} channels and the configuration expects {announced}; correct model.num_channels or the images."
        )
    return ImageSource(stored, taken, mode, model.seed)


def source_for_model(
    metadata: Metadata,
    channels: Names,
    image_mode: ImageMode,
    *,
    mapping: Sequence[str] | None = None,
    named: Sequence[str] | None = None,
) -> ImageSource:
    """The images of a table as a trained model takes them, all channels that its mode uses in a batch.

    Args:
        metadata: the table of cells.
        channels: the model's, in order.
        image_mode: the model's; `normalized` gives all channels, as pictures for people want them.
        mapping: `embedding.channels`.
        named: names for the channels of data that have none, such as the configuration's `model.channels`.

    Raises:
        DataError: the first images cannot be read, or their channels are not the model's; says both lists.
        ConfigError: the mapping does not fit.
    """
    spoken: Sequence[str] | None = None
    if metadata.channels is None and metadata.has_file_per_channel:
        spoken = mapped(channels, None, mapping) if mapping else named or channels
    # What the data call their channels counts before what a configuration, which may be the model's own, calls them.
    stored, where = _stored(metadata, spoken, fallback=named)
    names = stored.names or ()
    taken = matched_to_model(channels, names, mapping, metadata.source)
    # A role such as the protein goes by the model's names, or by the data's where the model has learnt on channels without names.
    known = tuple(names[position] for position in taken) if are_numbered(channels) else channels
    mode = mode_for(image_mode, known, where=where, counted=False)
    return ImageSource(stored, taken, mode, whole=True)


def _stored(metadata: Metadata, spoken: Sequence[str] | None, fallback: Sequence[str] | None = None) -> tuple[StoredImages, str]:
    """The stored images with names for all their channels, and the URL of the one that was looked at.

    Args:
        metadata: the table; its `channels.txt` comes first.
        spoken: what a configuration calls the channels it wants.
        fallback: the same, where it counts only if it names as many channels as there are.
    """
    stored = StoredImages.of(metadata, (metadata.channels or spoken) if metadata.has_file_per_channel else None)
    picture, where = first_picture(stored)
    count, in_file = picture.pixels.shape[0], picture.channels
    if stored.names is not None:
        return stored, where
    if metadata.channels is not None:
        names = metadata.channels
        if len(names) == count + 1 and metadata.layout.has_strips and names[-1].lower() == "mask":
            names = names[:-1]
        if len(names) != count:
            raise DataError(f"{where}: has {count} channels and {CHANNELS_FILE} names {len(names)} ({', '.join(names)}); make them agree.")
        if in_file is not None and names != in_file and set(names) == set(in_file):
            raise DataError(
                f"{where}: the file calls its channels {', '.join(in_file)} and {CHANNELS_FILE} {', '.join(names)}, the same in another "
                f"order; correct {CHANNELS_FILE}."
            )
        return stored.named(names), where
    if in_file is not None and (spoken is None or set(spoken) & set(in_file)):
        return stored.named(in_file), where
    names = tuple(spoken or ())
    if names and len(names) != count:
        raise DataError(
            f"{where}: has {count} channels and the configuration expects {len(names)} ({', '.join(names)}); correct model.channels or "
            "the images."
        )
    if not names and fallback is not None and len(fallback) == count:
        names = tuple(fallback)
    return stored.named(names or numbered(count)), where
