"""What is left on the cluster when a launcher is stopped, fails, or is killed: nothing that keeps a GPU."""

from __future__ import annotations

import dataclasses
import os
import signal

import pytest
from kubernetes_server import KubernetesServer
from launched import JOB, SETTINGS, failure_of, killed, launcher, logged, running_for

from dino4cells.cluster.api import ClusterError
from dino4cells.cluster.launcher import LauncherPod
from dino4cells.cluster.names import job_name
from dino4cells.errors import JobFailed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_launcher_that_is_asked_to_stop_deletes_the_job_by_its_next_request(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    asked: list[int] = []
    running_for(server, "epoch 1")
    server.time.at(9.5, lambda: asked.append(len(server.requests)), lambda: os.kill(os.getpid(), number))
    with pytest.raises(JobFailed, match=f"was stopped by {number.name} and deleted"):
        launcher(server).run(JOB)
    assert not server.jobs
    assert not server.pods
    assert server.requests[asked[0]][:2] == ("delete", "pytorchjobs")
    assert signal.getsignal(number) is before


def test_the_end_of_the_log_is_read_after_that_where_pods_still_answer(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.slow_to_collect = True
    running_for(server, "epoch 1")
    server.time.at(9.5, lambda: server.writes("epoch 2"), lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(JobFailed, match="was stopped by SIGTERM and deleted"):
        launcher(server).run(JOB)
    assert server.deleted
    assert logged(capsys.readouterr().out) == ["epoch 1", "epoch 2"]


def test_a_launcher_that_fails_reads_the_log_before_it_deletes_the_job(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    running_for(server, "epoch 1")
    server.time.at(9.5, lambda: server.writes("epoch 2"), lambda: server.forbidden.add(("watch", "pods")))
    with pytest.raises(ClusterError, match="may not watch pods"):
        launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["epoch 1", "epoch 2"]
    assert server.requests[-1][:2] == ("delete", "pytorchjobs")


def test_a_second_signal_does_not_interrupt_the_cleaning_up(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")
    server.time.at(9.5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    server.time.at(9, lambda: server.fail("delete", "pytorchjobs", 2, 503))
    server.time.at(10, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(JobFailed, match="was stopped by SIGTERM"):
        launcher(server).run(JOB)
    assert not server.jobs


def test_a_signal_while_the_job_is_being_created_leaves_none(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.drop("create", "pytorchjobs")
    server.time.at(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(JobFailed, match="was stopped by SIGTERM"):
        launcher(server).run(JOB)
    assert server.deleted


def test_a_bug_leaves_no_job(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")

    def bug() -> None:
        raise ZeroDivisionError

    server.time.at(9, bug)
    with pytest.raises(ZeroDivisionError):
        launcher(server).run(JOB)
    assert not server.jobs


def test_the_job_goes_with_the_pod_of_its_launcher(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")
    killed(server, 9, dataclasses.replace(SETTINGS, pod=LauncherPod("step", "uid-of-step")))
    assert server.job["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Pod", "name": "step", "uid": "uid-of-step"}]
    server.delete_owner("uid-of-step")
    assert not server.pods


def test_a_failed_clean_up_is_said_with_the_command_that_does_it(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")
    server.forbidden.add(("delete", "pytorchjobs"))
    failure_of(lambda: launcher(server, running=60).run(JOB))
    name = job_name(JOB, "run-1")
    assert "could not be cleaned up (namespace lab: this account may not delete pytorchjobs.kubeflow.org" in capsys.readouterr().out
    assert name in server.jobs
