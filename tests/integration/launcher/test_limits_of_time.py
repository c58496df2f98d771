"""A job that stays in one state for too long."""

from __future__ import annotations

import dataclasses

import pytest
from kubernetes_server import KubernetesServer
from launched import JOB, QUEUED, failure_of, launcher, running_for

from dino4cells.cluster.names import job_name
from dino4cells.cluster.states import Limits


def test_a_job_that_no_operator_takes_notice_of_fails_after_about_a_minute(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = failure_of(lambda: launcher(server).run(JOB))
    assert str(failed) == (
        f"{job_name(JOB, 'run-1')}: no operator took notice of the job within 90 seconds; install the Training Operator (v1), "
        "or let it watch the namespace lab."
    )
    assert 60 <= server.time.now <= 120
    assert not server.jobs


def test_a_job_that_no_queue_admits_fails(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.time.at(2, lambda: server.condition("Suspended"))
    failed = failure_of(lambda: launcher(server, queued=600).run(QUEUED))
    assert "did not start within 10 minutes, since the queue biology has not admitted it" in str(failed)
    assert not server.jobs


def test_a_job_that_runs_for_too_long_fails(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")
    failed = failure_of(lambda: launcher(server, running=300).run(JOB))
    assert "ran for longer than 5 minutes" in str(failed)
    assert not server.pods


def test_a_job_that_does_not_come_up_again_fails_with_the_reason_of_the_crash(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    running_for(server, "epoch 1", "CUDA error: device-side assert")
    server.time.at(8, lambda: server.ends(1, again="CrashLoopBackOff"))
    failed = failure_of(lambda: launcher(server, restarting=240).run(JOB))
    assert "a process ended with exit code 1 (CrashLoopBackOff); its last lines say why." in str(failed)
    assert failed.failure.reason == "CrashLoopBackOff"
    assert str(failed).endswith("\n  epoch 1\n  CUDA error: device-side assert")
    assert server.time.now < 290
    assert not server.pods


def test_a_job_that_runs_and_says_nothing_fails(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")
    for when in range(20, 200, 50):
        server.time.at(when, lambda: server.writes("step"))
    failed = failure_of(lambda: launcher(server, stalled=120).run(JOB))
    assert failed.failure.reason == "Stalled"
    assert "has said nothing for 2 minutes although it runs" in str(failed)
    assert "\n  epoch 1\n  step" in str(failed)
    assert 290 <= server.time.now <= 296
    assert not server.pods


def test_the_limits_are_named_for_every_state() -> None:
    assert all(limit > 0 for limit in dataclasses.astuple(Limits()))
