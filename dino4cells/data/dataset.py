"""Images of cells as a PyTorch data set, fetched a batch at a time so that object stores answer all reads of a batch at once.

Dimensions: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.utils.data import Dataset

from dino4cells.data.images import to_unit_range
from dino4cells.data.sampler import EpochAndIndex
from dino4cells.data.source import ImageSource
from dino4cells.errors import DataError, Dino4CellsError, StorageError

__all__ = ["Batch", "CellImages", "padded", "to_unit_range"]

CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Batch:
    """Images as stored, padded with zeros at the right and bottom to one tensor.

    Attributes:
        images_BCHW: uint8, uint16, or float32 in [0, 1].
        sizes_B2: true height and width of each image.
        index_B: row of the metadata; epoch_B: which draw of that row it is (`EpochAndIndex`).
        failures: (row, reason) of the images of this batch that could not be read; they are not in the tensors.
    """

    images_BCHW: torch.Tensor
    sizes_B2: torch.Tensor
    index_B: torch.Tensor
    epoch_B: torch.Tensor
    failures: tuple[tuple[int, str], ...] = field(default=())

    def __len__(self) -> int:
        return len(self.index_B)

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; on a GPU, which cannot do much with 16-bit integers, in place of them float32 in [0, 1]."""
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=True))
        if device.type == "cuda" and moved.images_BCHW.dtype == torch.uint16:
            return replace(moved, images_BCHW=to_unit_range(moved.images_BCHW))
        return moved

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory (called by DataLoader too)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Say that work on `stream` uses this batch: its memory is not given away before that work is done."""
        for tensor in (self.images_BCHW, self.sizes_B2, self.index_B, self.epoch_B):
            tensor.record_stream(stream)

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        return Batch(change(self.images_BCHW), change(self.sizes_B2), change(self.index_B), change(self.epoch_B), self.failures)


class CellImages(Dataset[Batch]):
    """Decoded images of the rows of a table; small data sets stay decoded in memory after the first epoch.

    Args:
        source: which files each row has and how they become channels.
        cache_bytes: decoded images are kept up to this size per process.
    """

    def __init__(self, source: ImageSource, cache_bytes: int = CACHE_BYTES) -> None:
        self.source = source
        self._cache: dict[int, torch.Tensor] = {}
        self._free_bytes = cache_bytes

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: EpochAndIndex) -> Batch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[EpochAndIndex]) -> Batch:
        return self._batch(keys, self.read([index for _, index in keys]))

    def decoded(self, keys: Sequence[EpochAndIndex], contents: Sequence[list[bytes | StorageError]]) -> Batch:
        """The batch of images whose contents (`ImageSource.contents`) were read already."""
        return self._batch(keys, [self._decode(index, read) for (_, index), read in zip(keys, contents, strict=True)])

    def _batch(self, keys: Sequence[EpochAndIndex], images: Sequence[torch.Tensor | Dino4CellsError]) -> Batch:
        drawn: list[torch.Tensor] = []
        read: list[EpochAndIndex] = []
        failures: list[tuple[int, str]] = []
        for (epoch, index), image in zip(keys, images, strict=True):
            if isinstance(image, torch.Tensor):
                drawn.append(self.source.drawn(image, epoch, index))
                read.append((epoch, index))
            else:
                failures.append((index, str(image)))
        return padded(drawn, read, tuple(failures), self.source.batch_channels)

    def read(self, indices: Sequence[int]) -> list[torch.Tensor | Dino4CellsError]:
        """The channels of each row's image that the mode uses (C, H, W), at its own size; a failure stands at its place as a value."""
        missing = [index for index in dict.fromkeys(indices) if index not in self._cache]
        contents = self.source.contents(missing)
        fresh = {index: self._decode(index, read) for index, read in zip(missing, contents, strict=True)}
        return [self._cache[index] if index in self._cache else fresh[index] for index in indices]

    def _decode(self, index: int, contents: list[bytes | StorageError]) -> torch.Tensor | Dino4CellsError:
        read: list[bytes] = []
        for content in contents:
            if isinstance(content, StorageError):
                return content
            read.append(content)
        try:
            image = self.source.image(index, read)
        except DataError as error:
            return error
        size = image.numel() * image.element_size()
        # Two passes may read at once, and the other have kept this image already.
        if size <= self._free_bytes and self._cache.setdefault(index, image) is image:
            self._free_bytes -= size
        return image


def padded(images: list[torch.Tensor], keys: list[EpochAndIndex], failures: tuple[tuple[int, str], ...], channels: int) -> Batch:
    """A batch of images (C, H, W) of any sizes, which `keys` tell apart, and of the failures of those that could not be read."""
    sizes = torch.tensor([image.shape[1:] for image in images], dtype=torch.int64).reshape(-1, 2)
    height, width = (int(side) for side in sizes.amax(0)) if images else (1, 1)
    mixed = len({image.dtype for image in images}) > 1
    pixels = [(to_unit_range(image) if mixed else image).numpy() for image in images]
    # By numpy: torch would start threads for it in the thread that reads, beside those of the step.
    padded = np.zeros((len(images), channels, height, width), pixels[0].dtype if pixels else np.uint8)
    for target, image in zip(padded, pixels, strict=True):
        target[:, : image.shape[1], : image.shape[2]] = image
    epochs, indices = (torch.tensor([key[place] for key in keys], dtype=torch.int64) for place in (0, 1))
    return Batch(torch.from_numpy(padded), sizes, indices, epochs, failures)
