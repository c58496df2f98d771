"""What a check found."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class State(enum.Enum):
    """How something stands."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: was looked at.
        state: how it stands.
        finding: what was seen.
        remedy: what to do, or how it will show; nothing where all is well.
    """

    what: str
    state: State
    finding: str
    remedy: str = ""


def exit_code(rows: Iterable[Row]) -> int:
    """2 where something is missing, 1 where something is doubtful, else 0; what could not be checked does not count."""
    states = {row.state for row in rows}
    return 2 if State.MISSING in states else 1 if State.WARNING in states else 0
