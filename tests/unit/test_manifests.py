"""manifests/: what `kubectl kustomize` makes of them is what the renderer says, and all of it is what Kubernetes takes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dino4cells.cluster.pytorchjob import render
from dino4cells.cluster.settings import read_settings
from dino4cells.cluster.work import job_of
from dino4cells.config import load_config

MANIFESTS = Path(__file__).parents[2] / "manifests"
BASE = MANIFESTS / "base"
KUBERNETES = "1.33"
PLACES = {"base": BASE, "cpu": MANIFESTS / "overlays" / "cpu", "gpu": MANIFESTS / "overlays" / "gpu"}
kustomize = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed: what kustomize makes was NOT tested")


def rendered(place: Path) -> dict[str, Any]:
    sources = [str(path) for path in dict.fromkeys((BASE / "settings.yaml", place / "settings.yaml"))]
    job = job_of("train", read_settings(sources), "", "", [], data="", model="", output="")
    return render(job, name="dino4cells-train")


def built(place: Path) -> dict[str, dict[str, Any]]:
    done = subprocess.run(["kubectl", "kustomize", str(place)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_the_written_jobs_are_what_the_renderer_says_now(place: Path) -> None:
    assert yaml.safe_load((place / "pytorchjob.yaml").read_text()) == rendered(place), "run: make manifests"


@kustomize
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_kustomize_changes_nothing_about_the_rendered_job(place: Path) -> None:
    assert built(place)["PyTorchJob"] == rendered(place)


@kustomize
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_every_object_is_one_that_kubernetes_takes(place: Path) -> None:
    objects = built(place)

    assert set(objects) == {"ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "ConfigMap", "PyTorchJob"}
    for kind, document in objects.items():
        assert document["metadata"]["labels"]["app.kubernetes.io/name"] == "dino4cells", (
            "so that all of it is found, and deleted, by one label"
        )
        if kind != "PyTorchJob":
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


@kustomize
def test_the_job_reads_the_configuration_of_the_config_map() -> None:
    objects = built(BASE)
    pod = objects["PyTorchJob"]["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
    (volume,) = [volume["configMap"] for volume in pod["volumes"] if "configMap" in volume]

    assert volume["name"] == objects["ConfigMap"]["metadata"]["name"]
    assert {item["key"] for item in volume["items"]} <= set(objects["ConfigMap"]["data"])


def test_the_configuration_says_where_data_and_model_are() -> None:
    config = load_config(str(BASE / "config.yaml"))

    assert config.warnings == []
    assert (config.model.data_path or "").startswith("s3://")
    assert (config.model.output_dir or "").startswith("s3://")


@kustomize
def test_another_image_reaches_every_pod(tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    overlay = tmp_path / "manifests" / "overlays" / "gpu"
    file = overlay / "kustomization.yaml"
    file.write_text(file.read_text().replace("newName: dino4cells-python", "newName: registry.example/lab/dino4cells"))

    replicas = built(overlay)["PyTorchJob"]["spec"]["pytorchReplicaSpecs"]
    images = {item["template"]["spec"]["containers"][0]["image"] for item in replicas.values()}
    assert images == {"registry.example/lab/dino4cells:0.1.0"}
