"""How a run is asked to stop: SIGTERM, which a cluster sends before it takes the machine away, and Ctrl-C.

All processes stop after the same step, so they look together, now and then: on a GPU that waits for its queue. Kubernetes and torchrun give
a process 30 seconds between SIGTERM and SIGKILL; the checkpoint is to be there after 10.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NamedTuple

import torch

from dino4cells.errors import Interrupted
from dino4cells.training.distributed import ProcessGroup, max_over_ranks

# Steps between two looks at the clock and for SIGTERM.
CHECK_EVERY = {"cpu": 1, "cuda": 10}
# Slow steps are fewer between two looks.
CHECK_SECONDS = 1.0
WATCH_SECONDS = 0.2


def any_process(asked: bool, late: bool, group: ProcessGroup) -> tuple[bool, bool]:
    """Either answer is true where it is true in any process, so that all of them act on the same step."""
    answers = max_over_ranks(torch.tensor([float(asked), float(late)], device=group.device)).tolist()
    return bool(answers[0]), bool(answers[1])


class Seen(NamedTuple):
    """What a look found, the same in all processes.

    Attributes:
        asked: one was asked to stop.
        late: a checkpoint is due.
        lost: a loss is not finite.
    """

    asked: bool
    late: bool
    lost: bool


class Looks:
    """When the processes look together, and what they see.

    Args:
        group: the processes; all of them must ask at the same steps.
        clock: monotonic.
    """

    def __init__(self, group: ProcessGroup, clock: Callable[[], float] = time.monotonic) -> None:
        self._group, self._clock = group, clock
        self._steps, self._interval, self._since = 0, 1, clock()

    def due(self) -> bool:
        """Whether to look after one more step."""
        self._steps += 1
        return self._steps >= self._interval

    def look(self, *, asked: bool, late: bool, lost: torch.Tensor) -> Seen:
        """Each answer is true where it is true in any process; `lost` is a number on the device, true where it is not 0."""
        device = self._group.device
        seconds = (self._clock() - self._since) / max(1, self._steps)
        here = torch.cat([torch.tensor([float(asked), float(late), seconds], device=device), lost.reshape(1)])
        any_asked, any_late, slowest, any_lost = max_over_ranks(here).tolist()
        # Not less than one step; as many as fit into the time by the slowest process's clock, so that all agree.
        self._interval = max(1, min(CHECK_EVERY[device.type], int(CHECK_SECONDS / max(slowest, 1e-6))))
        self._steps, self._since = 0, self._clock()
        return Seen(bool(any_asked), bool(any_late), bool(any_lost))


class StopSignal:
    """Whether SIGTERM or Ctrl-C has come to this process."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._save: Callable[[], None] | None = None
        self._failed: Exception | None = None
        self._lock = threading.Lock()

    def __call__(self) -> bool:
        return self.number is not None

    def remember(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal: from now on it has come; a second Ctrl-C does not wait for a checkpoint."""
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number  # and no more: a handler that takes a lock may find it taken by what it interrupted

    @contextmanager
    def waiting(self, save: Callable[[], None]) -> Iterator[None]:
        """Inside, where the run waits for images and nothing changes, `save` is called in a thread as soon as a signal has come.

        A store that does not answer may keep a process waiting for longer than it is given before it is killed. When the images come the
        run stops as usual.
        """
        self._save = save
        try:
            yield
        finally:
            with self._lock:  # a save that has begun ends before anything changes
                self._save = None
        if self._failed is not None:
            raise self._failed

    def save_when_asked(self, ended: threading.Event) -> None:
        """Watch for a signal that comes while the run waits; saves once."""
        while not ended.wait(WATCH_SECONDS):
            with self._lock:
                if self.number is None or self._save is None:
                    continue
                try:
                    self._save()
                except Exception as error:
                    self._failed = error
                return

    def interrupted(self, seen: int, total: int, directory: str, unit: str = "images") -> Interrupted:
        """What ends a run whose checkpoint is written; in a job another process may have got the signal, which then was SIGTERM."""
        sentence = f"{seen:,} of {total:,} {unit} seen are in {directory}; the same command goes on from there."
        return Interrupted(sentence, self.number or signal.SIGTERM)


@contextmanager
def stop_signal() -> Iterator[StopSignal]:
    """What says whether SIGTERM or Ctrl-C has come; neither ends the process at once any more."""
    stop, before, ended = StopSignal(), {}, threading.Event()
    with suppress(ValueError):  # not the main thread, which alone may set handlers: then a signal ends the process as usual
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, stop.remember)
    threading.Thread(target=stop.save_when_asked, args=[ended], name="save-when-asked", daemon=True).start()
    try:
        yield stop
    finally:
        ended.set()
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
