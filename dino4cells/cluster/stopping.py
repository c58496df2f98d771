"""How a launcher learns that it is to stop: SIGTERM and Ctrl-C interrupt it wherever it is, once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Stopped(BaseException):
    """A signal asked this process to stop."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.signal = number


class Signals:
    """Whether SIGTERM and Ctrl-C interrupt what this process does."""

    def __init__(self) -> None:
        self._held = False

    def hold(self) -> None:
        """From now on they do not: cleaning up goes on to its end."""
        self._held = True

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Interrupt, once."""
        if not self._held:
            self._held = True
            raise Stopped(signal.Signals(number))


@contextlib.contextmanager
def stop_signals() -> Iterator[Signals]:
    """SIGTERM and Ctrl-C raise `Stopped`, wherever the program is, until they are held."""
    signals, before = Signals(), {}
    with contextlib.suppress(ValueError):  # not the main thread, which alone may set handlers
        for name in (signal.SIGTERM, signal.SIGINT):
            before[name] = signal.signal(name, signals.receive)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
