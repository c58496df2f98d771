"""Trainings that end themselves at a place that is drawn: forks of one process that has imported what they need, and has no threads."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from tests.faults.served import Served

SECONDS = 120
"""After which a training that has not ended counts as hung."""


@dataclass(frozen=True)
class Fault:
    """A signal that a training sends itself.

    Attributes:
        number: of the signal.
        place: how many places it passes before: the begin and the end of each step, and of each rename and deletion of a file.
        rank: of the process that does it.
    """

    number: signal.Signals
    place: int
    rank: int = 0


@dataclass(frozen=True)
class Ended:
    """How a training ended.

    Attributes:
        codes: of its processes, negative for a signal.
        said: what they wrote to the standard error.
        rows: of each step, by the images seen before it, the rows that all processes read.
        places: that the first process has passed.
        seconds: from a signal that a process sent itself to the end of that process, or of the training.
    """

    codes: tuple[int, ...]
    said: str
    rows: Mapping[int, list[int]]
    places: int
    seconds: float


@dataclass
class Nursery:
    """Forks trainings. Use as a context manager."""

    notes: Path
    _count: int = 0
    _served: Served = field(init=False)

    def __post_init__(self) -> None:
        self._served = Served(_serve)

    def __enter__(self) -> Nursery:
        self._served.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._served.__exit__(*error)

    def train(self, config: str, data: str, output: Path, *, processes: int = 1, faults: Iterable[Fault] = ()) -> Ended:
        """Train as `steps.train` does, in one process or several; where one of these ends badly the others are killed, as by torchrun."""
        self._count += 1
        notes = self.notes / str(self._count)
        notes.mkdir(parents=True)
        codes, ended = self._served.ask((str(notes), (config, data, str(output)), processes, tuple(faults), dict(os.environ)))
        lines = [line.split(maxsplit=1) for rank in range(processes) for line in _lines(notes / f"{rank}.notes")]
        rows: dict[int, list[int]] = {}
        for kind, rest in lines:
            if kind == "rows":
                seen, read = json.loads(rest)
                rows.setdefault(seen, []).extend(read)
        places = sum(line.startswith("place") for line in _lines(notes / "0.notes"))
        sent = [float(rest) for kind, rest in lines if kind == "signal"]
        said = "".join((notes / f"{rank}.err").read_text() for rank in range(processes))
        return Ended(tuple(codes), said, rows, places, ended - min(sent) if sent else 0.0)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _serve(there: Connection) -> None:
    """Fork what is asked for, until nobody asks any more."""
    for module in ("dino4cells.steps", "torch._dynamo", "tensorboard.summary.writer.record_writer", "tensorboard.compat.proto.summary_pb2"):
        importlib.import_module(module)
    from dino4cells.models import vit

    vit.ARCHITECTURES["vit_tiny"], vit.DEPTH = (24, 3), 2  # type: ignore[misc]  # a checkpoint of 400 kB in place of 90 MB
    torch.set_num_threads(1)
    while True:
        try:
            notes, arguments, processes, faults, environment = there.recv()
        except EOFError:
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children: list[int] = []
        for rank in range(processes):
            child = os.fork()
            if child == 0:
                os.environ.update(environment)
                if processes > 1:
                    place = {"RANK": rank, "WORLD_SIZE": processes, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": processes}
                    os.environ.update({name: str(value) for name, value in place.items()})
                    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
                _train(Path(notes), rank, arguments, [fault for fault in faults if fault.rank == rank])
            children.append(child)
        there.send((_wait(children), time.time()))


def _wait(children: list[int]) -> list[int]:
    codes: dict[int, int] = {}
    began = time.monotonic()
    while len(codes) < len(children):
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            codes[child] = os.waitstatus_to_exitcode(status)
        else:
            time.sleep(0.005)
        failed = any(code not in (0, 143) for code in codes.values())
        if failed or time.monotonic() - began > SECONDS:
            for other in set(children) - set(codes):
                os.kill(other, signal.SIGKILL)
    return [codes[child] for child in children]


def _train(notes: Path, rank: int, arguments: tuple[str, str, str], faults: list[Fault]) -> None:
    """Train and end this process."""
    code = 1
    with (notes / f"{rank}.err").open("w", buffering=1) as err, (notes / f"{rank}.notes").open("w", buffering=1) as book:
        os.dup2(err.fileno(), 2)
        sys.stderr = err
        try:
            _count_places(book, {fault.place: fault.number for fault in faults})
            from dino4cells import steps
            from dino4cells.cluster.entry import process_of_a_job
            from dino4cells.config import parse_config

            config, data, output = arguments
            with process_of_a_job():
                steps.train(parse_config(config, where="config"), data=data, output=output, device="cpu")
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        err.flush()
        os._exit(code)


def _count_places(book: Any, faults: Mapping[int, signal.Signals]) -> None:
    """Note each place and send this process the signal that is meant for it, if any."""
    from dino4cells.training.loop import DINO

    passed = 0

    def place() -> None:
        nonlocal passed
        passed += 1
        book.write("place 1\n")
        if passed in faults:
            book.write(f"signal {time.time()}\n")
            os.kill(os.getpid(), faults[passed])

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def between(*given: Any, **named: Any) -> Any:
            # A lease is renewed by the clock, which no seed decides.
            if any(".lease" in str(name) for name in given if isinstance(name, (str, os.PathLike))):
                return call(*given, **named)
            place()
            result = call(*given, **named)
            place()
            return result

        return between

    step = DINO.step

    def noted(self: DINO, batch: Any, seen: int) -> torch.Tensor:
        book.write(f"rows {json.dumps([seen, batch.index_B.tolist()])}\n")
        return step(self, batch, seen)

    DINO.step = counted(noted)  # type: ignore[method-assign]
    os.replace = counted(os.replace)
    os.unlink = counted(os.unlink)
