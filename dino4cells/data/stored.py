"""Images as the data store them: the files of every row, and their contents made into all the data's channels.

Dimensions: C channels, H height, W width of one channel, S width of a strip.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dino4cells import storage
from dino4cells.cache import Cache
from dino4cells.data.containment import check_channel_names
from dino4cells.data.images import MAX_CHANNELS, Picture, decode_picture, to_unit_range
from dino4cells.data.layout import CHANNEL, CHANNEL_WIDTH, Layout
from dino4cells.data.metadata import Metadata
from dino4cells.data.shards import PackedImages
from dino4cells.errors import ConfigError, DataError, Dino4CellsError, StorageError

ATTEMPTS = 20
"""Rows that are tried to find out how many channels there are."""


@dataclass(frozen=True)
class StoredImages:
    """Which files each row has, and how they become channels.

    Attributes:
        source: URL of the table, for messages.
        urls: the file of each row; with `{channel}` in it, as many files as there are channels.
        names: names of the channels, in order; None where nobody has said them.
        layout: whether files are strips, and what their last tile is.
        widths: width of a channel of each row's strip.
        packed: where the files' contents are in shards; None where they are files of their own.
        cache: keeps files that come from a store.
    """

    source: str
    urls: Sequence[str]
    names: tuple[str, ...] | None
    layout: Layout
    widths: NDArray[np.int64] | None = None
    packed: PackedImages | None = None
    cache: Cache | None = None

    @classmethod
    def of(cls, metadata: Metadata, names: Sequence[str] | None) -> StoredImages:
        """The images of a table, whose channels are called `names`.

        Raises:
            ConfigError: each channel has its own file, and nobody says how the channels are called.
        """
        widths = metadata.frame[CHANNEL_WIDTH].to_numpy(np.int64) if metadata.layout.has_strips else None
        stored = cls(
            metadata.source, metadata.urls, tuple(names) if names else None, metadata.layout, widths, metadata.packed, metadata.cache
        )
        if stored.names is None and metadata.has_file_per_channel:
            split = next(row for row, url in enumerate(stored.urls) if CHANNEL in url)
            raise ConfigError(
                f"{metadata.source}, cell {split + 1} ({stored.urls[split]}): each channel has its own file, and nobody says how the "
                "channels are called; name them in model.channels, or in channels.txt, one a line."
            )
        if stored.names is not None and metadata.has_file_per_channel:
            check_channel_names(stored.names, metadata.source)
        return stored

    def __len__(self) -> int:
        return len(self.urls)

    def named(self, names: Sequence[str]) -> StoredImages:
        """The same images with names for their channels."""
        return replace(self, names=tuple(names))

    def unnamed(self) -> StoredImages:
        """The same images, of which any number of channels is read."""
        return replace(self, names=None)

    def has_file_per_channel(self, row: int) -> bool:
        return CHANNEL in self.urls[row]

    def files(self, row: int, channels: Iterable[int] | None = None) -> tuple[str, ...]:
        """URLs of the files that hold the given channels (all when None) of a row's image."""
        url = self.urls[row]
        if CHANNEL not in url or self.names is None:
            return (url,)
        chosen = range(len(self.names)) if channels is None else channels
        return tuple(url.replace(CHANNEL, self.names[channel]) for channel in chosen)

    def contents(self, rows: Sequence[int], channels: Iterable[int] | None = None) -> list[list[bytes | StorageError]]:
        """Of each row the contents of its `files`, all asked for at once; a failure stands at its place as a value."""
        chosen = None if channels is None else tuple(channels)
        if self.packed is not None:
            names = self.names or ()
            return self.packed.contents(rows, names if chosen is None else [names[channel] for channel in chosen if channel < len(names)])
        files = [self.files(row, chosen) for row in rows]
        read = iter(storage.read_many([url for urls in files for url in urls], self.cache))
        return [[next(read) for _ in urls] for urls in files]

    def picture(self, row: int, contents: Sequence[bytes], channels: Sequence[int] | None = None) -> Picture:
        """The given channels (all when None) of a row's image, from the contents of `files`, in their order.

        Raises:
            DataError: the contents are no image, or of another number of channels than there are names.
        """
        urls = self.files(row, channels)
        if self.has_file_per_channel(row):
            return _joined([decode_picture(content, url) for content, url in zip(contents, urls, strict=True)], urls)
        picture = decode_picture(contents[0], urls[0])
        if self.widths is not None:
            picture = replace(picture, pixels=self._unfolded(picture.pixels, row))
        found = picture.pixels.shape[0]
        if found > MAX_CHANNELS:
            raise DataError(f"{urls[0]}: has {found} channels; at most {MAX_CHANNELS} are supported.")
        if self.names is not None and found != len(self.names):
            raise DataError(f"{urls[0]}: has {found} channels where {len(self.names)} are expected ({', '.join(self.names)}).")
        if channels is not None and list(channels) != list(range(found)):
            picture = replace(picture, pixels=picture.pixels[list(channels)])
        return picture

    def _unfolded(self, strip: torch.Tensor, row: int) -> torch.Tensor:
        """The channels (C, H, W) of a strip (1, H, S), without its mask."""
        assert self.widths is not None
        width, place = int(self.widths[row]), f"{self.urls[row]} ({self.source}, cell {row + 1})"
        samples, length = strip.shape[0], strip.shape[2]
        if samples != 1:
            raise DataError(
                f"{place}: has {samples} values a pixel, and a CellPainting strip is grey; save it so, or correct model.datatype."
            )
        if length % width:
            raise DataError(
                f"{place}: the strip is {length} px wide, which is no multiple of its {CHANNEL_WIDTH} of {width} px; correct the column."
            )
        tiles: torch.Tensor = strip[0].reshape(strip.shape[1], length // width, width).transpose(0, 1)
        if self.layout.mask == "ignore":
            return tiles.contiguous()
        if len(tiles) < 2:
            raise DataError(
                f"{place}: the strip has one tile of {width} px, which is the mask; correct {CHANNEL_WIDTH}, or set model.mask to ignore."
            )
        if self.layout.mask == "apply":
            tiles = torch.where(tiles[-1:].bool(), tiles, tiles.new_zeros(()))
        return tiles[:-1].contiguous()


def _joined(pictures: Sequence[Picture], urls: Sequence[str]) -> Picture:
    """One image of files that hold a channel each."""
    first = pictures[0].pixels
    for picture, url in zip(pictures, urls, strict=True):
        if picture.pixels.shape[0] != 1:
            raise DataError(f"{url}: has {picture.pixels.shape[0]} channels and is the file of one; save it in grey.")
        if picture.pixels.shape != first.shape:
            sizes = " and ".join(f"{pixels.shape[1]}×{pixels.shape[2]}" for pixels in (picture.pixels, first))
            raise DataError(f"{url}: the channels of one image have different sizes ({sizes} px, {urls[0]}); export them alike.")
    kinds = {picture.kind: None for picture in pictures}
    if len(kinds) > 1:
        return Picture(torch.cat([to_unit_range(picture.pixels) for picture in pictures]), " and ".join(kinds))
    return Picture(torch.cat([picture.pixels for picture in pictures]), pictures[0].kind)


def first_picture(stored: StoredImages) -> tuple[Picture, str]:
    """The first image that can be read, and its URL.

    Raises:
        DataError: none of the first rows can be read.
    """
    rows = range(min(ATTEMPTS, len(stored)))
    first_error: Dino4CellsError | None = None
    for row, contents in zip(rows, stored.contents(rows), strict=True):
        try:
            return stored.picture(row, whole(contents)), stored.files(row)[0]
        except Dino4CellsError as error:
            first_error = first_error or error
    raise DataError(f"{stored.source}: none of the first {len(rows)} images can be read; the first says: {first_error}")


def whole(contents: Iterable[bytes | StorageError]) -> list[bytes]:
    """The contents, or the first failure among them raised."""
    read: list[bytes] = []
    for content in contents:
        if isinstance(content, StorageError):
            raise content
        read.append(content)
    return read
