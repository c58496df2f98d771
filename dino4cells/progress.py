"""Progress that a person or a program follows: a moving bar in a terminal, a line now and then in a log (a pod, a pipe)."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from dino4cells.events import LINES, Event, Style, event_of, line_of, progress_text, style_of, text_of
from dino4cells.printable import printable

if TYPE_CHECKING:
    from dino4cells.progress_bar import Bar

TERMINAL_SECONDS = 0.2
LOG_SECONDS = 5.0
WINDOW_SECONDS = 30.0
"""The rate that is shown is that of the last so many seconds: what a run does now, and not what it did in its first minute."""


class Progress:
    """Images done, images per second and time left.

    Args:
        label: what is done, one word.
        total: images (or other `unit`s) in all.
        done: those done before this run started.
        unit: what is counted.
        enabled: False in processes that stay silent.
        stream: the standard error when None.
        style: how it is written to; as this process writes when None.

    Example:
        >>> with Progress("extract", total=100, enabled=False) as progress:
        ...     progress.advance(50)
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        done: int = 0,
        unit: str = "images",
        enabled: bool = True,
        stream: TextIO | None = None,
        style: Style | None = None,
    ) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self._done_before = done
        self._stream = stream or sys.stderr
        self._style = (style or style_of(self._stream)) if enabled else Style.QUIET
        self._started = time.monotonic()
        self._recent = deque([(self._started, done)])
        self._next = 0.0
        self._note = ""
        self._facts: Mapping[str, float] = {}
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and self.done == self._done_before:  # it failed before it began: there is nothing to say of it
            self._style = Style.QUIET
        self.close()

    @property
    def per_second(self) -> float:
        """Units per second since the start."""
        return (self.done - self._done_before) / max(time.monotonic() - self._started, 1e-9)

    @property
    def per_second_now(self) -> float:
        """Units per second over the last `WINDOW_SECONDS`."""
        begin, done = self._recent[0]
        return (self.done - done) / max(time.monotonic() - begin, 1e-9)

    def advance(self, count: int, note: str | None = None, facts: Mapping[str, float] | None = None) -> None:
        """Count `count` more.

        Args:
            count: units done since the last call.
            note: what a person reads beside the bar from now on, such as the loss.
            facts: the same for a program, from now on.
        """
        self.done += count
        self._note = self._note if note is None else note
        self._facts = self._facts if facts is None else facts
        now = time.monotonic()
        if self._style is not Style.QUIET and now >= self._next:
            self._write()
            self._next = now + (TERMINAL_SECONDS if self._bar is not None else LOG_SECONDS)
            self._recent.append((now, self.done))
            while len(self._recent) > 1 and self._recent[1][0] <= now - WINDOW_SECONDS:
                self._recent.popleft()

    def close(self) -> None:
        """Show how far it has come, for the last time."""
        if self._style is not Style.QUIET:
            self._write()
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def event(self) -> dict[str, object]:
        """How far it is, as in a line of the log."""
        rate = self.per_second if self.done >= self.total else self.per_second_now
        return {
            "step": self.label,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            f"{self.unit}_per_second": round(rate, 2),
            "seconds": round(time.monotonic() - self._started, 1),
            "seconds_left": round((self.total - self.done) / rate, 1) if rate > 0 else None,
            **self._facts,
            **({"note": self._note} if self._note else {}),
        }

    def _write(self) -> None:
        event = self.event()
        if self._style is Style.TEXT and self._stream.isatty():
            if self._bar is None:
                from dino4cells.progress_bar import Bar  # rich's takes a while to import

                self._bar = Bar(self._stream)
            self._bar.draw(event)
            return
        self._stream.write(f"{line_of('progress', **event) if self._style is Style.JSON else progress_text(event)}\n")
        self._stream.flush()


class Relay:
    """Passes on what the processes of a job say: events to the standard error, as this process's own, all else to the standard output.

    Args:
        out: the standard output when None.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out, self._style = out, style_of(sys.stderr)
        self._bar: Bar | None = None
        self._step: object = None

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def line(self, line: str) -> None:
        """Pass on a line, which may have its end."""
        event, text = event_of(line), line.rstrip("\n")
        if event is None:
            self.close()
            print(printable(text, keep=LINES), file=self._out or sys.stdout, flush=True)
            return
        if self._style is Style.QUIET and event["event"] != "error":
            return
        if self._style is Style.JSON:
            print(text.strip(), file=sys.stderr, flush=True)
        elif event["event"] == "progress" and sys.stderr.isatty():
            self._draw(event)
        else:
            self.close()
            print(text_of(text), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar where it is; the next event draws one below."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _draw(self, event: Event) -> None:
        if event["step"] != self._step:
            self.close()
        if self._bar is None:
            from dino4cells.progress_bar import Bar

            # The lines of the processes reach this relay by the standard output of some callers, which has to stay theirs.
            self._bar, self._step = Bar(sys.stderr, take_stdout=False), event["step"]
        self._bar.draw(event)
