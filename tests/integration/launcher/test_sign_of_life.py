"""The sign by which a job knows that its launcher lives."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import pytest
from kubernetes_server import KubernetesServer
from launched import JOB, SETTINGS, killed, launcher, running_for, runs_through

from dino4cells.cluster.api import ClusterUnreachable
from dino4cells.cluster.launcher import LauncherSettings
from dino4cells.cluster.sign import ABANDONED
from dino4cells.cluster.variables import LAUNCHER_SIGN
from dino4cells.errors import JobFailed


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints-of-model" / "launcher"


def signed(place: Path) -> LauncherSettings:
    return dataclasses.replace(SETTINGS, sign=str(place))


def seen_at(server: KubernetesServer, place: Path, *when: float) -> list[str]:
    """What the sign says at these times, from when they come."""
    seen: list[str] = []
    for moment in when:
        server.time.at(moment, lambda: seen.append(place.read_text()))
    return seen


def test_a_launcher_gives_a_sign_once_a_minute_and_takes_it_away_at_the_end(
    server: KubernetesServer, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.parent.mkdir()
    place.write_text(ABANDONED)  # by the job of a launcher before
    seen = seen_at(server, place, 1, 50, 70, 130)
    runs_through(server, *[f"epoch {number}" for number in range(50)])
    launcher(server, signed(place)).run(JOB)
    assert ABANDONED not in seen
    assert seen[0] == seen[1]
    assert len(set(seen)) == 3
    assert not place.exists()
    (container,) = server.job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"]
    assert {"name": LAUNCHER_SIGN, "value": str(place)} in container["env"]


def test_a_launcher_that_waits_for_the_clusters_api_goes_on_giving_it(
    server: KubernetesServer, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running_for(server, "epoch 1")
    server.time.at(10, lambda: server.fail("*", "*", 1000, 503, "apiserver is shutting down"))
    seen = seen_at(server, place, *range(20, 800, 120))
    with pytest.raises(ClusterUnreachable):
        launcher(server, signed(place)).run(JOB)
    assert len(set(seen)) == len(seen) == 7
    assert place.exists(), "the job, which could not be deleted, finds that it has ended"


def test_the_next_launcher_takes_the_job_over_with_its_sign(
    server: KubernetesServer, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs_through(server, "epoch 1", "epoch 2", "epoch 3", "epoch 4")
    killed(server, 13, signed(place))
    place.write_text(ABANDONED)
    uid, seen = server.job["metadata"]["uid"], seen_at(server, place, server.time.now + 1)
    launcher(server, signed(place)).run(JOB)
    assert server.job["metadata"]["uid"] == uid
    assert seen != [ABANDONED]
    assert not place.exists()


@pytest.mark.parametrize("deleted", [True, False])
def test_a_stopped_launcher_leaves_its_sign_to_a_job_that_it_could_not_delete(
    server: KubernetesServer, place: Path, capsys: pytest.CaptureFixture[str], deleted: bool
) -> None:
    running_for(server, "epoch 1")
    if not deleted:
        server.forbidden.add(("delete", "pytorchjobs"))
    server.time.at(9.5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(JobFailed):
        launcher(server, signed(place)).run(JOB)
    assert place.exists() is not deleted


def test_a_sign_that_cannot_be_written_is_said_once_and_fails_nothing(
    server: KubernetesServer, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.parent.touch()
    runs_through(server, *[f"epoch {number}" for number in range(50)])
    launcher(server, signed(place)).run(JOB)
    output = capsys.readouterr().out
    assert output.count("cannot give the job a sign of life") == 1
    assert output.endswith("succeeded\n")


def test_a_job_that_nobody_follows_looks_for_no_sign(server: KubernetesServer, place: Path) -> None:
    launcher(server, signed(place)).submit(JOB)
    assert LAUNCHER_SIGN not in str(server.job)
    assert not place.exists()
