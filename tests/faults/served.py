"""A process that has imported what is needed, has no threads, and does what it is asked; forks of it cost next to nothing."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Served:
    """The process and the way to it. Use as a context manager.

    Args:
        serve: a function of a module that answers what comes over its connection until that is closed.
    """

    def __init__(self, serve: Callable[[Connection], None]) -> None:
        self._serve = serve
        self._here: Connection
        self._process: Any

    def __enter__(self) -> Served:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=self._serve, args=(there,))
        self._process.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._here.close()
        self._process.join(20)

    def ask(self, question: object) -> Any:
        """Its answer."""
        self._here.send(question)
        return self._here.recv()
