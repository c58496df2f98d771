"""docs/kubernetes.md: its commands run as they stand there, and its figures are those of the code."""

from __future__ import annotations

import copy
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from healthy_cluster import CORE, HEALTHY, encoded, write_kubeconfig
from kubernetes_server import KubernetesServer, Time, kubernetes_server
from pipelines_server import PipelinesServer, pipelines_server

from dino4cells.cluster.doctor.cluster import OPERATOR_VERSION
from dino4cells.cluster.failures import duration
from dino4cells.cluster.settings import JobSettings, read_settings
from dino4cells.cluster.states import Limits, State

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
LINES = [line.split(" #")[0].strip() for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("dino4cells ")]
JOB_YAML = re.findall(r"```yaml\n# job.yaml\n(.*?)```", PAGE, flags=re.DOTALL)[0]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("page")
    (place / "job.yaml").write_text(JOB_YAML)
    return place


@pytest.fixture(scope="module")
def cluster() -> Iterator[KubernetesServer]:
    """One cluster for all commands, since each goes on from the one before."""
    with kubernetes_server(Time()) as server:
        server.objects = copy.deepcopy(HEALTHY)
        server.objects["/api/v1/nodes/gpu-2"] = copy.deepcopy(HEALTHY["/api/v1/nodes/gpu-1"])
        yield server


@pytest.fixture(scope="module")
def pipelines() -> Iterator[PipelinesServer]:
    with pipelines_server() as server:
        server.states = [{"state": "SUCCEEDED"}]
        yield server


@pytest.fixture(scope="module")
def store(s3: Callable[[], str]) -> str:
    """The bucket of the page; the address of its store."""
    s3()
    boto3.client("s3").create_bucket(Bucket="lab")
    boto3.client("s3").put_object(Bucket="lab", Key="cells/metadata.csv", Body=b"file\na.png\n")
    return os.environ["AWS_ENDPOINT_URL"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_work(
    command: str,
    cluster: KubernetesServer,
    pipelines: PipelinesServer,
    store: str,
    directory: Path,
    dino4cells: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(directory)
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(directory / "context.json"))
    write_kubeconfig(directory, monkeypatch, cluster.url, cluster.token)
    cluster.objects[f"{CORE}/secrets/dino4cells-store"] = {"data": encoded(endpoint=store, accesskey="testing", secretkey="testing")}
    if " logs " in command:  # it has run meanwhile
        cluster.create_pods()
        cluster.all_run()
        cluster.writes("epoch 1")
        cluster.condition("Succeeded", replaces="Running")
    done = dino4cells(*shlex.split(command.replace("http://localhost:8080", pipelines.url))[1:])
    assert (done.code, done.err) == (0, "first: succeeded\n" if " logs " in command else ""), done.out
    if " logs " in command:
        assert done.out == "epoch 1\n"


def test_all_new_commands_are_shown() -> None:
    shown = {" ".join(command.split()[1:3]) for command in COMMANDS}
    assert {"job render", "job submit", "job status", "job logs", "job delete", "pipeline compile", "pipeline submit"} <= shown


def test_the_settings_of_the_page_are_read_and_every_key_is_explained(directory: Path) -> None:
    settings = read_settings([str(directory / "job.yaml")])
    assert settings.nodes == 2
    table = PAGE[PAGE.index("| key | meaning |") : PAGE.index("CPU-only training")]
    shown = set(re.findall(r"`(\w+)`", table)) | set(yaml.safe_load(JOB_YAML))
    assert set(JobSettings.__dataclass_fields__) <= shown
    assert {*settings.placement.__dataclass_fields__} <= shown


def test_the_limits_are_those_of_the_launcher() -> None:
    limits = Limits()
    rows = dict(re.findall(r"^\| (\w+) \| [^|]+ \| (\d+ \w+) \|$", PAGE, flags=re.MULTILINE))
    assert rows == {state.value: duration(limits.of(state)) for state in State if state not in (State.SUCCEEDED, State.FAILED)}
    assert f"after {duration(limits.stalled)} without a line" in PAGE
    assert f"after {duration(limits.blocked)} with an image" in PAGE
    assert f"up to {duration(limits.unreachable)} for an API" in PAGE


def test_the_operators_release_is_the_one_that_doctor_names() -> None:
    assert f"ref=v{OPERATOR_VERSION}" in PAGE


def test_files_make_targets_and_places_that_the_page_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:^|`)make ([a-z-]+)", PAGE, flags=re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for path in set(re.findall(r"(?:manifests|pipelines|docker)/[\w./-]+\w", PAGE)) - {"manifests/overlays/standalone"}:
        assert (ROOT / path).exists(), path
    headings = {re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", PAGE, flags=re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= headings


@pytest.mark.parametrize("command", [line for line in LINES if line.startswith("kubectl apply -k manifests")])
def test_the_overlays_of_the_page_are_there(command: str) -> None:
    assert (ROOT / command.split()[3] / "kustomization.yaml").is_file()
