"""The pipeline: the compiled form, and a whole run on this machine by the Kubeflow Pipelines SDK, as `dino4cells run` starts it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from dino4cells.artifacts import open_artifact
from dino4cells.data.simulate import simulate
from dino4cells.events import event_of
from dino4cells.training.tensorboard import EVENTS

CELLS, PLATES = 84, 6
SETTINGS = """\
preset: small
model:
  patch_size: 8
  image_size: 32
  epochs: 1
  batch_size: 28
  out_dim: 64
  head_hidden_dim: 64
global_transfo1:
  RandomResizedCrop: [True, {size: 32, scale: [0.4, 1]}]
global_transfo2:
  RandomResizedCrop: [True, {size: 32, scale: [0.4, 1]}]
local_transfo:
  RandomResizedCrop: [True, {size: 16}]
local_crops_number: 2
"""


def run(place: Path, *words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dino4cells.cli", "run", "--output", "runs", "--config", "config.yaml", *words]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=500, env={**os.environ, **(environment or {})})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with simulated `cells` and a `config.yaml`."""
    place = tmp_path_factory.mktemp("pipeline")
    simulate(str(place / "cells"), cells=CELLS, size=32, plates=PLATES)
    (place / "config.yaml").write_text(SETTINGS)
    return place


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str
    paths: dict[str, Path]


@pytest.fixture(scope="module")
def finished(place: Path) -> Run:
    """One run that succeeds: two training processes, classes of plates that never straddle, a blank in a value."""
    done = run(place, "--data", "cells", "--group", "plate", "--processes", "2", "--local_crops_scale", "0.2 0.5", "--folds", "3")
    named = re.findall(r"^(report|model|features|classification): +(/.+)$", done.stdout, flags=re.MULTILINE)
    return Run(done.returncode, done.stdout, done.stderr, {name: Path(path) for name, path in named})


def test_a_run_succeeds(finished: Run) -> None:
    assert finished.code == 0, finished.out + finished.err


def test_a_run_ends_with_a_table_of_what_came_out(finished: Run) -> None:
    table = finished.out
    assert re.search(rf"^cells +{CELLS} *$", table, flags=re.MULTILINE)
    assert re.search(r"^channels +4: microtubules, protein, nucleus, ER *$", table, flags=re.MULTILINE)
    assert re.search(r"^classes +7 \(protein_location\): Cytosol, Mitochondria, Nuclear membrane, ", table, flags=re.MULTILINE)
    assert re.search(r"^loss +\d+\.\d{3} → \d+\.\d{3} over 1\.0 epochs", table, flags=re.MULTILINE)
    assert re.search(r"^training +.* images/s, .* 2 processes", table, flags=re.MULTILINE)
    assert re.search(r"^split +3-fold, stratified by class, groups = plate never straddle", table, flags=re.MULTILINE)
    for features in ("trained network", "same network, untrained", "intensity statistics"):
        assert len(re.findall(rf"│ {features} +│ (?:10-NN|linear probe) +│(?: +[01]\.\d{{3}} │){{3}}", table)) == 2, features
    assert re.search(r"^took: +\d+ min \d+ s$", table, flags=re.MULTILINE)


def test_all_paths_of_the_table_are_there(finished: Run, place: Path) -> None:
    assert set(finished.paths) == {"report", "model", "features", "classification"}
    for path in finished.paths.values():
        assert path.is_relative_to(place / "runs")
        assert path.exists()


@pytest.mark.parametrize("step", ["train", "extract", "classify"])
def test_every_step_shows_images_per_second_and_the_time_left(finished: Run, step: str) -> None:
    events = [event for event in map(event_of, finished.err.splitlines()) if event and event.get("step") == step]
    assert events, finished.err
    assert all(event["images_per_second"] > 0 and event["seconds_left"] is not None for event in events)
    assert events[-1]["done"] == events[-1]["total"]


def test_the_log_of_a_run_is_for_people(finished: Run) -> None:
    assert finished.out.lstrip().startswith("cells ")  # the table, and nothing of the SDK's before it
    said = [event["message"] for event in map(event_of, finished.err.splitlines()) if event and event["event"] == "info"]
    assert [message for message in said if str(message).startswith("Step ")] == ["Step 1: train", "Step 2: extract", "Step 3: classify"]
    assert "Warning" not in finished.out + finished.err
    assert "Traceback" not in finished.out + finished.err


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("model", ["README.md", "checkpoint.pth", "config.yaml", "log.jsonl", "model.json", "model.safetensors", EVENTS]),
        ("features", [f"{kind}-0000{rank}.parquet" for kind in ("baseline", "part") for rank in (0, 1)] + ["features.json"]),
        ("classification", ["knn.skops", "linear_probe.skops", "metrics.json", "predictions.parquet", "report.html"]),
    ],
)
def test_artifacts_are_complete_and_are_what_was_written(finished: Run, kind: str, names: list[str]) -> None:
    artifact = open_artifact(str(finished.paths[kind]), kind)
    assert artifact.names == sorted(names)
    for name in names:
        assert artifact.read_bytes(name)
    there = {path.relative_to(finished.paths[kind]).as_posix() for path in finished.paths[kind].rglob("*") if path.is_file()}
    assert there == {*names, "manifest.json"}


def test_features_hold_every_cell_in_the_tables_order(finished: Run, place: Path) -> None:
    features = pd.concat([pd.read_parquet(finished.paths["features"] / f"part-0000{process}.parquet") for process in (0, 1)])
    assert features["Metadata_file"].tolist() == pd.read_csv(place / "cells" / "metadata.csv")["file"].tolist()


def test_settings_of_the_command_line_reach_every_step(finished: Run) -> None:
    model = yaml.safe_load((finished.paths["model"] / "config.yaml").read_text())
    assert model["model"]["local_crops_scale"] == [0.2, 0.5]
    assert json.loads((finished.paths["classification"] / "metrics.json").read_text())["group"] == "plate"


def test_the_report_has_its_pictures(finished: Run) -> None:
    page = finished.paths["report"].read_text()
    sections = dict(re.findall(r"<h2>([^<]*)</h2>(.*?)(?=<h2>|$)", page, flags=re.DOTALL))
    pictures = {title: len(re.findall(r"<img[^>]+src=.data:image/", section)) for title, section in sections.items()}
    assert sections["Example cells"].count("<canvas") >= 7  # a row a class at least
    shown = ("Map of the features", "What is taken for what", "Does plate show in the features?", "Where the network looks", "Training")
    assert min(pictures[title] for title in shown) >= 1
    assert not re.search(r"(src|href)=.https?://", re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL))


def test_kubeflow_is_given_metrics_the_confusion_matrix_and_the_page(finished: Run) -> None:
    step = finished.paths["classification"].parent
    assert (step / "report").read_text() == finished.paths["report"].read_text()
    outputs = json.loads((step / "executor_output.json").read_text())["artifacts"]
    metrics, confusion = (outputs[name]["artifacts"][0]["metadata"] for name in ("metrics", "confusion"))
    for logged in ("trained, 10-NN (cosine), accuracy", "untrained, linear probe, balanced_accuracy", "intensity, linear probe, macro_f1"):
        low, high = metrics[f"{logged}, 95 % from"], metrics[f"{logged}, 95 % to"]
        assert 0 <= low <= metrics[logged] <= high <= 1
    matrix = confusion["confusionMatrix"]
    assert [entry["displayName"] for entry in matrix["annotationSpecs"]][:2] == ["Cytosol", "Mitochondria"]
    assert sum(sum(row["row"]) for row in matrix["rows"]) == CELLS


# Failures


def test_a_failing_step_ends_the_run_with_its_own_sentence(place: Path, tmp_path: Path) -> None:
    """Only the images tell, in the training step, in one of two torchrun processes, below the SDK."""
    cells = tmp_path / "cells"
    simulate(str(cells), cells=28, size=32, plates=2)
    for image in (cells / "images").iterdir():
        image.write_bytes(b"no image")
    failed = run(place, "--data", str(cells), "--processes", "2", "--model.batch_size", "14", "--folds", "2")
    assert failed.returncode == 2, failed.stdout + failed.stderr
    (sentence,) = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert sentence.startswith(f"error: {cells}/metadata.csv: none of the first 20 images can be read; the first says: {cells}/images/")
    assert failed.stderr.splitlines()[-1] == sentence
    assert "Traceback" not in failed.stdout + failed.stderr


def test_what_earlier_steps_finished_stays_when_a_later_one_fails(place: Path, tmp_path: Path) -> None:
    """No cell of the second class can be read, which training forgives and only the classifiers cannot do without."""
    cells = tmp_path / "cells"
    simulate(str(cells), cells=28, size=32, plates=2)
    table = pd.read_csv(cells / "metadata.csv").assign(protein_location=["a", "b"] * 14)
    table.to_csv(cells / "metadata.csv", index=False)
    for file in table["file"][1::2]:
        (cells / file).write_bytes(b"no image")
    words = ["--model.batch_size", "14", "--max_bad_images", "1", "--no-baselines", "--output", str(tmp_path / "runs")]
    failed = run(place, "--data", str(cells), *words)
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert "'protein_location' holds one class only ('a', 14 cells)" in failed.stderr.splitlines()[-1]
    (run_directory,) = (tmp_path / "runs").iterdir()
    assert open_artifact(str(run_directory / "train" / "model"), "model")
    assert open_artifact(str(run_directory / "extract" / "features"), "features")


def test_a_launcher_that_needs_a_cluster_is_refused_before_anything_runs(place: Path, tmp_path: Path) -> None:
    failed = run(place, "--data", "cells", "--launcher", "pytorchjob", "--output", str(tmp_path / "runs"))
    assert failed.returncode == 2
    (sentence,) = failed.stderr.splitlines()
    assert sentence.startswith("error: launcher: 'pytorchjob' starts pods and this is no step of a pipeline on a cluster; use 'local' here")
    assert not (tmp_path / "runs").exists()


# The compiled pipeline


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    from dino4cells.pipelines.pipeline import COMPILED

    return next(iter(yaml.safe_load_all(COMPILED.read_text())))


def test_the_committed_yaml_is_what_the_source_compiles_to(tmp_path: Path) -> None:
    from dino4cells.pipelines.pipeline import COMPILED, compile_pipeline

    def content(path: Path) -> list[Any]:
        documents = list(yaml.safe_load_all(path.read_text()))
        documents[0].pop("sdkVersion")  # of whoever compiled it last
        return documents

    fresh = compile_pipeline(tmp_path / "dino4cells.yaml")
    assert content(fresh) == content(COMPILED), "pipelines/dino4cells.yaml is not what its source compiles to: run `make pipeline`"


def test_every_parameter_and_input_carries_a_description(compiled: dict[str, Any]) -> None:
    descriptions = {"pipeline": compiled["pipelineInfo"]["description"]}
    blocks = {"pipeline": compiled["root"]["inputDefinitions"], **{n: c["inputDefinitions"] for n, c in compiled["components"].items()}}
    for name, block in blocks.items():
        for kind in ("parameters", "artifacts"):
            for key, definition in block.get(kind, {}).items():
                if key in OF_THE_SDK:
                    continue
                descriptions[f"{name}.{key}"] = definition.get("description", "")
    assert len(descriptions) > 20
    assert [key for key, text in descriptions.items() if len(text) < 10] == []


OF_THE_SDK = {"base_image", "pipelinechannel--image", "pipelinechannel--cpu", "pipelinechannel--memory"}
"""Inputs that the SDK adds to a component whose image, cores and memory are parameters."""


def test_a_parameter_says_the_same_everywhere_and_the_pipeline_alone_has_defaults(compiled: dict[str, Any]) -> None:
    whole = compiled["root"]["inputDefinitions"]["parameters"]
    assert all("defaultValue" in definition for definition in whole.values())
    for component in compiled["components"].values():
        for key, definition in component["inputDefinitions"].get("parameters", {}).items():
            if key not in OF_THE_SDK:
                assert definition["parameterType"] == whole[key]["parameterType"]
                assert definition["description"] == whole[key]["description"]
                assert "defaultValue" not in definition


def inputs_of(compiled: dict[str, Any], step: str) -> set[str]:
    """What the pipeline's parameters give a step: with its command and image, the key of the cache."""
    parameters = compiled["root"]["dag"]["tasks"][step]["inputs"]["parameters"].values()
    return {item["componentInputParameter"] for item in parameters if "componentInputParameter" in item}


def test_another_configuration_data_or_image_runs_a_step_anew(compiled: dict[str, Any]) -> None:
    assert {"data", "metadata", "data_version", "preset", "config", "overrides", "arch", "epochs"} <= inputs_of(compiled, "train")
    for step, artifacts in (("extract", {"model"}), ("classify", {"model", "features"})):
        assert set(compiled["root"]["dag"]["tasks"][step]["inputs"]["artifacts"]) == artifacts
    for step in ("train", "extract", "classify"):
        assert "image" in inputs_of(compiled, step)
        assert compiled["root"]["dag"]["tasks"][step]["cachingOptions"]["enableCache"]


def test_nothing_that_changes_with_every_run_is_an_input(compiled: dict[str, Any]) -> None:
    assert "{{$.pipeline_job" not in yaml.safe_dump(compiled)
    for step in ("train", "extract", "classify"):
        given = compiled["root"]["dag"]["tasks"][step]["inputs"]["parameters"].values()
        constants = {item["runtimeValue"]["constant"] for item in given if "runtimeValue" in item}
        assert constants == {f"{{{{$.inputs.parameters['pipelinechannel--{name}']}}}}" for name in ("image", "cpu", "memory")}


def test_pods_of_all_steps_are_set_up_by_parameters() -> None:
    from dino4cells.pipelines.pipeline import COMPILED

    platform = list(yaml.safe_load_all(COMPILED.read_text()))[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(platform) == {"exec-train", "exec-extract", "exec-classify"}
    for pod in platform.values():
        (secret,) = pod["secretAsEnv"]
        assert secret["optional"]
        assert secret["secretNameParameter"] == {"componentInputParameter": "secret"}
        assert pod["imagePullSecret"] == [{"secretNameParameter": {"componentInputParameter": "pull_secret"}}]
        assert pod["tolerations"] == [{"tolerationJson": {"componentInputParameter": "tolerations"}}]
        assert pod["nodeSelector"] == {"nodeSelectorJson": {"componentInputParameter": "node_selector"}}
        assert "metadata.labels['pipeline/runid']" in [entry["fieldPath"] for entry in pod["fieldPathAsEnv"]]


def test_every_step_asks_for_what_it_may_use_and_no_more(compiled: dict[str, Any]) -> None:
    for step in ("train", "extract", "classify"):
        asked = compiled["deploymentSpec"]["executors"][f"exec-{step}"]["container"]["resources"]
        for kind, parameter in (("Cpu", "cpu"), ("Memory", "memory")):
            given = f"{{{{$.inputs.parameters['pipelinechannel--{parameter}']}}}}"
            assert (asked[f"resource{kind}Request"], asked[f"resource{kind}Limit"]) == (given, given)
            assert parameter in inputs_of(compiled, step)


def test_secrets_have_names_by_default_since_pods_that_name_none_are_refused(compiled: dict[str, Any]) -> None:
    parameters = compiled["root"]["inputDefinitions"]["parameters"]
    assert parameters["secret"]["defaultValue"]
    assert parameters["pull_secret"]["defaultValue"]


def test_no_path_or_secret_of_a_machine_is_in_the_compiled_pipeline(compiled: dict[str, Any]) -> None:
    text = yaml.safe_dump(compiled)
    assert not re.search(r"/(work|home|Users|tmp|opt|root)/|AWS_|pip install", text)
