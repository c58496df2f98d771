"""How a run is asked to stop: SIGTERM, which a cluster sends before it takes the machine away."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from dino4cells.training.distributed import ProcessGroup, max_over_ranks

# Steps between two looks at the clock and for SIGTERM, which all processes take together: on a GPU that waits for its queue.
CHECK_EVERY = {"cpu": 1, "cuda": 10}


class Interrupted(SystemExit):
    """The run was asked to stop (SIGTERM); its state is in a checkpoint. The exit code is the shell's for that signal."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


def any_process(asked: bool, late: bool, group: ProcessGroup) -> tuple[bool, bool]:
    """Either answer is true where it is true in any process, so that all of them act on the same step."""
    answers = max_over_ranks(torch.tensor([float(asked), float(late)], device=group.device)).tolist()
    return bool(answers[0]), bool(answers[1])


@contextmanager
def stop_signal() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGTERM has come; the signal itself no longer ends the process at once."""
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)

    try:
        before = signal.signal(signal.SIGTERM, remember)
    except ValueError:  # not the main thread, which alone may set handlers: then SIGTERM ends the process as usual
        yield lambda: False
        return
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)
