"""A cluster's API that errs, asks to wait, forgets, refuses, or is not there."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

import pytest
from kubernetes_server import KubernetesServer, Time
from launched import JOB, launcher, logged, running_for, runs_through

from dino4cells.cluster.api import ClusterError, ClusterUnreachable, connect
from dino4cells.cluster.names import job_name
from dino4cells.errors import ConfigError


def test_errors_of_the_api_are_outlived(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server, "epoch 1", "epoch 2", "epoch 3", begin=10)
    for verb, resource in [("create", "pytorchjobs"), ("list", "pods"), ("get", "pytorchjobs"), ("get", "pods/log")]:
        server.fail(verb, resource, 2, 503)
    server.time.at(19, lambda: server.fail("watch", "pods", 3, 500), lambda: server.drop("get", "pytorchjobs", 2))
    server.time.at(22, lambda: server.fail("get", "pods", 2, 504), lambda: server.drop("watch", "pods", after=100))
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["epoch 1", "epoch 2", "epoch 3"]
    assert not server.faults


def test_a_lost_answer_to_the_request_that_creates_the_job_does_not_create_two(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.drop("create", "pytorchjobs")
    runs_through(server, "epoch 1")
    launcher(server).run(JOB)
    assert len(server.jobs) == 1
    assert server.asked("create", "pytorchjobs") == 2


def test_a_cluster_that_asks_to_wait_is_not_pressed(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server, begin=40)
    server.fail("create", "pytorchjobs", 1, 429, Retry_After="25")
    launcher(server).run(JOB)
    assert server.asked("create", "pytorchjobs") == 2
    assert server.job["metadata"]["creationTimestamp"] == "2026-01-01T12:00:25Z"
    assert "the cluster's API does not answer" not in capsys.readouterr().out


def test_a_watch_that_has_expired_begins_anew(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server, *[f"line {number}" for number in range(10)])
    for when in range(3, 40, 6):
        server.time.at(when, server.forget)
    launcher(server).run(JOB)
    assert server.asked("list", "pods") > 4
    assert logged(capsys.readouterr().out) == [f"line {number}" for number in range(10)]


def test_a_watch_that_ends_with_an_error_begins_anew(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server, "epoch 1")
    server.time.at(5, lambda: server.breaks_watch(410, "too old resource version"))
    server.time.at(9, lambda: server.breaks_watch(500, "etcdserver: request timed out"))
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["epoch 1"]


def test_a_cluster_that_stays_away_fails_the_step_and_says_that_the_job_may_run_on(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    running_for(server, "epoch 1")
    server.time.at(10, lambda: server.fail("*", "*", 1000, 503, "apiserver is shutting down"))
    with pytest.raises(ClusterUnreachable, match=r"did not answer for .* seconds"):
        launcher(server, unreachable=300).run(JOB)
    assert 290 <= server.time.now <= 400
    assert len(server.requests) < 60, "pauses grow"
    output = capsys.readouterr().out
    assert "the cluster's API does not answer (503" in output
    assert f"kubectl delete pytorchjob {job_name(JOB, 'run-1')} -n lab does it" in output


def test_a_cluster_that_is_not_there_is_said_to_refuse_connections(time: Time, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = KubernetesServer(time)
        nowhere.url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ClusterUnreachable, match=r"create pytorchjobs.kubeflow.org: .*refused"):
            launcher(nowhere, unreachable=60).run(JOB)


def test_the_kubeconfig_of_a_machine_leads_to_the_cluster(
    server: KubernetesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config"
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    with pytest.raises(ConfigError, match=r"none is configured .*; set KUBECONFIG, or run inside a cluster"):
        connect()
    file.write_text(
        f"""
current-context: lab
clusters: [{{name: lab, cluster: {{server: "{server.url}"}}}}]
users: [{{name: me, user: {{token: {server.token}}}}}]
contexts: [{{name: lab, context: {{cluster: lab, user: me}}}}]
"""
    )
    runs_through(server, "epoch 1")
    dataclasses.replace(launcher(server), connect=connect).run(JOB)
    assert logged(capsys.readouterr().out) == ["epoch 1"]


def test_a_token_that_has_changed_is_read_again(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server, "epoch 1", "epoch 2")
    server.time.at(9, lambda: setattr(server, "token", "second"))
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["epoch 1", "epoch 2"]


def test_a_token_that_the_cluster_does_not_know_is_no_reason_to_wait(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.fail("create", "pytorchjobs", 5, 401, "Unauthorized")
    with pytest.raises(ClusterError, match="does not know who asks"):
        launcher(server).run(JOB)
    assert server.time.now == 0


@pytest.mark.parametrize(
    ("verb", "resource", "named"),
    [
        ("create", "pytorchjobs", "create pytorchjobs.kubeflow.org"),
        ("list", "pods", "list pods"),
        ("watch", "pods", "watch pods"),
        ("get", "pods/log", "get pods/log"),
    ],
)
def test_a_missing_right_is_named_and_nothing_is_left_behind(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str], verb: str, resource: str, named: str
) -> None:
    running_for(server, "epoch 1")
    server.forbidden.add((verb, resource))
    with pytest.raises(ClusterError, match=f"this account may not {named} .*pipeline-runner.*kubectl auth can-i {named} -n lab"):
        launcher(server).run(JOB)
    assert not server.jobs


def test_a_cluster_without_the_operator_is_told_from_one_without_the_job(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.knows_jobs = False
    with pytest.raises(ClusterError, match=r"knows no pytorchjobs.kubeflow.org; install the Training Operator"):
        launcher(server).run(JOB)


def test_the_words_of_the_webhook_are_passed_on(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.refuses = "spec.pytorchReplicaSpecs[Master].replicas: must be 1"
    with pytest.raises(
        ClusterError, match=r"refuses to create .*denied the request: spec.pytorchReplicaSpecs\[Master\].replicas: must be 1"
    ):
        launcher(server).run(JOB)
