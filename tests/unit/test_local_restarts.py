"""When a job of this machine is started again, and with which exit code it ends: by what its processes leave and torchrun says of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dino4cells.cluster import local
from dino4cells.cluster.entry import leave, process_of_a_job
from dino4cells.cluster.job import JobSpec
from dino4cells.cluster.local import LocalLauncher
from dino4cells.cluster.reason import FAULT, MISTAKE, OUTAGE, REASON_FILE, STOPPED, Reason
from dino4cells.errors import DataError, Interrupted, JobFailed, StoreUnavailable

JOB = JobSpec("train", "dino4cells.training", processes_per_node=2)
AWAY = "s3://lab/a.tif: http://store:9000 does not answer; check the network and its address."


def account(*codes: int) -> str:
    """What torchrun says of processes that had ended."""
    return "".join(f"[{rank}]:\n  rank      : {rank}\n  exitcode  : {code} (pid: 7)\n" for rank, code in enumerate(codes))


def left(place: Path, error: BaseException) -> Reason | None:
    """What a process that ends by this error leaves."""
    with pytest.raises(SystemExit), process_of_a_job():
        raise error
    return Reason.read(place)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(REASON_FILE, str(tmp_path / "reason"))
    monkeypatch.setattr("dino4cells.cluster.entry._end_with", lambda parent: None)  # this process is started by nobody
    return tmp_path / "reason"


def test_a_store_that_stays_away_is_an_end_with_exit_code_75(place: Path) -> None:
    reason = left(place, StoreUnavailable(AWAY))
    end = local._end_of(JOB, account(os.EX_TEMPFAIL), reason)
    assert end is not None
    assert (str(end.failure), end.failure.exit_code, end.may_pass) == (AWAY, os.EX_TEMPFAIL, False)


def test_a_step_that_ends_by_such_a_job_passes_the_exit_code_on(place: Path) -> None:
    reason = left(place, JobFailed(AWAY, os.EX_TEMPFAIL))
    assert reason is not None
    assert (str(reason.failure()), reason.failure().exit_code) == (AWAY, os.EX_TEMPFAIL)


def test_a_mistake_is_an_end_whatever_became_of_the_others(place: Path) -> None:
    reason = left(place, DataError("cells.csv: has no rows; add some."))
    end = local._end_of(JOB, account(2, -6), reason)
    assert end is not None
    assert (str(end.failure), end.failure.exit_code, end.may_pass) == ("cells.csv: has no rows; add some.", 2, False)


def test_the_first_reason_counts_since_the_others_end_because_of_it(place: Path) -> None:
    left(place, DataError("cells.csv: has no rows; add some."))
    assert left(place, Interrupted("a checkpoint was written.", 15)) == Reason(MISTAKE, "cells.csv: has no rows; add some.")


def test_a_process_that_hangs_is_tried_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    leave("rank 1 (process 7 on lab) has given no sign of life; the job starts again.")
    end = local._end_of(JOB, account(os.EX_TEMPFAIL), Reason.read(place))
    assert ended == [os.EX_TEMPFAIL]
    assert end is not None
    assert (end.failure.exit_code, end.may_pass) == (os.EX_TEMPFAIL, True)


@pytest.mark.parametrize(
    ("codes", "reason", "again"),
    [
        ((1, -9), None, True),  # the first one has lost its connection
        ((-11,), Reason(STOPPED, "a checkpoint was written."), True),
        ((-15,), Reason(STOPPED, "a checkpoint was written."), False),
        ((143,), Reason(STOPPED, "a checkpoint was written."), False),
        ((-9,), Reason(OUTAGE, AWAY), False),
        ((), Reason(FAULT, "hangs."), True),
    ],
)
def test_signals_that_nobody_of_the_job_sends_are_tried_again(codes: tuple[int, ...], reason: Reason | None, again: bool) -> None:
    end = local._end_of(JOB, account(*codes), reason)
    assert end is not None
    assert end.may_pass is again


@pytest.mark.parametrize("codes", [(), (1,), (1, -15), (3, 1)])
def test_of_a_bug_the_output_says_more(codes: tuple[int, ...]) -> None:
    assert local._end_of(JOB, account(*codes), None) is None


@pytest.mark.parametrize("tolerated", [0, 2])
def test_a_job_is_started_again_as_often_as_it_tolerates_failures(
    tolerated: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    starts: list[JobSpec] = []

    def killed(launcher: LocalLauncher, job: JobSpec) -> local._End:
        starts.append(job)
        return local._End(JobFailed("train: a process was ended by SIGKILL."), may_pass=True)

    monkeypatch.setattr(LocalLauncher, "_run_once", killed)
    with pytest.raises(JobFailed, match=r"^train: a process was ended by SIGKILL\.$"):
        LocalLauncher().run(JobSpec("train", "dino4cells.training", tolerated_failures=tolerated))
    assert len(starts) == 1 + tolerated
    assert len(caplog.messages) == tolerated
