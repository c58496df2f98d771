"""Batches read ahead of the step that takes them, and how long the step waited for them.

On a CPU a thread of the training process reads: it waits for disks and networks without Python's lock, which decoding a PNG holds for some
2 ms. On a GPU processes read, their batches lie in page-locked memory, and a stream of its own copies them to the device while the step
before computes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dino4cells.data.dataset import Batch, CellImages
from dino4cells.data.fetching import Decoder, FetchedBatches
from dino4cells.data.sampler import EpochAndIndex
from dino4cells.errors import StorageError

CPU = torch.device("cpu")
AHEAD = 2
"""Batches that a thread reads ahead; one covers a step, two a step that is shorter than the others."""
AHEAD_OF_A_PROCESS = 4


class Batches(Iterator[Batch]):
    """One pass over the batches; `with` ends the reading also where the pass is left early.

    Attributes:
        waited_seconds: how long the consumer has waited for batches so far.

    Example:
        >>> with iter(load_batches(images, stream, workers=0)) as batches:
        ...     for batch in batches:
        ...         step(batch)
        ...     print(f"{batches.waited_seconds:.1f} s without data")
    """

    def __init__(self, batches: Generator[Batch]) -> None:
        self._batches = batches
        self.waited_seconds = 0.0

    def __next__(self) -> Batch:
        started = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.waited_seconds += time.perf_counter() - started

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading; a thread that reads has ended when this returns."""
        self._batches.close()


class BatchLoader:
    """What `load_batches` returns: each `iter` is a pass over the sampler. Processes that read stay for the next pass."""

    def __init__(self, images: CellImages, batches: Sampler[list[EpochAndIndex]], workers: int, device: torch.device) -> None:
        self.images, self.batches, self.device = images, batches, device
        self._processes = _reading_processes(images, batches, workers, device) if workers else None

    def __iter__(self) -> Batches:
        read = _by_a_thread(self.images, self.batches, self.device) if self._processes is None else _by_processes(self._processes)
        return Batches(_copied(read, self.device) if self.device.type == "cuda" else read)


def load_batches(images: CellImages, batches: Sampler[list[EpochAndIndex]], workers: int, device: torch.device = CPU) -> BatchLoader:
    """Batches on `device`, in the order of the sampler, read ahead.

    Args:
        images: what is read.
        batches: the rows of each batch.
        workers: processes that read; 0: a thread of this process.
        device: where the batches are wanted.
    """
    return BatchLoader(images, batches, workers, device)


def _by_a_thread(images: CellImages, batches: Sampler[list[EpochAndIndex]], device: torch.device) -> Generator[Batch]:
    """Batches read by a thread, at most `AHEAD` more than were taken; an error is raised where its batch is asked for."""

    def read(keys: list[EpochAndIndex]) -> Batch:
        batch = images.__getitems__(keys)
        if device.type != "cuda":
            return batch
        with torch.cuda.device(device):  # a thread begins on the first GPU, whatever its process works on
            return batch.pin_memory()

    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        waiting: deque[Future[Batch]] = deque()
        try:
            for keys in batches:
                waiting.append(thread.submit(read, keys))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            thread.shutdown(wait=True, cancel_futures=True)


def _by_processes(processes: DataLoader[Batch]) -> Generator[Batch]:
    try:
        yield from processes
    except StorageError as error:
        # The loader raises an error of a process anew, with the traceback of that in its message.
        raise type(error)(str(error).rstrip().rpartition(f"{type(error).__name__}: ")[2]) from error


def _reading_processes(images: CellImages, batches: Sampler[list[EpochAndIndex]], workers: int, device: torch.device) -> DataLoader[Batch]:
    """Processes start by forkserver: s3fs holds threads that do not survive a plain fork."""
    is_packed = images.source.stored.packed is not None
    dataset: Dataset[Batch] = Decoder(images.source) if is_packed else images
    samples: Sampler[Any] = FetchedBatches(images.source, batches) if is_packed else batches
    return DataLoader(
        dataset,
        batch_sampler=samples,
        collate_fn=_already_a_batch,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        multiprocessing_context="forkserver",
        persistent_workers=True,
        prefetch_factor=AHEAD_OF_A_PROCESS,
    )


def _already_a_batch(batch: object) -> object:
    return batch


def _copied(batches: Generator[Batch], device: torch.device) -> Generator[Batch]:
    """Batches on the GPU. The host is a step ahead of it, so that the copy of a batch runs beside the computation on the one before."""
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with closing(batches):
        for batch in batches:
            with torch.cuda.stream(side):
                here = batch.to(device)
            current = torch.cuda.current_stream(device)
            current.wait_stream(side)
            here.record_stream(current)  # else the side stream would give its memory to the next copy while the step still reads it
            yield here
