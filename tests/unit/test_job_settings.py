"""Settings of a cluster's jobs from a file and options, and `dino4cells job render`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dino4cells.cluster.entry import job_arguments, job_parser
from dino4cells.cluster.job import Placement, Resources, SecretVariable, Toleration
from dino4cells.cluster.settings import JobSettings, read_settings
from dino4cells.errors import ConfigError

Command = Callable[..., Any]  # the fixture `dino4cells` of conftest
FILE = """
image: registry.example/dino4cells:0.1.0
nodes: 2
resources: {cpu: 8, memory: 64Gi, gpus: 1}
secrets:
- {variable: AWS_ACCESS_KEY_ID, secret: store, key: accesskey}
placement:
  tolerations: [{key: nvidia.com/gpu}]
  labels: {team: 7}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "job.yaml"
    path.write_text(FILE)
    return str(path)


def test_a_file_says_everything_about_the_cluster(file: str) -> None:
    assert read_settings([file]) == JobSettings(
        image="registry.example/dino4cells:0.1.0",
        nodes=2,
        resources=Resources(cpu="8", memory="64Gi", gpus=1),
        secrets=(SecretVariable("AWS_ACCESS_KEY_ID", "store", "accesskey"),),
        placement=Placement(tolerations=(Toleration("nvidia.com/gpu"),), labels={"team": "7"}),
    )


def test_options_stand_above_the_file_and_nothing_means_the_defaults(file: str) -> None:
    options = {"resources.gpus": "2", "placement.queue": "biology", "placement.gang": "true", "placement.tolerations": "[{key: spot}]"}
    settings = read_settings([file], options)

    assert (settings.resources.gpus, settings.resources.cpu) == (2, "8")
    assert (settings.placement.queue, settings.placement.gang) == ("biology", True)
    assert settings.placement.tolerations == (Toleration("spot"),)
    assert read_settings() == JobSettings()


def test_a_later_file_stands_above_an_earlier_one_key_by_key(file: str, tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("nodes: 4\nresources: {memory: 8Gi}\nplacement: {tolerations: []}\n")

    settings = read_settings([file, str(tmp_path / "more.yaml")])

    assert (settings.nodes, settings.resources) == (4, Resources(cpu="8", memory="8Gi", gpus=1))
    assert settings.placement == Placement(labels={"team": "7"})


@pytest.mark.parametrize(("gpus", "given", "processes"), [("0", None, 1), ("4", None, 4), ("0", "3", 3)])
def test_a_process_for_each_gpu_unless_said_otherwise(gpus: str, given: str | None, processes: int) -> None:
    settings = read_settings(overrides={"resources.gpus": gpus, **({"processes_per_node": given} if given else {})})

    assert settings.job("train", "module", ()).processes_per_node == processes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"nodez": "2"}, "option nodez: is no key here; did you mean nodes?"),
        ({"nodes": "two"}, "option nodes: must be a whole number, not 'two'"),
        ({"resources.gpuz": "1"}, "did you mean gpus?"),
        ({"nodes.x": "1"}, "nodes is no section"),
        ({"placement.tolerations": "[{a"}, "placement.tolerations: is no valid YAML"),
        ({"placement.tolerations": "[{kei: a}]"}, "placement.tolerations.0.kei: is no key here; did you mean key?"),
        ({"secrets": "[{variable: A}]"}, "secrets.0.secret: is missing"),
        ({"placement.gang": "perhaps"}, "option placement.gang: must be true or false"),
    ],
)
def test_a_wrong_key_or_value_is_one_sentence(file: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as raised:
        read_settings([file], options)

    assert words in str(raised.value)


def test_the_words_of_a_job_are_read_back_by_its_modules() -> None:
    given = {"output": "s3://b/out", "data": "s3://b/in", "config_text": "model: {epochs: 3}\n", "overwrite": True, "device": "cpu"}
    words = job_arguments(**given)  # type: ignore[arg-type]

    assert vars(job_parser("module", None).parse_args(words)) == {**given, "config": None}


def test_render_writes_what_kubectl_applies(dino4cells: Command, file: str, tmp_path: Path) -> None:
    place = ("--data", "s3://lab/cells", "--output", "s3://lab/model", "--namespace", "biology", "--name", "monday")
    done = dino4cells(
        *(
            "job",
            "render",
            "--settings",
            file,
            *place,
            "--preset",
            "small",
            "--override",
            "epochs=3",
            "--nodes",
            3,
            "--to",
            tmp_path / "j.yaml",
        )
    )

    assert done.code == 0, done.err
    manifest = yaml.safe_load((tmp_path / "j.yaml").read_text())
    assert (manifest["metadata"]["namespace"], manifest["metadata"]["name"]) == ("biology", "monday")
    assert manifest["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"] == 2
    words = manifest["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]["args"]
    arguments = job_parser("module", None).parse_args(words)
    assert (arguments.data, arguments.output) == ("s3://lab/cells", "s3://lab/model")
    assert yaml.safe_load(arguments.config_text)["model"]["epochs"] == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--data", "cells"), "--data: cells is a place of this machine"),
        (("--output", "file:///model"), "--output: file:///model is a place of this machine"),
        (("--step", "extract"), "--model: is not given"),
        (("--data", "s3://lab/cells"), "--output: is not given; say where the job writes"),
        (("--output", "s3://lab/model"), "--data: is not given; say where the cells are"),
        (("--name", "Monday"), "--name: 'Monday' is no name of a job"),
        (("--override", "epochs"), "--override epochs: is no key=value"),
        (("--config.config_map", "settings", "--preset", "small"), "config: the job reads config.yaml of the config map settings"),
        (("--nodes",), "--nodes: has no value"),
        (("nodes",), "nodes: this word belongs to no option"),
    ],
)
def test_render_refuses_what_cannot_run(dino4cells: Command, words: tuple[str, ...], sentence: str) -> None:
    done = dino4cells("job", "render", "--image", "registry/dino4cells:1", *words)

    assert done.code == 2
    assert sentence in done.err


def test_a_configuration_of_the_cluster_is_read_in_the_pod(dino4cells: Command) -> None:
    done = dino4cells("job", "render", "--image", "registry/dino4cells:1", "--config.config_map", "settings")

    spec = yaml.safe_load(done.out)["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
    assert spec["containers"][0]["args"][:2] == ["--config", "/etc/dino4cells/config.yaml"]
    assert {"name": "config", "configMap": {"name": "settings", "items": [{"key": "config.yaml", "path": "config.yaml"}]}} in spec[
        "volumes"
    ]
