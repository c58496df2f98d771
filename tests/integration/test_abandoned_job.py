"""A job whose launcher is killed ends by itself: real processes, with seconds in place of minutes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes_server import KubernetesServer, Time, kubernetes_server
from signed_job import PATIENCE

from dino4cells.cluster.sign import ABANDONED, LauncherGone
from dino4cells.cluster.variables import LAUNCHER_SIGN
from dino4cells.config import Config
from dino4cells.events import text_of

SCRIPT = Path(__file__).with_name("signed_job.py")
LONGEST = 30.0


class Job:
    """The launcher and the processes of one job, on this machine."""

    def __init__(self, server: KubernetesServer, root: Path, config: str, data: str) -> None:
        self.server, self.checkpoints = server, root / "checkpoints-of-model"
        self.sign = self.checkpoints / "launcher"
        self._words = [config, data, str(root / "model"), str(self.checkpoints)]
        self.processes: list[subprocess.Popen[str]] = []

    def launcher(self) -> subprocess.Popen[str]:
        """A launcher that has started the job or taken it over."""
        before = self.sign.read_text() if self.sign.exists() else ""
        process = self._start(["launch", self.server.url, self.server.token, str(self.sign)], {})
        until(lambda: bool(self.server.jobs) and self.sign.exists() and self.sign.read_text() != before)
        return process

    def process(self) -> subprocess.Popen[str]:
        """The first process of the job, with the variables of its pod."""
        (container,) = self.server.job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"]
        given = {variable["name"]: variable["value"] for variable in container["env"] if variable["name"] == LAUNCHER_SIGN}
        return self._start(["train", *self._words], {"RANK": "0", **given})

    def _start(self, words: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *words],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LONGEST
    while not holds():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.05)


def says(process: subprocess.Popen[str], begin: str) -> bool:
    """Whether the process writes a line that begins so, as soon as it does."""
    return any(text_of(line).startswith(begin) for line in process.stdout or ())


@pytest.fixture
def job(tmp_path: Path, draw_cells: Callable[..., str], tiny_config: Callable[..., Config]) -> Iterator[Job]:
    (tmp_path / "config.yaml").write_text(tiny_config(epochs=100_000).to_yaml())
    with kubernetes_server(Time()) as server:
        job = Job(server, tmp_path, str(tmp_path / "config.yaml"), draw_cells(tmp_path / "cells", 24))
        yield job
        for process in job.processes:
            process.kill()
            process.communicate()


def test_a_job_outlives_the_absence_of_its_store_and_not_that_of_its_launcher(job: Job) -> None:
    launcher = job.launcher()
    training = job.process()
    assert says(training, "train "), "its launcher is there, and has been for the seconds that PyTorch takes to be imported"

    before = job.sign.read_text()
    job.sign.unlink()
    job.sign.mkdir()  # neither of the two can read or write there now
    time.sleep(1.2 * PATIENCE.gone)
    job.sign.rmdir()
    job.sign.write_text(before)
    time.sleep(PATIENCE.gone / 2)
    assert training.poll() is None, "its launcher and its store are there"

    launcher.kill()
    out, _ = training.communicate(timeout=LONGEST)
    assert training.returncode == 128 + 15, out
    assert "has given no sign of life" in out
    assert job.sign.read_text() == ABANDONED
    assert list(job.checkpoints.glob("checkpoint-*.pth"))

    again = job.process()
    out, _ = again.communicate(timeout=LONGEST)
    assert again.returncode == LauncherGone.exit_code, out
    assert text_of(out).startswith("error: ")
    assert "the launcher of this job is gone and none has taken the job over" in out

    job.launcher()
    assert says(job.process(), "starts"), "the next launcher has taken the job over"
