"""What a command answers with: text for a person, or with --json one object for a program."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TextIO

from dino4cells.errors import ConfigError, JobFailed
from dino4cells.events import Style
from dino4cells.printable import json_text

QUIET_HELP = "Only errors and results."
JSON_HELP = 'The result as one JSON object on the standard output, an error as {"error": …}; progress goes to the standard error.'
LOG_HELP = "text or json: how progress and warnings are written; else text in a terminal, and one JSON object a line elsewhere."
LINES_KEPT = 200


@dataclass
class Answer:
    """Where and how a command answers.

    Attributes:
        stream: the standard output.
        as_json: in one object.
        given: whether it has.
    """

    stream: TextIO
    as_json: bool = False
    given: bool = False

    def give(self, value: object) -> None:
        """Print the object."""
        self.given = True
        print(json_text(_plain(value), 2 if self.stream.isatty() else None), file=self.stream, flush=True)


_ANSWER: ContextVar[Answer | None] = ContextVar("answer", default=None)


@dataclass(frozen=True)
class GlobalOptions:
    """Options that every command takes, before or after its name."""

    quiet: bool = False
    as_json: bool = False
    log: Style | None = None

    @property
    def style(self) -> Style | None:
        """How the command talks while it works; None: as the environment says."""
        return Style.QUIET if self.quiet else self.log


def global_options(words: Sequence[str]) -> tuple[GlobalOptions, list[str]]:
    """Take the global options out of a command line.

    Raises:
        ConfigError: --log has another value.
    """
    rest: list[str] = []
    quiet = as_json = False
    log: Style | None = None
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            rest += [word, *left]
            break
        if word == "--quiet":
            quiet = True
        elif word == "--json":
            as_json = True
        elif word == "--log" or word.startswith("--log="):
            value = word.partition("=")[2] if "=" in word else left.pop(0) if left else ""
            if value not in ("text", "json"):
                raise ConfigError(f"--log: must be text or json, not '{value}'.")
            log = Style(value)
        else:
            rest.append(word)
    return GlobalOptions(quiet, as_json, log), rest


def show(text: str | Callable[[], None], value: object) -> None:
    """Answer a command, once.

    Args:
        text: what a person reads, or what prints that.
        value: the same for a program: a mapping, a pydantic model or a dataclass, of plain values.

    Example:
        >>> show("24 cells are in cells", {"cells": 24, "url": "cells"})
        24 cells are in cells
    """
    answer = _ANSWER.get()
    if answer is not None and answer.as_json:
        answer.give(value)
        return
    with contextlib.redirect_stdout(answer.stream) if answer else contextlib.nullcontext():
        if callable(text):
            text()
        else:
            print(text, flush=True)


def show_line(line: str) -> None:
    """Print a line of an answer that comes line by line, and that `show` gives to a program as a whole."""
    answer = _ANSWER.get()
    if answer is None or not answer.as_json:
        print(line, file=answer.stream if answer else None, flush=True)


def fail(sentence: str) -> bool:
    """Answer with an error where a program asks; returns whether one does."""
    answer = _ANSWER.get()
    if answer is None or not answer.as_json:
        return False
    if not answer.given:
        answer.give({"error": sentence})
    return True


@contextlib.contextmanager
def answering(options: GlobalOptions) -> Iterator[None]:
    """Inside, a command answers as it was asked to; what else it prints goes to the standard error with --json."""
    token = _ANSWER.set(Answer(sys.stdout, options.as_json))
    try:
        with contextlib.redirect_stdout(sys.stderr if options.as_json else sys.stdout):
            yield
    finally:
        _ANSWER.reset(token)


@contextlib.contextmanager
def withholding(quiet: bool) -> Iterator[None]:
    """Inside, with `quiet`, only answers are printed, and errors; when a job has failed, the end of what else there was, too."""
    if not quiet:
        yield
        return
    withheld = Withheld()
    try:
        with contextlib.redirect_stdout(withheld):
            yield
    except JobFailed:
        sys.stderr.write("".join(withheld.lines))
        raise


class Withheld(io.TextIOBase):
    """Keeps the end of what is written to it."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Keep it."""
        self.lines.extend(text.splitlines(keepends=True))
        return len(text)


def _plain(value: object) -> object:
    """What JSON knows; a number that is none becomes null."""
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
