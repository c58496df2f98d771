"""Progress that a person follows: a moving bar in a terminal, a line now and then where the output is a log (a pod, a pipe)."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

BAR_WIDTH = 24
TERMINAL_SECONDS = 0.2
LOG_SECONDS = 5.0


class Progress:
    """Images done, images per second and time left.

    Args:
        label: what is done, one word.
        total: images (or other `unit`s) in all.
        done: those done before this run started.
        unit: what is counted.
        enabled: False in processes that stay silent.

    Example:
        >>> with Progress("extract", total=100) as progress:
        ...     progress.advance(50)
    """

    def __init__(
        self, label: str, total: int, *, done: int = 0, unit: str = "images", enabled: bool = True, stream: TextIO | None = None
    ) -> None:
        self.label, self.total, self.unit, self.enabled = label, total, unit, enabled
        self.done = self._done_before = done
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._started = time.monotonic()
        self._next = 0.0
        self._note = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.enabled:
            self._draw()
            if self._terminal:
                self._stream.write("\n")

    @property
    def per_second(self) -> float:
        """Units per second since the start."""
        return (self.done - self._done_before) / max(time.monotonic() - self._started, 1e-9)

    def advance(self, count: int, note: str | None = None) -> None:
        """Count `count` more; `note` (such as the loss) is shown behind the bar from now on."""
        self.done += count
        self._note = self._note if note is None else note
        now = time.monotonic()
        if self.enabled and now >= self._next:
            self._draw()
            self._next = now + (TERMINAL_SECONDS if self._terminal else LOG_SECONDS)

    def _draw(self) -> None:
        share = min(1.0, self.done / self.total) if self.total else 1.0
        filled = round(share * BAR_WIDTH)
        rate = self.per_second
        left = _clock((self.total - self.done) / rate) if rate > 0 else "?"
        parts = [
            f"{self.label:<9}{'█' * filled}{'░' * (BAR_WIDTH - filled)} {share:4.0%}",
            f"{self.done:,}/{self.total:,} {self.unit}",
            f"{rate:,.0f} {self.unit}/s" if rate >= 10 else f"{rate:.1f} {self.unit}/s",
            f"{_clock(time.monotonic() - self._started)} taken" if self.done >= self.total else f"{left} left",
        ]
        line = " · ".join([*parts, self._note] if self._note else parts)
        self._stream.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        self._stream.flush()


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
