"""The container image, run as a restricted pod runs it: another user, a read-only root, no privilege, no network but its own.

`make image-test` sets IMAGE and, where it is not plain docker, CONTAINER ("podman --runtime runc").
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.image

IMAGE = os.environ.get("IMAGE", "dino4cells-python:0.1.0")
CONTAINER = shlex.split(os.environ.get("CONTAINER", "docker"))
RUN_OPTIONS = shlex.split(os.environ.get("CONTAINER_RUN_OPTIONS", ""))
RESTRICTED = ["--read-only", "--user", "1000:1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none"]
COMPILED = Path(__file__).parents[2] / "pipelines" / "dino4cells.yaml"
TINY = "epochs=1 model.batch_size=16 local_crops_number=1 out_dim=64 head_hidden_dim=64 head_bottleneck_dim=32"


def ask(*words: str) -> str:
    """What the container program prints; AssertionError where it fails."""
    done = subprocess.run([*CONTAINER, *words], capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, f"{shlex.join(words)[:300]} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def run(*words: str, work: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """What a command prints that runs in the image; `work` is mounted at /mnt."""
    mounts = ["--tmpfs", "/tmp:rw,mode=1777,size=2g", "--shm-size", "512m"]
    if work is not None:
        work.chmod(0o777)
        mounts += ["--volume", f"{work}:/mnt:rw"]
    variables = [word for name, value in (environment or {}).items() for word in ("--env", f"{name}={value}")]
    return ask("run", "--rm", *RUN_OPTIONS, *RESTRICTED, *mounts, *variables, IMAGE, *words)


def see_all(script: str) -> str:
    """What a shell script prints in the image as root, who may read every file."""
    return ask("run", "--rm", *RUN_OPTIONS, "--user", "0:0", "--network", "none", IMAGE, "sh", "-c", script)


def torchrun(module: str, *words: str, work: Path) -> None:
    """A module as in a pod of two processes, with the variables that the operator gives a job of one pod."""
    operator = {"PET_NPROC_PER_NODE": "2", "PET_NNODES": "1", "OMP_NUM_THREADS": "1"}
    run("torchrun", "-m", module, *words, work=work, environment=operator)


def test_the_command_is_there_and_the_user_is_nobody_special() -> None:
    assert run("dino4cells", "--version").startswith("dino4cells 0.")
    assert run("id", "-u").strip() == "1000"


def test_training_and_extraction_run_under_torchrun_as_in_a_pod_of_two_processes(tmp_path: Path) -> None:
    run("dino4cells", "simulate", "/mnt/cells", "--cells", "84", work=tmp_path)
    overrides = [word for pair in TINY.split() for word in (f"--{pair.partition('=')[0]}", pair.partition("=")[2])]
    config = run("dino4cells", "config", "--preset", "small", *overrides, work=tmp_path)
    (tmp_path / "config.yaml").write_text(config)
    given = ("--config", "/mnt/config.yaml", "--data", "/mnt/cells")

    torchrun("dino4cells.training", *given, "--output", "/mnt/model", work=tmp_path)
    torchrun("dino4cells.features", *given, "--model", "/mnt/model", "--output", "/mnt/features", work=tmp_path)

    assert json.loads((tmp_path / "model" / "model.json").read_text())["training"]["processes"] == 2
    assert json.loads((tmp_path / "features" / "features.json").read_text())["rows"] == 84
    names = {entry["name"] for entry in json.loads((tmp_path / "features" / "manifest.json").read_text())["files"]}
    assert len([name for name in names if name.endswith(".parquet")]) >= 2, "each process writes its share"


def test_a_process_starts_from_modules_that_are_compiled() -> None:
    done = subprocess.run(
        [*CONTAINER, "run", "--rm", *RUN_OPTIONS, *RESTRICTED, IMAGE, "python", "-v", "-c", "import dino4cells.config, yaml"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert "bytecode is stale" not in done.stderr
    assert re.search(r"# /opt/dino4cells/\S+/yaml/__pycache__/__init__\S+\.pyc matches", done.stderr)
    assert re.search(r"# /opt/dino4cells/\S+/dino4cells/config/__pycache__/__init__\S+\.pyc matches", done.stderr)


def test_nothing_can_be_installed_or_built_in_it_and_no_cache_is_left() -> None:
    assert see_all("command -v pip pip3 gcc cc make git || true") == ""
    assert see_all("python -c 'import pip' 2>&1 | tail -1").startswith("ModuleNotFoundError")
    left = r"-name .cache -o -path /source -o -path '/var/cache/apt/*.deb' -o -path '/var/cache/apt/*.bin'"
    assert see_all(f"find / -xdev \\( {left} \\)") == ""


def test_nobody_but_root_can_change_a_file_of_it() -> None:
    shared = r"\( -type f -o -type d \) -perm -0002 ! -perm -1000"  # directories such as /tmp have the sticky bit
    assert see_all(f"find / -xdev {shared}") == ""
    assert see_all("find / -xdev -user 1000 -o -xdev -group 1000") == ""


def test_it_holds_no_credentials_and_none_went_into_building_it() -> None:
    kept = ".netrc .pypirc pip.conf .git-credentials .aws .docker .kube .ssh id_rsa id_ed25519 kubeconfig .env .git"
    named = " -o ".join(f"-name {name}" for name in kept.split())
    assert see_all(f"find / -xdev \\( {named} \\) -size +0") == ""
    places = "/etc /home /opt/dino4cells/bin /opt/dino4cells/pyvenv.cfg /root /srv /tmp /var"
    assert see_all(f"grep -rlsE -e '-----BEGIN [A-Z ]*PRIVATE KEY' -e '://[^/ @]+:[^/ @]+@' {places} || true") == ""

    (image,) = json.loads(ask("image", "inspect", IMAGE))
    names = {variable.partition("=")[0] for variable in image["Config"]["Env"]}
    assert not {name for name in names if re.search("PIP_|PROXY|TOKEN|PASSWORD|CREDENTIAL|SECRET", name, re.IGNORECASE)}
    history = ask("history", "--no-trunc", "--format", "{{.CreatedBy}}", IMAGE)
    assert not re.search(r"PIP_EXTRA_INDEX_URL=|index-url|://[^/ @]+:[^/ @]+@", history)


def test_its_labels_say_what_it_is() -> None:
    (image,) = json.loads(ask("image", "inspect", IMAGE))
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image["Config"]["Labels"].items()}

    assert labels["title"] == "dino4cells"
    assert labels["licenses"] == "Apache-2.0"
    assert run("dino4cells", "--version").split() == ["dino4cells", labels["version"]]
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert labels["base.name"]


def test_a_component_runs_as_kubeflow_pipelines_starts_it(tmp_path: Path) -> None:
    pipeline = next(document for document in yaml.safe_load_all(COMPILED.read_text()) if "deploymentSpec" in document)
    container = pipeline["deploymentSpec"]["executors"]["exec-train"]["container"]
    run("dino4cells", "simulate", "/mnt/cells", "--cells", "84", work=tmp_path)
    defaults = {name: item.get("defaultValue") for name, item in pipeline["root"]["inputDefinitions"]["parameters"].items()}
    values = {name: defaults[name] for name in pipeline["components"]["comp-train"]["inputDefinitions"]["parameters"] if name in defaults}
    whole = {name: int(value) if isinstance(value, float) else value for name, value in values.items()}
    request = {
        "inputs": {"parameterValues": {**whole, "data": "/mnt/cells", "preset": "small", "overrides": TINY}},
        "outputs": {
            "artifacts": {
                "model": {"artifacts": [{"name": "model", "uri": "/mnt/out/model", "type": {"schemaTitle": "system.Model"}}]},
                "metrics": {"artifacts": [{"name": "metrics", "uri": "/mnt/out/metrics", "type": {"schemaTitle": "system.Metrics"}}]},
                "report": {"artifacts": [{"name": "report", "uri": "/mnt/out/report", "type": {"schemaTitle": "system.HTML"}}]},
            },
            "outputFile": "/mnt/out/executor_output.json",
        },
    }
    words = [word.replace("{{$}}", json.dumps(request)) for word in [*container["command"], *container["args"]]]

    run(*words, work=tmp_path, environment={"OMP_NUM_THREADS": "2"})

    assert (tmp_path / "out" / "model" / "manifest.json").exists()
    assert "<svg" in (tmp_path / "out" / "report").read_text() or "<img" in (tmp_path / "out" / "report").read_text()
    written = json.loads((tmp_path / "out" / "executor_output.json").read_text())
    assert written["artifacts"]["metrics"]["artifacts"][0]["metadata"]["images per second"] > 0
