"""A job of two real processes: one is killed, later one is stopped; torchrun, then its launcher, starts both again from the checkpoint."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dino4cells.cluster.job import JobSpec
from dino4cells.cluster.local import LocalLauncher
from dino4cells.config import Config
from tests.faults.test_training_histories import SEED, same_bits
from tests.faults.trainings import Nursery
from tests.tally import Tally

ROOT = Path(__file__).parents[2]
MODULE = "tests.faults.small_training"
SECONDS = 240


@dataclass(frozen=True)
class FirstTorchrunRestarts(LocalLauncher):
    """Its first torchrun starts the processes again by itself, once, as in a pod of an elastic job: they find the store of those before."""

    started: list[JobSpec] = field(default_factory=list)

    def _command(self, job: JobSpec) -> list[str]:
        command = super()._command(job)
        if not self.started:
            command.insert(command.index("--nnodes=1"), "--max-restarts=1")
        self.started.append(job)
        return command


def runs(process: int) -> bool:
    """Whether a process of the job runs."""
    try:
        return MODULE in Path(f"/proc/{process}/cmdline").read_text()
    except FileNotFoundError:
        return False


def wait_for(seen: Callable[[], bool], job: Future[None], what: str) -> None:
    """Return when something is seen, while the job runs."""
    until = time.monotonic() + SECONDS
    while not seen():
        assert not job.done(), f"{what}: the job has ended with {job.exception()}"
        assert time.monotonic() < until, what
        time.sleep(0.01)


def end(job: Future[None], pids: Path) -> None:
    """Kill the processes of the job, also those that are started again, until it is given up."""
    while not job.done():
        for process in [int(path.read_text() or 0) for path in pids.iterdir()]:
            if runs(process):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        time.sleep(0.1)


def test_a_job_is_started_again_whose_processes_are_killed_or_hang(
    tiny_config: Callable[..., Config],
    cells: str,
    tmp_path: Path,
    tally: Tally,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    tally.what = "a rank of torchrun's killed, or stopped and named: the job starts again, same weights"
    print(f"DINO4CELLS_SEED={SEED}")
    dice, epochs = random.Random(SEED), 20
    config = tiny_config(checkpoint_minutes=1e-6, drop_path_rate=0.1, epochs=epochs, saveckp_freq=0).to_yaml()
    with Nursery(tmp_path / "notes") as nursery:
        assert nursery.train(config, cells, tmp_path / "whole", processes=2).codes == (0, 0)

    output, saved, pids = tmp_path / "model", tmp_path / "model.checkpoints", tmp_path / "pids"
    pids.mkdir()
    arguments = (str(pids), "--config-text", config, "--data", cells, "--output", str(output), "--device", "cpu")
    spec = JobSpec("train", MODULE, arguments, processes_per_node=2, environment={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})

    def seen() -> int:
        return max((int(path.stem.removeprefix("checkpoint-")) for path in saved.glob("checkpoint-*.pth")), default=0)

    def pid(rank: int, start: int) -> int:
        return int((pids / f"{rank}-{start}").read_text())

    total = 24 * epochs
    first, second = dice.randrange(8, total // 3), dice.randrange(total // 3 + 64, 2 * total // 3)
    with ThreadPoolExecutor(1) as thread:
        job = thread.submit(FirstTorchrunRestarts().run, spec)
        try:
            wait_for(lambda: seen() >= first, job, "the first steps")
            os.kill(pid(dice.randrange(2), 0), signal.SIGKILL)
            wait_for(lambda: len(list(pids.glob("*-1"))) == 2 and seen() >= second, job, "going on after a kill")
            tally.count(not caplog.messages)  # torchrun itself did it

            stopped = dice.randrange(2)
            process, other = pid(stopped, 1), pid(1 - stopped, 1)
            os.kill(process, signal.SIGSTOP)
            at = time.monotonic()
            wait_for(lambda: not runs(other), job, "the other one's end")
            noticed = time.monotonic() - at
            os.kill(process, signal.SIGCONT)  # else torchrun waits 30 seconds before it kills it
            job.result(SECONDS)
        finally:
            end(job, pids)
    name = rf"rank {stopped} \(process {process} on \S+\) has given no sign of life since \d\d:\d\d:\d\d, \w+ing .* after [\d,]+"
    tally.count(noticed < 30 and re.search(name, caplog.messages[0]) is not None)
    text = "".join(capsys.readouterr())
    assert text.count("Continuing after") == 1, text  # of the second torchrun; what the first one says after a failure is kept back
    tally.count(same_bits(output, tmp_path / "whole"))
    assert sorted(path.name for path in tmp_path.glob("*model*")) == ["model"]
