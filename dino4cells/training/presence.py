"""Signs of life among the processes of a job: a process that hangs is found and named, where the others would wait for it without a word.

A thread of each process leaves a note in the job's store (torchrun's, over TCP) now and then: what the process is doing and for how
long. The first process reads all notes, and the second one the first's. A note that does not change belongs to a process that does not
run (stopped, or its machine is gone); where all notes change and no process gets further, the one that is behind keeps the others
waiting. What waits in a sum over processes cannot be woken by an exception, so the process that finds out says so and ends, torchrun ends
the others, and the job starts again from its last checkpoint.

All limits are below those of a sum over processes (`distributed.TIMEOUT`) and of the launcher (an hour without a line of log).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

EXIT_CODE = os.EX_TEMPFAIL
logger = logging.getLogger(__name__)


class Store(Protocol):
    """What is used of `torch.distributed.Store`."""

    def set(self, key: str, value: str, /) -> None: ...
    def check(self, keys: list[str], /) -> bool: ...
    def get(self, key: str, /) -> bytes: ...


@dataclass(frozen=True)
class Limits:
    """Times in seconds.

    Attributes:
        every: between two notes.
        silent: a process that has left none for so long does not run.
        stuck: a process that has done one thing for so long hangs, or waits for one that does.
        grace: by which a process that is stuck itself gives the first one time to say who.
    """

    every: float = 5.0
    silent: float = 5 * 60.0
    stuck: float = 25 * 60.0
    grace: float = 60.0


@dataclass(frozen=True)
class Note:
    """What a process leaves.

    Attributes:
        host, process: where it runs.
        doing: what, or nothing where it may take any time.
        count: of the things that it has begun; who is behind has the lowest.
        seconds: for which it has done this.
        sign: a number that grows with each note.
        left: it has done all its work; there will be no more notes.
    """

    host: str = ""
    process: int = 0
    doing: str = ""
    count: int = 0
    seconds: float = 0.0
    sign: int = 0
    left: bool = False


@dataclass(frozen=True)
class Sighting:
    """A note as another process sees it, and for how many seconds, by that one's clock, it has not changed."""

    note: Note
    unchanged: float


def verdict(sightings: Mapping[int, Sighting], limits: Limits, now: datetime) -> str | None:
    """Which processes hang, in a sentence; None where none does.

    Args:
        sightings: by rank.
        limits: that hold.
        now: the time of day.
    """
    silent = {rank: seen for rank, seen in sightings.items() if seen.unchanged >= limits.silent}
    if silent:
        words = "; ".join(_said(rank, seen.note, seen.unchanged, now, "has given no sign of life") for rank, seen in silent.items())
        return f"{words}; it was stopped, or its machine is gone or overloaded. The job ends to start again from its last checkpoint."
    notes = {rank: seen.note for rank, seen in sightings.items()}
    if not all(note.doing and note.seconds >= limits.stuck for note in notes.values()):
        return None
    least = min(note.count for note in notes.values())
    behind = {rank: note for rank, note in notes.items() if note.count == least}
    words = "; ".join(_said(rank, note, note.seconds, now, "has got no further") for rank, note in behind.items())
    return f"{words}; see what it waits for (storage, a GPU, the network). The job ends to start again from its last checkpoint."


def _said(rank: int, note: Note, seconds: float, now: datetime, what: str) -> str:
    since = datetime.fromtimestamp(now.timestamp() - seconds).strftime("%H:%M:%S")
    where = f" (process {note.process} on {note.host})" if note.host else ""
    return f"rank {rank}{where} {what} since {since}, {note.doing or 'at work outside of the steps'}"


class Presence:
    """This process's note, and its look at the others'.

    Args:
        rank, world_size: of this process.
        store: of the job, for this object alone.
        limits: that hold.
        end: called with a sentence, in a thread, when a process hangs; must end this process.
        clock: monotonic.
    """

    def __init__(
        self,
        rank: int,
        world_size: int,
        store: Store,
        limits: Limits,
        end: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rank, self._store, self._limits, self._end, self._clock = rank, store, limits, end, clock
        self._host, self._doing, self._sign = socket.gethostname(), ("", 0, clock()), 0
        # The first process cannot find out about itself.
        self._watched = [other for other in range(world_size) if other != rank] if rank == 0 else [0] if rank == 1 else []
        self._seen: dict[int, tuple[Note, float]] = {}
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def doing(self, what: str) -> None:
        """Say what this process does from now on; nothing for what may take any time."""
        self._doing = (what, self._doing[1] + 1, self._clock())

    def start(self) -> None:
        """Leave notes and watch, in a thread."""
        self._thread.start()

    def leave(self) -> None:
        """Leave a last note, and watch no more."""
        self._leaving.set()
        self._thread.join(self._limits.every)
        with contextlib.suppress(RuntimeError):  # the store is gone: all have left
            self._write(left=True)

    def _run(self) -> None:
        while not self._leaving.wait(self._limits.every):
            try:
                found = self.look()
            except Exception as error:  # the store goes with torchrun, which ends this process too
                if not self._leaving.is_set():
                    logger.warning("The processes of the job do not see each other any more (%s).", str(error).partition("\n")[0])
                return
            if found and not self._leaving.is_set():
                self._end(found)
                return

    def look(self) -> str | None:
        """Leave a note, read the others', and say who hangs."""
        now, own = self._clock(), self._write()
        for other in self._watched:
            key = _key(other)
            note = _read(self._store.get(key)) if self._store.check([key]) else Note()
            if other not in self._seen or self._seen[other][0] != note:
                self._seen[other] = (note, now)
        sightings = {other: Sighting(note, now - since) for other, (note, since) in self._seen.items() if not note.left}
        if self._rank == 0 or any(seen.unchanged >= self._limits.silent for seen in sightings.values()):
            return verdict(sightings | {self._rank: Sighting(own, 0.0)}, self._limits, datetime.now())
        if own.doing and own.seconds >= self._limits.stuck + self._limits.grace:
            return verdict({self._rank: Sighting(own, 0.0)}, self._limits, datetime.now())
        return None

    def _write(self, left: bool = False) -> Note:
        what, count, since = self._doing
        self._sign += 1
        note = Note(self._host, os.getpid(), what, count, self._clock() - since, self._sign, left)
        self._store.set(_key(self._rank), json.dumps(asdict(note)))
        return note


def end_process(sentence: str) -> None:
    """Say why, and end this process at once, from any thread: no mistake of its user, so that the job may start again."""
    logger.error("%s", sentence)
    os._exit(EXIT_CODE)


def _key(rank: int) -> str:
    return f"presence/{rank}"


def _read(content: bytes) -> Note:
    found: dict[str, Any] = json.loads(content)
    return Note(**found)
