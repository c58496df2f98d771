"""On a real cluster: what other tests play with an API server of their own, done by the operator, the scheduler and the kubelets."""

from __future__ import annotations

import dataclasses
import multiprocessing
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from real_cluster import CELLS, LONG, SHORT, TINY, Launched, RealCluster, overlay, pipeline_parameters

from dino4cells.cluster.failures import IMAGE_REASONS, ClusterJobFailed
from dino4cells.cluster.job import Placement, Resources, Toleration
from dino4cells.cluster.names import job_name
from dino4cells.cluster.pytorchjob import CONTAINER
from dino4cells.errors import JobFailed
from dino4cells.events import text_of

pytestmark = pytest.mark.e2e

GONE_SECONDS = 120.0
"""A pod that is deleted has 30 seconds to write its checkpoint."""

KILL = r"""
import os, signal
for name in filter(str.isdigit, os.listdir("/proc")):
    words = open(f"/proc/{name}/cmdline").read().split("\0")
    if "dino4cells.training" in words and name != "1":
        os.kill(int(name), signal.SIGKILL)
        print("killed", name)
"""
"""Kills the training process under torchrun, which is the first process of its container."""


@pytest.fixture
def run() -> str:
    """An identifier that no other test has."""
    return f"e2e-{uuid.uuid4().hex[:8]}"


def failure_of(cluster: RealCluster, run: str, **changes: object) -> tuple[ClusterJobFailed, str]:
    """How a job fails, and its name."""
    job = cluster.job(run, **changes)
    with pytest.raises(ClusterJobFailed) as failed:
        cluster.launcher(run).run(job)
    return failed.value, job_name(job, run)


def test_the_manifests_train_over_two_pods(cluster: RealCluster, run: str, tmp_path: Path) -> None:
    output = f"{cluster.place.store}/{run}"
    places = {"model.data_path": f"{cluster.place.store}/cells/metadata.csv", "model.output_dir": output, "model.epochs": SHORT}
    made = overlay(tmp_path, cluster.place, {"preset": "small", **nested({**TINY, **places})})
    assert cluster.cluster.job("dino4cells-train") is None, "this namespace is used; set E2E_NAMESPACE to one for these tests"

    cluster.kubectl("apply", "--kustomize", str(made))
    try:
        end = cluster.until("the job has ended", lambda: cluster.end_of("dino4cells-train"), cluster.place.minutes * 60)
        assert end == "Succeeded", "\n".join(cluster.log("dino4cells-train-master-0"))
    finally:
        cluster.kubectl("delete", "--kustomize", str(made), "--ignore-not-found")

    found = cluster.check_model(output)
    assert found["processes"] == 2
    assert found["images"] == CELLS
    assert found["samples_seen"] == SHORT * CELLS // 16 * 16


def test_the_launcher_follows_a_job_of_two_pods_to_its_model(cluster: RealCluster, run: str, capsys: pytest.CaptureFixture[str]) -> None:
    job = cluster.job(run)
    name = job_name(job, run)

    cluster.launcher(run).run(job)

    printed = capsys.readouterr().out
    assert f"{name}: submitted to namespace {cluster.place.namespace}" in printed
    assert f"{name}: running (2 pods)" in printed
    assert any(text_of(line).startswith("train    ████████████████████████ 100%") for line in printed.splitlines())
    assert cluster.check_model(f"{cluster.place.store}/{run}")["processes"] == 2
    assert cluster.end_of(name) == "Succeeded", "a job that succeeded is left to be looked at"
    assert not [pod.name for pod in cluster.pods(name) if pod.holds_resources]
    cluster.kubectl("delete", "pytorchjob", name)


def kill_process(job: Launched) -> None:
    """As a crash does: no warning, and the container starts again in its place."""
    killed = job.where.kubectl("exec", job.worker, "--container", CONTAINER, "--", "python", "-c", KILL)
    assert killed.startswith("killed")


def delete_pod(job: Launched) -> None:
    """As the drain of a node does: the process is asked to stop, and another pod takes the place."""
    job.where.kubectl("delete", "pod", job.worker)


@pytest.mark.parametrize("harm", [kill_process, delete_pod])
def test_a_job_that_loses_a_worker_goes_on_from_its_checkpoint(
    cluster: RealCluster, run: str, harm: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(harm)
    with cluster.launched(cluster.job(run, epochs=LONG), run) as job:
        job.has_checkpoint()
        before = cluster.cluster.job(job.name)
        harm(job)
        job.finish()
        after = cluster.cluster.job(job.name)

    assert before
    assert after
    assert before["metadata"]["uid"] == after["metadata"]["uid"]
    assert f"images from {cluster.place.store}/{run}.checkpoints" in capsys.readouterr().out, "it did not begin anew"
    found = cluster.check_model(f"{cluster.place.store}/{run}")
    assert found["samples_seen"] == LONG * CELLS // 16 * 16
    assert found["log"] == sorted(set(found["log"])), "no step is counted twice"


def test_an_image_that_is_not_there_is_named_within_the_limit(cluster: RealCluster, run: str) -> None:
    image = "registry.invalid/dino4cells:none"
    begun = time.monotonic()

    failed, name = failure_of(cluster, run, image=image, nodes=1)

    assert failed.failure.reason in IMAGE_REASONS
    assert image in str(failed)
    assert time.monotonic() - begun < cluster.limits().blocked + 180
    cluster.until("nothing is left", lambda: not cluster.remains(name), GONE_SECONDS)


def test_a_memory_limit_that_is_too_small_is_named(cluster: RealCluster, run: str) -> None:
    little = Resources(cpu="250m", cpu_limit="1", memory="128Mi", shared_memory="16Mi")  # torch alone takes more

    failed, name = failure_of(cluster, run, resources=little, nodes=1, tolerated_failures=0)

    assert failed.failure.reason == "OOMKilled"
    assert "OOMKilled" in str(failed)
    assert not [pod.name for pod in cluster.pods(name) if pod.holds_resources]
    cluster.kubectl("delete", "pytorchjob", name, "--ignore-not-found")


def test_a_job_that_is_deleted_leaves_nothing_and_its_launcher_says_so(cluster: RealCluster, run: str) -> None:
    with cluster.launched(cluster.job(run, epochs=LONG), run) as job:
        job.has_checkpoint()
        cluster.kubectl("delete", "pytorchjob", job.name)
        with pytest.raises(ClusterJobFailed, match="was deleted by someone else"):
            job.finish()

    cluster.until("nothing is left", lambda: not cluster.remains(job.name), GONE_SECONDS)


def test_a_launcher_that_is_asked_to_stop_leaves_nothing(cluster: RealCluster, run: str) -> None:
    job = cluster.job(run, epochs=LONG)
    name = job_name(job, run)
    launcher = multiprocessing.get_context("spawn").Process(target=cluster.launcher(run).run, args=[job])
    launcher.start()
    try:
        cluster.until("the job runs", lambda: cluster.log(f"{name}-master-0"), cluster.place.minutes * 60)
        launcher.terminate()
        launcher.join(60)
        assert launcher.exitcode not in (0, None)
        assert cluster.cluster.job(name) is None
    finally:
        launcher.kill()
        cluster.kubectl("delete", "pytorchjob", name, "--ignore-not-found")

    cluster.until("nothing is left", lambda: not cluster.remains(name), GONE_SECONDS)


def test_a_job_of_one_pod_runs_under_restricted_pod_security_and_one_of_two_runs_or_says_why_not(restricted: RealCluster, run: str) -> None:
    restricted.launcher(run).run(restricted.job(run, nodes=1))
    assert restricted.check_model(f"{restricted.place.store}/{run}")["processes"] == 1

    # The operator adds a container to workers that waits for the master; as it comes, it is one that this standard forbids.
    try:
        restricted.launcher(run, scheduling=180.0).run(restricted.job(f"{run}-two"))
    except JobFailed as failed:
        assert "PodSecurity" in str(failed)  # noqa: PT017


def test_a_job_trains_on_a_gpu(cluster: RealCluster, run: str) -> None:
    resource = cluster.place.gpu_resource
    if not resource:
        pytest.skip("NOT TESTED on GPUs of a cluster: E2E_GPU_RESOURCE names none, such as nvidia.com/gpu")
    place = Placement(tolerations=(Toleration(key=resource),), image_pull_secrets=cluster.place.pull_secrets)
    resources = Resources(cpu="1", memory="6Gi", shared_memory="2Gi", gpus=1, gpu_resource=resource)
    job = cluster.job(run, nodes=1, resources=resources, placement=place)
    job = dataclasses.replace(job, arguments=tuple("cuda" if word == "auto" else word for word in job.arguments))

    cluster.launcher(run).run(job)

    assert cluster.check_model(f"{cluster.place.store}/{run}")["samples_seen"] == SHORT * CELLS // 16 * 16


def test_the_pipeline_runs_on_kubeflow_pipelines(cluster: RealCluster) -> None:
    place = cluster.place
    if not place.pipelines:
        pytest.skip("NOT TESTED on Kubeflow Pipelines: E2E_KFP_ENDPOINT names none, such as http://localhost:8080")
    where = ["--endpoint", place.pipelines, *(["--namespace", place.pipelines_namespace] if place.pipelines_namespace else [])]
    words = [sys.executable, "-m", "dino4cells.cli", "pipeline", "submit", *where, "--no-caching", "--wait", *pipeline_parameters(place)]

    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=3 * 60 * place.minutes)

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "run: succeeded" in done.stdout


def nested(keys: dict[str, object]) -> dict[str, object]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`."""
    found: dict[str, object] = {}
    for key, value in keys.items():
        *sections, last = key.split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})  # type: ignore[assignment]
        place[last] = value
    return found
