"""The steps of the compiled pipeline with `launcher=pytorchjob`, against an API server and an S3 server over HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from cluster_of_pipeline import PLACE, POD, RUN, Cluster, living, path_of, uploaded, with_store
from kubernetes_server import NAMESPACE

from dino4cells import storage
from dino4cells.artifacts import open_artifact
from dino4cells.cluster.api import ClusterError
from dino4cells.cluster.job import Toleration
from dino4cells.cluster.launchers import JobParameters, Launch, launch_of, open_store
from dino4cells.data.simulate import simulate
from dino4cells.errors import ConfigError
from dino4cells.events import event_of
from dino4cells.training.tensorboard import EVENTS

CELLS = 56
CONFIG = """\
preset: small
model:
  patch_size: 8
  image_size: 16
  epochs: 2
  batch_size: 14
  out_dim: 32
  head_hidden_dim: 32
global_transfo1:
  RandomResizedCrop: [True, {size: 16, scale: [0.4, 1]}]
global_transfo2:
  RandomResizedCrop: [True, {size: 16, scale: [0.4, 1]}]
local_transfo:
  RandomResizedCrop: [True, {size: 8, scale: [0.1, 0.4]}]
local_crops_number: 1
"""


# A run that succeeds


@dataclass(frozen=True)
class Finished:
    cluster: Cluster
    train: tuple[int, str]
    extract: tuple[int, str]
    jobs: list[dict[str, Any]]


@pytest.fixture(scope="module")
def finished(s3: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """Training and extraction, each by a job of two pods, on cells in the object store."""
    root, url = tmp_path_factory.mktemp("cluster"), s3()
    simulate(str(root / "cells"), cells=CELLS, size=32, plates=2)
    data = uploaded(root / "cells", f"{url}/cells")
    with living(root, url.removeprefix("s3://")) as cluster:
        with_store(cluster)
        job = {"data": data, "launcher": "pytorchjob", "nodes": 2, "settings": "resources: {cpu: '1'}", "data_version": "v1"}
        trained = cluster.run("train", config=CONFIG, epochs=1, **job)
        model = cluster.local("train", "model")
        if trained[0] == 0:
            for name in storage.list_files(f"{url}/{PLACE}/train/uuid-train/model"):  # as the launcher of Kubeflow Pipelines does
                storage.download(f"{url}/{PLACE}/train/uuid-train/model/{name}", model.parent / "downloaded" / name)
            (model.parent / "downloaded").rename(model)
        extracted = cluster.run("extract", inputs={"model": cluster.uri("train", "model")}, **job)
        yield Finished(cluster, trained, extracted, cluster.started)


def test_both_steps_succeed(finished: Finished) -> None:
    assert finished.train[0] == 0, finished.train[1]
    assert finished.extract[0] == 0, finished.extract[1]


def test_the_model_is_whole_at_its_planned_place(finished: Finished) -> None:
    model = open_artifact(f"s3://{finished.cluster.bucket}/{PLACE}/train/uuid-train/model", "model")
    model.verify()
    assert model.names == ["README.md", "checkpoint.pth", "config.yaml", "log.jsonl", "model.json", "model.safetensors", EVENTS]
    assert json.loads(model.read_bytes("model.json"))["training"]["processes"] == 2


def test_one_dataset_comes_out_of_two_shards(finished: Finished) -> None:
    features = open_artifact(f"s3://{finished.cluster.bucket}/{PLACE}/extract/uuid-extract/features", "features")
    features.verify()
    parts = [name for name in features.names if name.startswith("part-")]
    assert parts == ["part-00000.parquet", "part-00001.parquet"]
    files = pd.concat([pd.read_parquet(features.local(part)) for part in parts])["Metadata_file"].tolist()
    assert files == pd.read_csv(finished.cluster.root / "cells" / "metadata.csv")["file"].tolist()


def test_the_step_uploads_nothing_itself(finished: Finished) -> None:
    assert not finished.cluster.local("extract", "features").exists()


@pytest.mark.parametrize(("step", "metric"), [("train", "loss at end"), ("extract", "cells")])
def test_kubeflow_is_given_metrics_a_page_and_what_the_artifact_is(finished: Finished, step: str, metric: str) -> None:
    outputs = json.loads((finished.cluster.root / f"{step}.json").read_text())["artifacts"]
    assert outputs["metrics"]["artifacts"][0]["metadata"][metric] > 0
    artifact = outputs[{"train": "model", "extract": "features"}[step]]["artifacts"][0]
    assert artifact["uri"] == finished.cluster.uri(step, {"train": "model", "extract": "features"}[step])
    assert artifact["metadata"]
    page = finished.cluster.local(step, "report").read_text()
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert not re.search(r"(src|href)=.https?://", re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL))


def test_the_log_is_the_jobs_and_names_sources_and_never_values(finished: Finished) -> None:
    _, log = finished.train
    assert "from: config map kfp-launcher, providers.minio.default" in log
    assert "credentials: secret objects, key id" in log
    assert "secret dino4cells-store is not in namespace lab" in log
    last = [event for event in map(event_of, log.splitlines()) if event and event.get("step") == "train"][-1]
    assert last["done"] == last["total"]
    for text in (log, finished.extract[1], json.dumps(finished.jobs)):
        assert "never-shown" not in text
        assert "of-the-lab" not in text


def test_jobs_are_named_after_the_run_and_owned_by_the_step(finished: Finished) -> None:
    names = [job["metadata"]["name"] for job in finished.jobs]
    assert [re.sub(r"[0-9a-f]{10}$", "", name) for name in names] == ["train-run-1-", "extract-run-1-"]
    for job in finished.jobs:
        (owner,) = job["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", POD, "uid-of-the-step")


def test_nothing_that_consumers_would_be_given_lies_beside_the_model(finished: Finished) -> None:
    step = f"s3://{finished.cluster.bucket}/{PLACE}/train/uuid-train"
    assert [name for name in storage.list_files(step) if name.startswith("model") and not name.startswith("model/")] == []
    assert "--checkpoints" in finished.jobs[0]["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]["args"]


@pytest.mark.parametrize(("number", "step", "name"), [(0, "train", "model"), (1, "extract", "features")])
def test_the_job_looks_for_its_launcher_beside_the_checkpoints_and_nothing_stays_there(
    finished: Finished, number: int, step: str, name: str
) -> None:
    place = f"s3://{finished.cluster.bucket}/{PLACE}/{step}/uuid-{step}/checkpoints-of-{name}"
    (container,) = finished.jobs[number]["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    assert {"name": "DINO4CELLS_LAUNCHER_SIGN", "value": f"{place}/launcher"} in container["env"]
    assert storage.list_files(place) == []


def test_a_step_that_is_tried_again_finds_its_finished_model(finished: Finished) -> None:
    before = len(finished.cluster.started)
    data = f"s3://{finished.cluster.bucket}/cells"
    code, log = finished.cluster.run("train", config=CONFIG, epochs=1, data=data, launcher="pytorchjob", nodes=2)
    assert code == 0, log
    assert len(finished.cluster.started) == before


# Failures


def test_a_failure_in_a_pod_is_the_steps_own(s3: Callable[[], str], tmp_path: Path) -> None:
    simulate(str(tmp_path / "cells"), cells=28, size=32, plates=2)
    for image in (tmp_path / "cells" / "images").iterdir():
        image.write_bytes(b"no image")
    url = s3()
    data = uploaded(tmp_path / "cells", f"{url}/cells")
    with living(tmp_path, url.removeprefix("s3://")) as cluster:
        with_store(cluster)
        code, log = cluster.run("train", config=CONFIG, data=data, launcher="pytorchjob")
        assert code != 0
        said = [event for event in map(event_of, log.splitlines()) if event and event["event"] == "error"][-1]
        assert "none of the first 20 images can be read" in said["message"]
        assert storage.list_files(f"{url}/{PLACE}/train/uuid-train/model") == []


@pytest.fixture
def step(s3: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """This process as the step."""
    pod = {"POD": POD, "POD_UID": "uid-of-the-step", "NAMESPACE": NAMESPACE, "RUN": RUN}
    for name, value in pod.items():
        monkeypatch.setenv(f"DINO4CELLS_{name}", value)
    # The package has read KUBECONFIG when it was imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    with living(tmp_path, s3().removeprefix("s3://")) as cluster:
        with_store(cluster)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
        yield cluster


def launched(cluster: Cluster, launcher: str = "pytorchjob", **parameters: Any) -> Launch:
    given = JobParameters(**{"image": "lab/dino4cells:1", "secret": "dino4cells-store", **parameters})
    return launch_of(launcher, cluster.uri("train", "model"), str(cluster.local("train", "model")), given)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"settings": "nodes: 3"}, "settings: nodes is a parameter of its own"),
        ({"settings": "memory: 3"}, "settings: memory: is no key here"),
        ({"settings": "resources: [1"}, "settings: is no valid YAML"),
        ({"endpoint": "store:9000"}, "parameter endpoint: 'store:9000' is no address"),
        ({"tolerations": [{"name": "gpu"}]}, "tolerations: name is no key here"),
        ({"nodes": 2, "launcher": "local"}, "nodes: 2 need the launcher 'pytorchjob'"),
        ({"launcher": "kubernetes"}, "launcher: 'kubernetes' is not known"),
        ({"processes": 0}, "processes: must be at least 1"),
    ],
)
def test_what_can_be_known_before_is_one_sentence(step: Cluster, parameters: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(reason)}.*[.]$"):
        launched(step, **parameters)


def test_data_of_the_steps_pod_is_refused(step: Cluster) -> None:
    with pytest.raises(ConfigError, match="data: /cells is a place of this pod"):
        launched(step).data("/cells")


def test_simulated_cells_are_put_where_the_pods_of_a_job_see_them(step: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(str(tmp_path / "drawn"), cells=7, size=32, plates=1)
    monkeypatch.setattr("dino4cells.data.embedded.simulated_directory", lambda: tmp_path / "drawn")
    place = launched(step).data(str(tmp_path / "drawn"))
    assert place == f"s3://{step.bucket}/{PLACE}/train/uuid-train/simulated-cells"
    assert storage.list_files(place) == storage.list_files(str(tmp_path / "drawn"))


def test_a_secret_that_is_not_there_is_named(step: Cluster) -> None:
    del step.server.objects[path_of("configmaps", "kfp-launcher")]
    with pytest.raises(ConfigError, match=r"^secret mlpipeline-minio-artifact: is not in namespace lab; create it there"):
        launched(step)


def test_a_secret_that_the_step_may_not_read_is_named_with_the_right_that_is_missing(step: Cluster) -> None:
    step.server.forbidden.add(("get", "secrets"))
    with pytest.raises(ClusterError, match=r"this account may not get secrets .*give its role that verb"):
        launched(step)


def test_a_secret_in_the_steps_environment_is_not_read_again(step: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"AWS_ACCESS_KEY_ID": "accesskey", "AWS_SECRET_ACCESS_KEY": "secretkey"}
    for variable in variables:
        monkeypatch.setenv(variable, "from-the-environment")
    references = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": "dino4cells-store", "key": key, "optional": True}}}
        for name, key in variables.items()
    ]
    step.server.pods[POD]["spec"]["containers"] = [{"name": "main", "env": references}]
    step.server.forbidden.add(("get", "secrets"))
    processes = launched(step).processes
    assert processes is not None
    template = processes.launcher.settings.template  # type: ignore[attr-defined]
    assert {(item.variable, item.secret, item.key) for item in template.secrets} == {
        (name, "dino4cells-store", key) for name, key in variables.items()
    }
    assert os.environ["AWS_ACCESS_KEY_ID"] == "from-the-environment"


@pytest.mark.parametrize("how", ["by itself", "launcher=local"])
def test_a_step_that_starts_no_job_reaches_the_store_as_well(how: str, step: Cluster) -> None:
    storage_of_the_run = f"s3://{step.bucket}/{PLACE}"
    if how == "by itself":  # as classify does
        open_store(step.uri("extract", "features"), "")
    else:
        launched(step, "local")
    assert os.environ["AWS_ACCESS_KEY_ID"] == "of-the-lab"
    storage.write_text(f"{storage_of_the_run}/cells/metadata.csv", "file\na.png\n")
    assert storage.list_files(f"{storage_of_the_run}/cells") == ["metadata.csv"]


def test_a_step_that_may_not_look_for_the_store_says_so_and_goes_on(step: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    step.server.forbidden.add(("get", "secrets"))
    open_store(step.uri("extract", "features"), "")
    assert "AWS_ACCESS_KEY_ID" not in os.environ
    assert (
        "object store: is not found as Kubeflow Pipelines finds it (namespace lab: this account may not get secrets"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"])
def test_a_step_whose_environment_opens_a_store_asks_nobody(variable: str, step: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "given")
    open_store(step.uri("extract", "features"), "")
    assert step.server.requests == []


def test_parameters_and_settings_make_one_job(step: Cluster) -> None:
    launch = launched(
        step, nodes=3, gpus=2, queue="biology", pull_secret="pull", node_selector={"pool": "gpu"},
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}], settings="resources: {memory: 64Gi}\nplacement: {gang: true}",
    )  # fmt: skip
    assert launch.processes is not None
    assert (launch.processes.nodes, launch.processes.per_node) == (3, 2)
    job = launch.processes.launcher.settings.template  # type: ignore[attr-defined]
    assert (job.image, job.resources.gpus, job.resources.memory) == ("lab/dino4cells:1", 2, "64Gi")
    assert (job.placement.queue, job.placement.gang, job.placement.image_pull_secrets) == ("biology", True, ("pull",))
    assert job.placement.tolerations == (Toleration("nvidia.com/gpu"),)
    assert job.placement.node_selector == {"pool": "gpu"}


def test_a_step_that_is_stopped_deletes_its_job(s3: Callable[[], str], tmp_path: Path) -> None:
    url = s3()
    simulate(str(tmp_path / "cells"), cells=28, size=32, plates=2)
    data = uploaded(tmp_path / "cells", f"{url}/cells")
    with living(tmp_path, url.removeprefix("s3://"), runs_pods=False) as cluster:
        process = with_store(cluster).start("train", config=CONFIG, data=data, launcher="pytorchjob")
        end = time.monotonic() + 60
        while not cluster.started and process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        assert cluster.started, out
        assert process.returncode not in (0, -signal.SIGTERM)
        assert "was stopped by SIGTERM and deleted" in out
        assert cluster.server.jobs == {}
