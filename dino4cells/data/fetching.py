"""Packed images for processes that decode: fetched by a thread of the training process, which alone has the index and the open blocks.

Each of the processes takes batches here and there; were they to fetch, all of them would read every block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

from torch.utils.data import Dataset, Sampler

from dino4cells.data.dataset import Batch, CellImages
from dino4cells.data.sampler import EpochAndIndex
from dino4cells.data.source import ImageSource
from dino4cells.errors import StorageError

FETCHED_AT_ONCE = 8
"""Batches; so many more are fetched while those are decoded."""

Fetched = tuple[EpochAndIndex, "list[bytes | StorageError]"]
"""A sample and the contents of its files."""


@dataclass(frozen=True)
class FetchedBatches(Sampler["list[Fetched]"]):
    """The batches of a sampler with their images' contents.

    Attributes:
        source: the packed images.
        batches: the samples of each batch.
    """

    source: ImageSource
    batches: Sampler[list[EpochAndIndex]]

    def __iter__(self) -> Iterator[list[Fetched]]:
        batches = iter(self.batches)
        waiting: deque[Future[list[list[Fetched]]]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="fetch") as thread:
            while group := list(islice(batches, FETCHED_AT_ONCE)):
                waiting.append(thread.submit(self._fetch, group))
                if len(waiting) > 1:
                    yield from waiting.popleft().result()
            yield from waiting.popleft().result() if waiting else ()

    def _fetch(self, group: Sequence[list[EpochAndIndex]]) -> list[list[Fetched]]:
        contents = iter(self.source.contents([row for keys in group for _, row in keys]))
        return [[(key, next(contents)) for key in keys] for keys in group]


class Decoder(Dataset[Batch]):
    """Batches of what was fetched."""

    def __init__(self, source: ImageSource) -> None:
        # Without the index, which would go to every process; and what is sent to it anyway is not kept.
        self.images = CellImages(replace(source, stored=replace(source.stored, packed=None)), cache_bytes=0)

    def __getitems__(self, fetched: Sequence[Fetched]) -> Batch:
        return self.images.decoded([key for key, _ in fetched], [contents for _, contents in fetched])
