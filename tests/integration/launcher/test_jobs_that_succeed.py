"""The launcher of PyTorchJobs against an API server over HTTP: a job that succeeds."""

from __future__ import annotations

import dataclasses

import pytest
from kubernetes_server import NAMESPACE, KubernetesServer
from launched import ELASTIC, IMAGE, JOB, QUEUED, SETTINGS, TWO, launcher, logged, runs_through, said

from dino4cells.cluster.job import JobSpec, Processes
from dino4cells.cluster.names import job_name


def test_a_job_is_submitted_followed_to_its_success_and_left_to_be_looked_at(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    runs_through(server, "epoch 1 · loss 7.1", "epoch 2 · loss 6.8")
    launcher(server).run(JOB)
    output = capsys.readouterr().out
    assert said(output) == [
        "submitted to namespace lab",
        "scheduling (0 of 1 pod up)",
        "running (1 pod)",
        "succeeded",
    ]
    assert logged(output) == ["epoch 1 · loss 7.1", "epoch 2 · loss 6.8"]
    assert not server.deleted
    assert server.job["metadata"]["namespace"] == NAMESPACE


def test_the_log_is_passed_on_while_the_job_runs(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []
    runs_through(server, "epoch 1", "epoch 2")
    server.time.at(10.5, lambda: seen.append(capsys.readouterr().out))
    launcher(server).run(JOB)
    assert logged(seen[0]) == ["epoch 1"]


def test_a_step_starts_its_processes_by_it(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    template = dataclasses.replace(JOB, tolerated_failures=1, environment={"REGION": "eu"})
    settings = dataclasses.replace(SETTINGS, template=template)
    processes = Processes(launcher(server, settings), nodes=2, per_node=3)
    runs_through(server)
    server.time.at(14, lambda: server.delete_pod("worker"))
    processes.launcher.run(JobSpec("extract", "dino4cells.features", ("--x",), processes.nodes, processes.per_node))
    spec = server.job["spec"]
    container = spec["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
    assert spec["nprocPerNode"] == "3"
    assert container["image"] == IMAGE
    assert container["command"] == ["torchrun", "-m", "dino4cells.features"]
    assert {"name": "REGION", "value": "eu"} in container["env"]


def test_the_workers_of_a_job_that_succeeded_end_before_the_step_does(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server)
    server.time.at(25, lambda: server.delete_pod("worker"))
    launcher(server).run(TWO)
    assert server.time.now >= 25
    assert not server.deleted


def test_a_job_whose_pods_do_not_end_after_its_success_is_deleted(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server)
    launcher(server, ended=60).run(TWO)
    assert not server.jobs
    assert not server.pods
    name = job_name(TWO, "run-1")
    assert said(capsys.readouterr().out, TWO)[-1] == (f"deleted; pods of it have still not ended after 1 minute ({name}-worker-0 on gpu-3)")


def test_the_log_of_an_elastic_job_is_that_of_its_first_worker(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.time.at(2, server.create_pods)
    server.time.at(4, lambda: server.runs("worker", 0), lambda: server.runs("worker", 2))
    server.time.at(6, lambda: server.writes("epoch 1", role="worker", index=0), lambda: server.writes("no", role="worker", index=2))
    server.time.at(9, lambda: server.ends(0, "worker", 0), lambda: server.ends(0, "worker", 2))
    server.time.at(9, lambda: server.delete_pod("worker", 1), lambda: server.condition("Succeeded"))
    launcher(server).run(ELASTIC)
    output = capsys.readouterr().out
    assert logged(output, ELASTIC) == ["epoch 1"]
    assert "running (2 pods)" in said(output, ELASTIC)


def test_a_queued_job_waits_for_its_queue_and_not_for_a_node(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.time.at(2, lambda: server.condition("Suspended"))
    server.time.at(600, lambda: server.suspend(False), lambda: server.condition("Created", replaces="Suspended"))
    runs_through(server, "epoch 1", begin=600)
    launcher(server, scheduling=60, queued=700).run(QUEUED)
    assert said(capsys.readouterr().out, QUEUED)[1:] == [
        "queued (in queue biology)",
        "scheduling (0 of 1 pod up)",
        "running (1 pod)",
        "succeeded",
    ]
