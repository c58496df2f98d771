"""Work that is killed at a place that is drawn: each a fork of one process that has imported what is needed, and has no threads."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dino4cells.cluster.job import JobSpec
from dino4cells.errors import JobFailed
from tests.faults.served import Served

PLACES = (
    ("dino4cells.storage", ("write_bytes", "upload", "move", "rename", "remove")),
    ("dino4cells.features.part_writer.PartWriter", ("_flush", "__exit__")),
    ("dino4cells.data.dataset.CellImages", ("__getitems__",)),
    ("dino4cells.classify.crossval._Judge", ("fold",)),
)
"""Calls that count as places: everything that is written or deleted, every batch that is read, every fold that is judged."""


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        killed: by SIGKILL.
        complete: returned well.
        rows: of the table whose images were read.
        places: names of the calls that it came to.
    """

    killed: bool
    complete: bool
    rows: tuple[int, ...]
    places: tuple[str, ...]


class Nursery:
    """Forks processes. Use as a context manager."""

    def __init__(self) -> None:
        self._served = Served(_serve)

    def __enter__(self) -> Nursery:
        self._served.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._served.__exit__(*error)

    def run(
        self,
        work: Callable[..., object],
        arguments: Mapping[str, Any],
        notes: Path,
        *,
        kill: Mapping[int, int] | None = None,
        processes: int = 1,
    ) -> list[Ended]:
        """Do some work in one process or several.

        Args:
            work: a function of a module.
            arguments: of it, by name.
            notes: a directory for what the processes note.
            kill: of a process, the number of the place where it ends itself: before the call, or, where negative, after it.
            processes: how many; where one is killed the others are too, as torchrun does.
        """
        notes.mkdir(parents=True, exist_ok=True)
        codes = self._served.ask((work, str(notes), dict(arguments), dict(kill or {}), processes, dict(os.environ)))
        return [_ended(notes / str(rank), code) for rank, code in enumerate(codes)]


@dataclass
class NurseryLauncher:
    """Starts the processes of a job as torchrun does, but from the nursery.

    Attributes:
        notes: a directory for what the processes note.
        kill: as `Nursery.run` takes it, of the next job.
        ended: how the processes of the last job ended.
    """

    nursery: Nursery
    notes: Path
    kill: dict[int, int] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)

    def run(self, job: JobSpec) -> None:
        """Return when the job has succeeded."""
        arguments = {"module": job.module, "words": job.arguments}
        self.ended = self.nursery.run(_run_module, arguments, self.notes, kill=self.kill, processes=job.processes_per_node)
        if not all(process.complete for process in self.ended):
            raise JobFailed(f"{job.name}: a process has ended")


def _run_module(module: str, words: Sequence[str]) -> None:
    """As `python -m module words`."""
    sys.argv = [module, *words]
    importlib.import_module(f"{module}.__main__").main()


def _ended(notes: Path, code: int) -> Ended:
    lines = notes.read_text().splitlines() if notes.exists() else []
    rows = tuple(int(row) for line in lines if line.startswith("rows") for row in line.split()[1:])
    return Ended(code == -signal.SIGKILL, code == 0, rows, tuple(line.split()[1] for line in lines if line.startswith("place")))


def _serve(there: Connection) -> None:
    import dino4cells.classify.evaluate
    import dino4cells.steps  # noqa: F401

    while True:
        try:
            work, notes, arguments, kill, processes, environment = there.recv()
        except EOFError:
            return
        port = _free_port()
        children = []
        for rank in range(processes):
            place = {"RANK": rank, "WORLD_SIZE": processes, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": processes}
            place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} if processes > 1 else {}
            variables = {**environment, **{name: str(value) for name, value in place.items()}}
            children.append(_forked(partial(work, **arguments), Path(notes, str(rank)), kill.get(rank, 0), variables))
        codes: dict[int, int] = {}
        while len(codes) < processes:
            ended, status = os.wait()
            codes[ended] = os.waitstatus_to_exitcode(status)
            if codes[ended] != 0:
                for child in children:
                    if child not in codes:
                        os.kill(child, signal.SIGKILL)
        there.send([codes[child] for child in children])


def _forked(work: Callable[[], object], notes: Path, kill: int, environment: dict[str, str]) -> int:
    """The number of a new process that does some work."""
    child = os.fork()
    if child:
        return child
    try:
        os.environ.update(environment)
        with _watched(notes, kill):
            work()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


@contextmanager
def _watched(notes: Path, kill: int) -> Iterator[None]:
    """Count places and note the rows that are read, in a file that survives; end this process at a place."""
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    passed = 0

    def watched(call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            nonlocal passed
            passed += 1
            here = passed
            os.write(file, f"place {name}\n".encode())
            if name == "__getitems__":
                os.write(file, f"rows {' '.join(str(row) for _, row in arguments[1])}\n".encode())
            if here == kill:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*arguments, **named)
            if here == -kill:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapper

    for owner, names in PLACES:
        module, _, last = owner.rpartition(".")
        found = sys.modules.get(owner) or getattr(sys.modules[module], last)
        for name in names:
            setattr(found, name, watched(getattr(found, name), name))
    yield


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
