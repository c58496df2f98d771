"""torchrun on this machine: what a failed job says, and that it leaves nothing running."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dino4cells.cluster.job import JobSpec
from dino4cells.cluster.local import LocalLauncher
from dino4cells.errors import ConfigError, JobFailed

HERE = str(Path(__file__).parent)


def job(directory: Path, what: str) -> JobSpec:
    return JobSpec("train", "waiting_worker", (str(directory), what), processes_per_node=2, environment={"PYTHONPATH": HERE})


def alive(process: int) -> bool:
    """Whether a process runs; one that ended and that nobody asked for counts as ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def workers(directory: Path) -> list[int]:
    return [int(path.read_text()) for path in directory.glob("*.pid")]


def soon(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether the condition comes true within some time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_the_sentence_of_a_failed_process_is_the_reason_and_the_other_one_is_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(JobFailed) as failed:
        LocalLauncher().run(job(tmp_path, "fail"))
    assert str(failed.value) == "cells.csv: the table has no rows; it needs one row a cell."
    assert len(workers(tmp_path)) == 2
    assert not any(alive(worker) for worker in workers(tmp_path))
    output = capsys.readouterr()
    assert "process 0 is there" in output.out
    assert "Traceback" not in output.out + output.err
    assert "torch/distributed" not in output.out + output.err


def test_a_bug_is_shown_with_its_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(JobFailed, match="train: a process ended with exit code 1; its own words are in the output above"):
        LocalLauncher().run(job(tmp_path, "crash"))
    assert "ZeroDivisionError: a bug" in capsys.readouterr().out
    assert not any(alive(worker) for worker in workers(tmp_path))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_no_process_outlives_a_torchrun_that_was_killed(tmp_path: Path) -> None:
    agents: list[int] = []

    def kill_torchrun() -> None:
        if soon(lambda: len(workers(tmp_path)) == 2, seconds=60):
            agents.append(int(Path(f"/proc/{workers(tmp_path)[0]}/stat").read_text().rpartition(")")[2].split()[1]))
            os.kill(agents[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_torchrun)
    killer.start()
    with pytest.raises(JobFailed, match="train: a process ended with exit code -9"):
        LocalLauncher().run(job(tmp_path, "wait"))
    killer.join()
    assert agents
    assert soon(lambda: not any(alive(worker) for worker in workers(tmp_path)))


def test_a_job_of_two_machines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nodes: this machine is one node and the job wants 2"):
        LocalLauncher().run(JobSpec("train", "waiting_worker", nodes=2))
