"""How a run is asked to stop: SIGTERM, which a cluster sends before it takes the machine away, and Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import torch

from dino4cells.errors import Interrupted
from dino4cells.training.distributed import ProcessGroup, max_over_ranks

# Steps between two looks at the clock and for SIGTERM, which all processes take together: on a GPU that waits for its queue.
CHECK_EVERY = {"cpu": 1, "cuda": 10}


def any_process(asked: bool, late: bool, group: ProcessGroup) -> tuple[bool, bool]:
    """Either answer is true where it is true in any process, so that all of them act on the same step."""
    answers = max_over_ranks(torch.tensor([float(asked), float(late)], device=group.device)).tolist()
    return bool(answers[0]), bool(answers[1])


class StopSignal:
    """Whether SIGTERM or Ctrl-C has come to this process."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self) -> bool:
        return self.number is not None

    def remember(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal: from now on it has come; a second Ctrl-C does not wait for a checkpoint."""
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number

    def interrupted(self, seen: int, total: int, directory: str, unit: str = "images") -> Interrupted:
        """What ends a run whose checkpoint is written; in a job another process may have got the signal, which then was SIGTERM."""
        sentence = f"{seen:,} of {total:,} {unit} seen are in {directory}; the same command goes on from there."
        return Interrupted(sentence, self.number or signal.SIGTERM)


@contextmanager
def stop_signal() -> Iterator[StopSignal]:
    """What says whether SIGTERM or Ctrl-C has come; neither ends the process at once any more."""
    stop, before = StopSignal(), {}
    with suppress(ValueError):  # not the main thread, which alone may set handlers: then a signal ends the process as usual
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, stop.remember)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
