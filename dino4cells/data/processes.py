"""Work on the rows of a table by several processes: results in order, and no more of them at a time than are about to be used."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

import torch

from dino4cells.cores import available_cores

Result = TypeVar("Result")
Work = Callable[[Sequence[int]], Result]

AHEAD = 3
WORTH_A_PROCESS = 5000
"""Images; a process takes a few seconds to begin."""

_work: Work[Any] | None = None


def processes_for(images: int) -> int:
    """As many processes as this one may use cores, and fewer for few images."""
    return max(1, min(available_cores(), images // WORTH_A_PROCESS))


def in_processes(work: Work[Result], pieces: Iterable[Sequence[int]], processes: int) -> Iterator[Result]:
    """The results of `work` on each piece, in the order of the pieces; with one process, in this one.

    Args:
        work: can be pickled, which happens once for each process.
        pieces: rows that are worked on at once.
        processes: how many.
    """
    if processes <= 1:
        yield from map(work, pieces)
        return
    # forkserver, as for the readers of batches: s3fs holds threads that do not survive a plain fork.
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(work,)) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for piece in pieces:
                waiting.append(pool.submit(_one, piece))
                if len(waiting) >= AHEAD * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _begin(work: Work[Any]) -> None:
    global _work
    _work = work
    torch.set_num_threads(1)  # the processes are the threads


def _one(piece: Sequence[int]) -> Any:
    assert _work is not None
    return _work(piece)
