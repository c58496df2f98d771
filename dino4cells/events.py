"""What a command says while it works: to a person as text, to a log that a program reads as one JSON object a line."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from enum import Enum
from typing import TextIO

from dino4cells.printable import json_text, printable
from dino4cells.redaction import redacted

LOG = "DINO4CELLS_LOG"
"""Environment variable with one of `Style`; processes that this one starts inherit it."""

BAR_WIDTH = 24
LINES = "\n\t"
"""Of the characters that a terminal obeys, those that messages of ours have."""
Event = Mapping[str, object]


class Style(str, Enum):
    """How it is said: `auto` is text in a terminal and JSON elsewhere (a pod, a pipe, a file); `quiet` says errors alone."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"
    QUIET = "quiet"


def style_of(stream: TextIO) -> Style:
    """How this process talks to a stream; never `auto`."""
    asked = os.environ.get(LOG, "")
    style = Style(asked) if asked in {one.value for one in Style} else Style.AUTO
    return style if style is not Style.AUTO else Style.TEXT if stream.isatty() else Style.JSON


def line_of(event: str, **facts: object) -> str:
    """An event as a line of JSON: its time (ISO 8601, UTC), its kind (`progress`, `info`, `warning`, `error`), and what is known of it.

    Example:
        >>> event_of(line_of("warning", message="no channels.txt"))["message"]
        'no channels.txt'
    """
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json_text({"time": now, "event": event, **facts})


def event_of(line: str) -> Event | None:
    """The event that a line of a log holds, or None: it is something else."""
    text = line.strip()
    if not (text.startswith('{"time"') and text.endswith("}")):
        return None
    try:
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def text_of(line: str) -> str:
    """A line of a log as a person reads it; one that is no event stays as it is."""
    event = event_of(line)
    if event is None:
        return line
    if event["event"] == "progress":
        return progress_text(event)
    return said(str(event["event"]), str(event.get("message", "")))


def readable(line: str, stream: TextIO) -> str:
    """A line of a log as it is to be written to a stream: as text in a terminal, and else as it is."""
    return text_of(line) if style_of(stream) is Style.TEXT else line


def said(kind: str, message: str) -> str:
    """A message as text: `warning: …`; what is only for information stands alone."""
    message = printable(message, keep=LINES)
    return message if kind in ("info", "debug") else f"{kind}: {message}"


def progress_text(event: Event) -> str:
    """A line of progress as text."""
    done, total = _number(event, "done"), _number(event, "total")
    share = min(1.0, done / total) if total else 1.0
    filled = round(share * BAR_WIDTH)
    parts = [
        f"{event['step']!s:<9}{'█' * filled}{'░' * (BAR_WIDTH - filled)} {share:4.0%}",
        f"{done:,.0f}/{total:,.0f} {event['unit']}",
        *rate_and_time(event),
        *([str(event["note"])] if event.get("note") else []),
    ]
    return " · ".join(parts)


def rate_and_time(event: Event) -> tuple[str, str]:
    """How fast it goes, and the time that is left, or that it took."""
    rate = _number(event, f"{event['unit']}_per_second")
    if _number(event, "done") >= _number(event, "total"):
        time = f"{clock(_number(event, 'seconds'))} taken"
    else:
        time = "? left" if event.get("seconds_left") is None else f"{clock(_number(event, 'seconds_left'))} left"
    return (f"{rate:,.0f} {event['unit']}/s" if rate >= 10 else f"{rate:.1f} {event['unit']}/s"), time


def clock(seconds: float) -> str:
    """Minutes and seconds, `0:05`, or hours in front of them."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _number(event: Event, key: str) -> float:
    value = event.get(key)
    return float(value) if isinstance(value, (int, float)) else 0.0


class EventHandler(logging.Handler):
    """Writes records of `logging` to the standard error.

    Args:
        style: how.
    """

    def __init__(self, style: Style) -> None:
        super().__init__()
        self._style = style
        self._least = logging.ERROR if style is Style.QUIET else logging.WARNING  # of other packages, which some let tell more

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            kind = record.levelname.lower().replace("critical", "error")
            if record.levelno < self._least and not (record.name.startswith("dino4cells") and self._style is not Style.QUIET):
                return
            message = redacted(self.format(record))
            print(line_of(kind, message=message) if self._style is Style.JSON else said(kind, message), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


@contextlib.contextmanager
def logged(style: Style | None = None) -> Iterator[None]:
    """Inside, what is logged is written to the standard error, warnings of other packages and of Python too.

    Args:
        style: of this process and of those that it starts; that of the environment when None.
    """
    before = os.environ.get(LOG)
    if style is not None:
        os.environ[LOG] = style.value
    root, own, handler = logging.getLogger(), logging.getLogger("dino4cells"), EventHandler(style_of(sys.stderr))
    level = own.level
    root.addHandler(handler)
    own.setLevel(min(logging.INFO, level or logging.INFO))
    logging.captureWarnings(style_of(sys.stderr) is not Style.TEXT)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        own.setLevel(level)
        if style is not None:
            if before is None:
                del os.environ[LOG]
            else:
                os.environ[LOG] = before
