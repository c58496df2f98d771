"""Why a process of a job ends: one sentence, left where its launcher looks for it. Its beginning says whether another try may help."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from dino4cells.errors import Dino4CellsError, JobFailed, StoreUnavailable

REASON_FILE = "DINO4CELLS_REASON_FILE"
"""Environment variable: where a process leaves its reason for the launcher of this machine (in a pod: /dev/termination-log)."""

MISTAKE = "error: "
"""How a reason begins that its user alone can mend. torchrun ends with code 1 whatever its processes end with, and where they leave nothing
Kubernetes shows the end of the log instead, so that a launcher could not tell a user's mistake from a crash without it."""

OUTAGE = "unavailable: "
"""The same of a process whose store was away for longer than it waits."""

STOPPED = "interrupted: "
"""The same of a process that was asked to stop, and has."""

FAULT = ""
"""Everything else, such as a process that hangs: to be started again, as after a crash."""


def kind_of(error: Dino4CellsError) -> str:
    """How the reason of a process that ends by this error begins."""
    if isinstance(error, StoreUnavailable):
        return OUTAGE
    return MISTAKE if error.exit_code == Dino4CellsError.exit_code else FAULT


@dataclass(frozen=True)
class Reason:
    """What a process of this machine has left in the `REASON_FILE`.

    Attributes:
        kind: `MISTAKE`, `OUTAGE`, `STOPPED` or `FAULT`.
        sentence: for people.
    """

    kind: str
    sentence: str

    def leave(self, place: str) -> None:
        """Write it, unless another process has: the others end because of the first."""
        with contextlib.suppress(FileExistsError), Path(place).open("x", encoding="utf-8") as file:
            file.write(f"{self.kind}{self.sentence}\n")

    @classmethod
    def read(cls, place: Path) -> Reason | None:
        """What was left there, when all processes have ended; None where that is nothing."""
        if not place.exists():
            return None
        text = place.read_text(encoding="utf-8").strip()
        kind = next((kind for kind in (MISTAKE, OUTAGE, STOPPED) if text.startswith(kind)), FAULT)
        return cls(kind, text.removeprefix(kind))

    def failure(self) -> JobFailed:
        """The failure of the job that ended by it: with exit code 75 where the same command may succeed later."""
        return JobFailed(self.sentence, os.EX_TEMPFAIL if self.kind in (OUTAGE, FAULT) else Dino4CellsError.exit_code)
