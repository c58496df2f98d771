"""What can be known of these tests where there is no cluster: the objects that they send, and how they wait and look."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import runpy
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_server import KubernetesServer, Time, kubernetes_server
from real_cluster import HERE, SHORT, STORE, Place, RealCluster, documents, overlay, pipeline_parameters, task

from dino4cells import steps
from dino4cells.cluster.api import Api
from dino4cells.cluster.client import Cluster
from dino4cells.cluster.failures import ClusterJobFailed
from dino4cells.cluster.names import job_name
from dino4cells.cluster.pytorchjob import render
from dino4cells.components.image import IMAGE
from dino4cells.config import Config
from dino4cells.errors import ArtifactError
from dino4cells.pipelines.pipeline import COMPILED

KUBERNETES = "1.33"
ROOT = HERE.parents[1]
PLACE = Place(namespace="lab", image="registry.example:5000/lab/dino4cells:0.1.0", pull_secrets=("registry",), minutes=1)
kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed: what kustomize makes was NOT tested")


@pytest.fixture
def server() -> Iterator[KubernetesServer]:
    with kubernetes_server(Time()) as running:
        yield running


@pytest.fixture
def here(server: KubernetesServer) -> RealCluster:
    clock, sleep = server.time.clock, server.time.sleep
    return RealCluster(PLACE, Cluster(Api("lab", server.connect, 60.0, clock, sleep)), clock, sleep)


@pytest.mark.parametrize("file", ["store.yaml", "cells.yaml"])
@pytest.mark.parametrize("place", [Place(), PLACE], ids=["default", "given"])
def test_what_is_applied_is_what_kubernetes_takes(file: str, place: Place) -> None:
    for document in documents(file, place):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("file", ["store.yaml", "cells.yaml"])
def test_its_pods_may_run_under_restricted_pod_security(file: str) -> None:
    pods = [document["spec"]["template"]["spec"] for document in documents(file, PLACE) if "template" in document.get("spec", {})]

    assert pods
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_environment_says_where_and_what() -> None:
    given = {
        "E2E_NAMESPACE": "lab",
        "E2E_IMAGE": "",
        "E2E_PULL_SECRETS": "one,two",
        "E2E_STORE": "s3://bucket/of/mine/",
        "E2E_MINUTES": "5",
    }

    place = Place.of(given)

    assert place == Place("lab", IMAGE, ("one", "two"), "s3://bucket/of/mine", brings_store=False, minutes=5)
    assert Place.of({}) == Place()


def test_the_page_describes_every_variable() -> None:
    asked: list[str] = []

    class Environment(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            asked.append(name)
            return default

    Place.of(Environment())

    page = (ROOT / "docs" / "kind.md").read_text()
    assert set(re.findall(r"`(E2E_\w+)`", page)) == set(asked)


def test_the_cells_lie_where_the_manifests_look_and_are_drawn_by_the_image_that_is_built() -> None:
    drawing = yaml.safe_load((HERE / "cells.yaml").read_text())["spec"]["template"]["spec"]["containers"][0]
    config = yaml.safe_load((ROOT / "manifests" / "base" / "config.yaml").read_text())

    assert drawing["image"] == IMAGE
    assert {"name": "STORE", "value": STORE} in drawing["env"]
    assert config["model"]["data_path"] == f"{STORE}/cells/metadata.csv"
    assert config["model"]["output_dir"].startswith(f"{STORE}/")


def test_a_task_runs_in_the_image_of_the_place_with_its_store() -> None:
    place = dataclasses.replace(PLACE, store="s3://bucket/of/mine", brings_store=False)

    pod = task("dino4cells-check", "true", place)["spec"]["template"]["spec"]

    (container,) = pod["containers"]
    assert container["image"] == place.image
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert {"name": "STORE", "value": "s3://bucket/of/mine"} in container["env"]


@pytest.mark.parametrize("data", ["", "s3://mlpipeline/cells"], ids=["simulated", "given"])
def test_the_run_of_the_pipeline_has_parameters_that_it_declares(data: str) -> None:
    declared = next(yaml.safe_load_all(COMPILED.read_text()))["root"]["inputDefinitions"]["parameters"]

    given = dict(word.partition("=")[::2] for word in pipeline_parameters(dataclasses.replace(PLACE, pipelines_data=data)))

    assert set(given) <= set(declared)
    assert given["image"] == PLACE.image
    assert given.get("nodes") == ("2" if data else None)


def test_the_store_has_the_image_that_is_given_for_it() -> None:
    def image(place: Place) -> str:
        found = next(item for item in documents("store.yaml", place) if item["kind"] == "Deployment")
        return str(found["spec"]["template"]["spec"]["containers"][0]["image"])

    assert image(Place()).startswith("motoserver/moto:")
    assert image(Place(store_image="registry.example/store:1")) == "registry.example/store:1"


@kubectl
@pytest.mark.parametrize(
    "image",
    ["registry.example:5000/lab/dino4cells:0.1.0", "dino4cells-python:0.1.0", f"lab/dino4cells@sha256:{'a' * 64}", "lab/dino4cells"],
)
def test_the_overlay_puts_image_pull_secrets_and_configuration_into_the_manifests(image: str, tmp_path: Path) -> None:
    made = overlay(tmp_path, dataclasses.replace(PLACE, image=image), {"preset": "small", "model": {"epochs": 3}})

    done = subprocess.run(["kubectl", "kustomize", str(made)], capture_output=True, text=True, check=True, timeout=60)
    objects: dict[str, Any] = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}

    replicas = objects["PyTorchJob"]["spec"]["pytorchReplicaSpecs"]
    assert set(replicas) == {"Master", "Worker"}
    for replica in replicas.values():
        pod = replica["template"]["spec"]
        assert pod["containers"][0]["image"] in (image, f"{image}:latest")
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        assert pod["containers"][0]["resources"]["limits"]["memory"] == "4Gi", "as in the overlay cpu"
    assert yaml.safe_load(objects["ConfigMap"]["data"]["config.yaml"])["model"] == {"epochs": 3}
    assert objects["ConfigMap"]["metadata"]["name"] == "dino4cells-config"


def test_a_job_is_that_of_the_overlay_cpu_with_the_image_and_the_store_of_the_place(here: RealCluster) -> None:
    job = here.job("somewhere")
    pod = render(job)["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]

    assert job.nodes == 2
    assert pod["containers"][0]["image"] == PLACE.image
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    words = list(job.arguments)
    assert words[words.index("--output") + 1] == f"{STORE}/somewhere"
    assert yaml.safe_load(words[words.index("--config-text") + 1])["model"]["epochs"] == SHORT


def test_what_waits_sees_the_end_of_a_job_and_gives_up_in_time(here: RealCluster, server: KubernetesServer) -> None:
    job = here.job("somewhere")
    name = job_name(job)
    assert here.end_of(name) == ""
    here.cluster.create_job(render(job, "lab"))
    server.create_pods()
    server.all_run()
    server.writes("train 1", "train 2")
    server.time.at(30, lambda: server.condition("Succeeded", replaces="Running"))

    assert here.log(f"{name}-master-0") == ["train 1", "train 2"]
    assert here.log(f"{name}-master-1") == []
    assert {pod.role for pod in here.pods(name)} == {"master", "worker"}
    assert here.until("the job has ended", lambda: here.end_of(name), 60) == "Succeeded"
    with pytest.raises(AssertionError, match=r"the moon is blue: not within 60 seconds"):
        here.until("the moon is blue", lambda: False, 60)


class Hurried(RealCluster):
    """Time passes fifty times as fast, and there is no kubectl."""

    @classmethod
    def of(cls, server: KubernetesServer) -> Hurried:
        def clock() -> float:
            return 50 * time.monotonic()

        def sleep(seconds: float) -> None:
            time.sleep(seconds / 50)

        return cls(PLACE, Cluster(Api("lab", server.connect, 60.0, clock, sleep)), clock, sleep)

    def kubectl(self, *words: str, given: str | None = None) -> str:
        assert words[:2] == ("delete", "pytorchjob")
        item = self.cluster.job(words[2])
        if item:
            self.cluster.delete_job(words[2], item["metadata"]["uid"])
        return ""


def test_a_job_that_a_launcher_follows_beside_the_test_is_waited_for_and_gone_afterwards(server: KubernetesServer) -> None:
    here = Hurried.of(server)
    job = here.job("somewhere")

    with here.launched(job, "run-1") as running:
        here.until("it was sent", lambda: server.jobs, 60)
        server.create_pods()
        server.all_run()
        server.writes(*(f"train {number}" for number in range(4)))
        running.has_checkpoint()
        assert here.log(running.master)[-1] == "train 3"
        assert here.cluster.pod(running.worker)

    assert server.deleted == [running.name]
    with pytest.raises(ClusterJobFailed, match="was deleted by someone else"):
        running.finish()


def test_a_job_that_ends_before_anything_is_done_to_it_says_so(server: KubernetesServer) -> None:
    here = Hurried.of(server)
    server.refuses = "no"

    with here.launched(here.job("somewhere"), "run-1") as running, pytest.raises(AssertionError, match="denied the request: no"):
        running.has_checkpoint()


def test_another_process_can_run_a_launcher() -> None:
    launcher = RealCluster(PLACE, Cluster(Api("lab"))).launcher("run-1", submitted=5)

    assert pickle.loads(pickle.dumps(launcher.run)).__self__.settings == launcher.settings


def test_a_model_is_checked_as_it_was_written(
    tmp_path: Path, cells: str, tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model"
    steps.train(tiny_config(epochs=1), data=cells, output=str(output), device="cpu")
    monkeypatch.setattr("sys.argv", ["check_model.py", str(output)])
    capsys.readouterr()

    runpy.run_path(str(HERE / "check_model.py"))

    found = json.loads(capsys.readouterr().out)
    assert (found["processes"], found["images"], found["samples_seen"], found["log"][-1]) == (1, 24, 24, 24)
    weights = output / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(ArtifactError, match="not the one that was written"):
        runpy.run_path(str(HERE / "check_model.py"))


SCRIPTS = [
    (HERE / "kind.sh", "kind: not installed here: docker kind kubectl; "),
    (ROOT / "docker" / "debian-base.sh", "debian-base: "),
]


@pytest.mark.parametrize(("script", "sentence"), SCRIPTS, ids=["kind", "debian-base"])
def test_the_scripts_are_valid_and_say_what_is_missing(script: Path, sentence: str, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash
    subprocess.run([bash, "-n", str(script)], check=True, timeout=60)
    for program in ("dirname", "sed", "id"):
        found = shutil.which(program)
        assert found
        (tmp_path / program).symlink_to(found)

    words, environment = [bash, str(script), "check"], {"PATH": str(tmp_path)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, timeout=60)

    assert done.returncode == 1
    assert done.stderr.startswith(sentence)
