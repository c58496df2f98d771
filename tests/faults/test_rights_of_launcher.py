"""The launcher and `doctor` with no other rights than those of manifests/base/role.yaml: they suffice, and none is left over."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import healthy_cluster
import pytest
import yaml
from healthy_cluster import CORE, encoded, write_kubeconfig
from kubernetes_server import NAMESPACE, KubernetesServer, Time, kubernetes_server

from dino4cells.cluster.job import JobSpec
from dino4cells.cluster.launcher import LauncherPod, LauncherSettings, PyTorchJobLauncher
from dino4cells.cluster.launchers import JobParameters, launch_of
from dino4cells.cluster.permissions import LAUNCHER
from dino4cells.cluster.states import Limits
from dino4cells.errors import JobFailed
from tests.faults.role import ROLE, Account, Request, rules_of
from tests.tally import Tally

JOB = JobSpec("train", "dino4cells.training", nodes=2, image="registry.example/dino4cells:0.1.0")
POD = LauncherPod("step", "uid-of-the-step")
STORE = encoded(**{"accesskey": "of-the-lab", "secretkey": "never-shown", "endpoint": "http://127.0.0.1:9", "ca.crt": "PEM"})
OPENING = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE")
AUTHORITY = "authority: {secret: dino4cells-store}"


@contextlib.contextmanager
def cluster() -> Iterator[KubernetesServer]:
    """A cluster on which a job would run, with the store of Kubeflow Pipelines and one of the user's."""
    with kubernetes_server(Time()) as running:
        running.objects = copy.deepcopy(healthy_cluster.HEALTHY)
        running.objects[f"{CORE}/configmaps/kfp-launcher"] = {"data": {"defaultPipelineRoot": "minio://lab/v2"}}
        for secret in ("dino4cells-store", "mlpipeline-minio-artifact"):
            running.objects[f"{CORE}/secrets/{secret}"] = {"data": STORE}
        yield running


@pytest.fixture
def server() -> Iterator[KubernetesServer]:
    with cluster() as running:
        yield running


@pytest.fixture
def account(server: KubernetesServer) -> Account:
    bound = Account()
    bound.use(server)
    return bound


def launcher(server: KubernetesServer, **settings: Any) -> PyTorchJobLauncher:
    given = LauncherSettings(NAMESPACE, pod=POD, **settings)
    return PyTorchJobLauncher(given, server.connect, server.time.clock, server.time.sleep, lambda: 1.0)


# What happens to a job; each is a whole life of one.


def succeeds(server: KubernetesServer, begin: float = 0) -> None:
    server.time.at(begin + 2, server.create_pods)
    server.time.at(begin + 6, server.all_run, lambda: server.writes("epoch 1"))
    server.time.at(
        begin + 9, lambda: server.ends(0), lambda: server.ends(0, "worker"), lambda: server.condition("Succeeded", replaces="Running")
    )
    launcher(server).run(JOB)


def is_taken_over_and_restarts(server: KubernetesServer) -> None:
    launcher(server).submit(JOB)
    server.time.at(2, server.create_pods)
    server.time.at(6, server.all_run, lambda: server.writes("epoch 1"))
    server.time.at(8, lambda: server.ends(1), server.runs, lambda: server.writes("epoch 1 again"))
    server.time.at(12, lambda: server.ends(0), lambda: server.condition("Succeeded", replaces="Running"), server.collect_garbage)
    server.time.at(13, lambda: server.ends(0, "worker"))
    launcher(server).run(JOB)


def fails(server: KubernetesServer) -> None:
    server.time.at(2, server.create_pods)
    server.time.at(60, server.all_run)
    server.time.at(62, lambda: server.writes("out of memory", role="worker"))
    server.time.at(64, lambda: server.ends(1, "worker", phase="Failed"), lambda: server.condition("Failed", replaces="Running"))
    with pytest.raises(JobFailed):
        launcher(server).run(JOB)


def is_not_scheduled(server: KubernetesServer) -> None:
    server.time.at(2, server.create_pods, lambda: server.unschedulable("0/3 nodes are available: 3 Insufficient cpu."))
    server.time.at(3, lambda: server.warns("exceeded quota", server.job["metadata"]["name"]))
    with pytest.raises(JobFailed, match="Insufficient cpu"):
        launcher(server, limits=Limits(scheduling=30.0)).run(JOB)


def runs_for_too_long(server: KubernetesServer) -> None:
    server.time.at(2, server.create_pods)
    server.time.at(6, server.all_run)
    with pytest.raises(JobFailed):
        launcher(server, limits=Limits(running=60.0)).run(JOB)


def has_failed_before_and_is_replaced(server: KubernetesServer) -> None:
    launcher(server).submit(JOB)
    server.condition("Failed")
    succeeds(server, begin=4)


def is_watched_from_an_old_version(server: KubernetesServer) -> None:
    server.time.at(7, server.forget)
    succeeds(server)


LIVES = (
    succeeds, is_taken_over_and_restarts, fails, is_not_scheduled, runs_for_too_long, has_failed_before_and_is_replaced,
    is_watched_from_an_old_version,
)  # fmt: skip


def step_finds_its_store(server: KubernetesServer, patch: pytest.MonkeyPatch, parameter: str) -> None:
    """The train step of the pipeline, up to the launcher that it makes."""
    server.pods["step"] = {"metadata": {"name": "step", "labels": {}}, "spec": {"containers": [], "serviceAccountName": "launcher"}}
    for name, value in {"NAMESPACE": NAMESPACE, "POD": "step", "POD_UID": POD.uid, "RUN": "run-1"}.items():
        patch.setenv(f"DINO4CELLS_{name}", value)
    for name in OPENING:
        patch.setenv(name, "")  # so that what stands there now comes back in the end
        patch.delenv(name)
    asked = JobParameters(image=JOB.image, secret=parameter, settings=AUTHORITY)
    launch_of("pytorchjob", "minio://lab/v2/artifacts/p/run-1/train/uuid/model", "/nowhere", asked)
    assert Path(os.environ["AWS_CA_BUNDLE"]).read_text() == "PEM"
    # It is left in the environment for the work of the step; not here.
    for name in OPENING:
        patch.setenv(name, "")


def test_the_launcher_needs_every_right_of_its_role_and_no_other(tally: Tally, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tally.what = "requests of the launcher with the rights of its Role alone"
    account = Account()

    for life in LIVES:
        with cluster() as server:
            account.use(server)
            life(server)
    for parameter in ("dino4cells-store", ""):
        with cluster() as server:
            account.use(server)
            write_kubeconfig(tmp_path, monkeypatch, server.url, server.token)
            step_finds_its_store(server, monkeypatch, parameter)

    for request in account.asked:
        tally.count(request not in account.refused)
    assert account.refused == []
    assert account.never_used() == set()


def test_a_person_follows_and_deletes_a_job_with_the_same_rights(
    server: KubernetesServer, account: Account, dino4cells: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kubeconfig(tmp_path, monkeypatch, server.url, server.token)
    words = ("--image", JOB.image, "--data", "s3://lab/cells", "--output", "s3://lab/model", "--nodes", "2", "--name", "monday")

    assert dino4cells("job", "submit", *words).code == 0
    server.create_pods()
    server.all_run()
    server.writes("epoch 1")
    for command in ("status", "logs", "delete"):
        done = dino4cells("job", command, "monday")
        assert done.code == 0, done.err

    assert account.refused == []
    assert server.deleted == ["monday"]


def test_doctor_says_of_an_account_with_the_role_alone_that_it_may_start_jobs(
    server: KubernetesServer, account: Account, dino4cells: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it may look at besides is more than the Role; a row that it may not look at is `not checked`, and nothing fails."""
    write_kubeconfig(tmp_path, monkeypatch, server.url, server.token)

    done = dino4cells("doctor", "--image", JOB.image, "--nodes", "2", "--json")

    rows = {row["what"]: row for row in json.loads(done.out)["rows"]}
    assert {what: row["state"] for what, row in rows.items() if what.startswith("right to")} == {
        f"right to {permission.resource}": "ok" for permission in LAUNCHER
    }
    assert not [row for row in rows.values() if row["state"] == "missing"], rows
    # It looks and changes nothing, whatever the account may do.
    assert {request.verb for request in account.asked} <= {"get", "list"}


@pytest.mark.parametrize("rule", range(len(rules_of(ROLE))))
def test_a_right_that_is_taken_away_is_missed(server: KubernetesServer, rule: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the account above is shown to guard at all."""
    account = Account([one for number, one in enumerate(rules_of(ROLE)) if number != rule])
    account.use(server)
    wanted = rules_of(ROLE)[rule]
    request = Request(wanted["verbs"][0], wanted["apiGroups"][0], wanted["resources"][0], NAMESPACE, *wanted.get("resourceNames", [])[:1])

    assert not account.may(request)
    assert Account().may(request)
    assert not Account().may(dataclasses.replace(request, namespace="other"))


def test_the_role_is_of_one_namespace_and_grants_nothing_by_a_star() -> None:
    documents = list(yaml.safe_load_all(ROLE.read_text()))

    assert {document["kind"] for document in documents} == {"Role", "RoleBinding"}
    for rule in rules_of(ROLE):
        assert "*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])
        if rule["resources"] in (["secrets"], ["configmaps"]):
            assert rule["resourceNames"], "secrets are read by their names"
            assert rule["verbs"] == ["get"]
