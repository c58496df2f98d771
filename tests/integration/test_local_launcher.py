"""torchrun on this machine: what a failed job says, when it is started again, and that it leaves nothing running."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dino4cells.cluster.failures import exit_code, own_words
from dino4cells.cluster.job import JobSpec
from dino4cells.cluster.local import LocalLauncher
from dino4cells.cluster.objects import Ended
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


def test_a_job_of_which_a_process_is_killed_is_started_again_and_its_mistake_is_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(JobFailed) as failed:
        LocalLauncher().run(job(tmp_path, "killed,mistake"))
    assert str(failed.value) == "cells.csv: the table has no rows; it needs one row a cell."
    assert failed.value.exit_code == 2
    assert caplog.messages == [
        "train: a process was ended by SIGKILL, most often for want of memory; lower the batch size or the number of processes. "
        "The job is started again (1 of 3 times)."
    ]
    assert len(workers(tmp_path)) == 4
    assert not any(alive(worker) for worker in workers(tmp_path))
    output = capsys.readouterr()
    assert "process 0 is there" in output.out
    assert "Traceback" not in output.out + output.err
    assert "torch/distributed" not in output.out + output.err


def test_a_bug_is_shown_with_its_traceback_and_is_not_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(JobFailed, match="train: a process ended with exit code 1; its own words are in the output above"):
        LocalLauncher().run(job(tmp_path, "bug"))
    output = capsys.readouterr().out
    assert "ZeroDivisionError: a bug" in output
    assert len(workers(tmp_path)) == 2
    assert not any(alive(worker) for worker in workers(tmp_path))
    # What a launcher on a cluster reads of a real torchrun: it names the exit code of its process and passes on another.
    end = Ended(1, "Error", output[-2048:], "", "")  # as much as Kubernetes takes from a log
    assert exit_code(end) == 3
    assert own_words(output.splitlines(), 20)[-1] == "ZeroDivisionError: a bug"


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
