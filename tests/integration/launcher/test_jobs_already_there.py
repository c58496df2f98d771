"""A job of the same name: taken over, replaced, waited for, or refused."""

from __future__ import annotations

import dataclasses

import pytest
from kubernetes_server import KubernetesServer
from launched import JOB, SETTINGS, failure_of, killed, launcher, logged, running_for, runs_through, said

from dino4cells.cluster.launcher import LauncherPod
from dino4cells.cluster.names import job_name
from dino4cells.errors import ConfigError


def test_a_step_that_is_tried_again_takes_its_job_over(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server, "epoch 1", "epoch 2", "epoch 3", "epoch 4")
    killed(server, 13, dataclasses.replace(SETTINGS, pod=LauncherPod("step-1", "uid-of-step-1")))
    uid = server.job["metadata"]["uid"]
    capsys.readouterr()
    launcher(server, dataclasses.replace(SETTINGS, pod=LauncherPod("step-2", "uid-of-step-2"))).run(JOB)
    output = capsys.readouterr().out
    assert said(output)[:2] == ["is there already with the same specification; taken over", "its log follows from the beginning"]
    assert logged(output) == ["epoch 1", "epoch 2", "epoch 3", "epoch 4"]
    assert server.job["metadata"]["uid"] == uid
    assert [owner["name"] for owner in server.job["metadata"]["ownerReferences"]] == ["step-2"]


def test_a_job_that_succeeded_meanwhile_is_taken_over_as_well(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server, "epoch 1")
    killed(server, 9)
    server.time.sleep(100)
    capsys.readouterr()
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["epoch 1"]
    assert not server.deleted


def test_a_job_that_failed_before_is_replaced(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")
    server.time.at(8, lambda: server.ends(1, phase="Failed"), lambda: server.condition("Failed", replaces="Running"))
    failure_of(lambda: launcher(server).run(JOB))
    uid = server.job["metadata"]["uid"]
    runs_through(server, "resumed", begin=server.time.now + 2)
    capsys.readouterr()
    launcher(server).run(JOB)
    assert server.job["metadata"]["uid"] != uid
    assert logged(capsys.readouterr().out) == ["resumed"]


def test_the_pods_that_an_earlier_job_left_behind_do_not_count(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.slow_to_collect = True
    running_for(server, "old")
    server.time.at(8, lambda: server.ends(1, message="error: old: a mistake; mend it.", phase="Failed"))
    failure_of(lambda: launcher(server, ended=10).run(JOB))
    assert server.pods
    server.time.at(server.time.now + 6, server.collect_garbage)
    runs_through(server, "new", begin=server.time.now + 8)
    capsys.readouterr()
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["new"]


def test_outside_of_a_run_a_job_that_succeeded_is_run_again(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    alone = dataclasses.replace(SETTINGS, run="")
    runs_through(server, "first")
    launcher(server, alone).run(JOB)
    runs_through(server, "second", begin=server.time.now + 2)
    launcher(server, alone).run(JOB)
    assert len(server.deleted) == 1
    assert capsys.readouterr().out.count("second") == 1


def test_another_job_of_the_same_name_is_refused_and_left_alone(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    killed(server, 1)
    server.job["metadata"]["annotations"]["dino4cells.org/specification"] = "0" * 64
    name = job_name(JOB, "run-1")
    with pytest.raises(ConfigError) as refused:
        launcher(server).run(JOB)
    assert str(refused.value) == (
        f"job {name}: namespace lab has another job of this name; delete it (kubectl delete pytorchjob {name} -n lab) "
        "or give this one another name."
    )
    assert server.jobs


def test_a_job_that_is_being_deleted_is_waited_for(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    killed(server, 1)
    server.job["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    server.time.at(10, server.jobs.clear)
    runs_through(server, "anew", begin=20)
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["anew"]


def test_another_run_has_a_job_of_its_own(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    killed(server, 1)
    server.jobs.clear()
    other = dataclasses.replace(SETTINGS, run="run-2")
    runs_through(server, begin=4)
    launcher(server, other).run(JOB)
    assert list(server.jobs) == [job_name(JOB, "run-2")]
    assert job_name(JOB, "run-2") != job_name(JOB, "run-1")
