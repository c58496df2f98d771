"""Who holds a lease (`dino4cells.lease`): a process of a machine, and what others can see of it."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

_PROC = Path("/proc")
_POD_OF_A_JOB = re.compile(r"(?P<job>.+)-(master|worker)-\d+")


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes:
        owner: a name that no other holder has.
        host, process: where it runs, for people.
        machine: equal where process numbers mean the same.
        started: of the process, in the machine's own unit; a number that is given again has another one.
        job: the job whose pod it is, which a restarted pod shares; or nothing.
        since: when it took the lease.
        sign: a number that grows with each sign of life.
    """

    owner: str = ""
    host: str = ""
    process: int = 0
    machine: str = ""
    started: str = ""
    job: str = ""
    since: str = ""
    sign: int = 0

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        host, process = socket.gethostname(), os.getpid()
        pod = _POD_OF_A_JOB.fullmatch(host)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(uuid.uuid4().hex, host, process, _machine(host), _started(process) or "", pod["job"] if pod else "", now)

    @classmethod
    def read(cls, text: str) -> Holder:
        """The holder that an object names; one without a name where the object is no lease."""
        try:
            found = json.loads(text)
            return cls(**{name: type(value)(found[name]) for name, value in asdict(cls()).items()})
        except (ValueError, TypeError, KeyError):
            return cls()

    def text(self) -> str:
        """Content of the object."""
        return json.dumps(asdict(self)) + "\n"

    def is_here(self, other: Holder) -> bool:
        """Whether the other one can see this one's process."""
        return bool(self.machine) and self.machine == other.machine

    def is_running(self) -> bool:
        """Whether its process runs, where it `is_here`."""
        if sys.platform == "linux":
            return _started(self.process) == self.started
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}" if self.owner else "which left no name"


def _machine(host: str) -> str:
    """Equal for two processes that know each other's numbers: one boot of one machine, and one namespace of process numbers."""
    if sys.platform != "linux":
        return f"{sys.platform} {host}"
    try:
        return f"{(_PROC / 'sys/kernel/random/boot_id').read_text().strip()} {os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return ""


def _started(process: int) -> str | None:
    """When a process of this machine was started, in the kernel's ticks; None where it does not run, "" where nobody says."""
    if sys.platform != "linux":
        return ""
    try:
        # The name, in brackets, may hold anything; after it come the state and, as the 22nd field of the line, the time.
        state, *fields = (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]
