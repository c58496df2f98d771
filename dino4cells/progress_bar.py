"""The bar of `Progress` in a terminal, drawn by rich; what there is to note stands in a line of its own below it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from dino4cells.events import Event, rate_and_time

STATE_WIDTH, LEAST_WIDTH, MOST_WIDTH = 68, 8, 40
"""Columns of a terminal: what stands beside the bar, and the bar."""


class Bar(Progress):
    """One step's progress; what is printed meanwhile appears above it.

    Args:
        stream: a terminal.
        take_stdout: whether that holds for the standard output too, which rich then replaces.
    """

    def __init__(self, stream: TextIO, *, take_stdout: bool = True) -> None:
        console = Console(file=stream, highlight=False)
        bar = BarColumn(bar_width=min(max(console.width - STATE_WIDTH, LEAST_WIDTH), MOST_WIDTH))
        self._note = ""
        # Drawn when there is something new, by no thread of its own.
        columns = TextColumn("{task.description:<8}"), bar, TextColumn("{task.fields[state]}")
        super().__init__(*columns, console=console, auto_refresh=False, redirect_stdout=take_stdout)
        self._task = self.add_task("", total=1, state="")

    def draw(self, event: Event) -> None:
        """Show an event of progress."""
        done, total = int(str(event["done"])), int(str(event["total"]))
        share = min(1.0, done / total) if total else 1.0
        state = " · ".join([f"{share:4.0%}", f"{done:,}/{total:,} {event['unit']}", *rate_and_time(event)])
        self._note = str(event.get("note", ""))
        self.update(self._task, description=str(event["step"]), completed=share, state=state)
        if not self.live.is_started:
            self.start()
        self.refresh()

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, and the note below it."""
        yield from super().get_renderables()
        if self._note:
            yield Text(f"{'':<9}{self._note}", style="dim", no_wrap=True, overflow="ellipsis")

    def close(self) -> None:
        """Leave the bar as it is."""
        self.stop()
