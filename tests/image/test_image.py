"""The container image, run as a restricted pod runs it: another user, a read-only root, no privilege, no network but its own.

`make image-test` sets IMAGE and, where it is not plain docker, CONTAINER ("podman --runtime runc").
"""

from __future__ import annotations

import json
import os
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


def run(*words: str, work: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """What a command prints that runs in the image; `work` is mounted at /work."""
    mounts = ["--tmpfs", "/tmp:rw,mode=1777,size=2g", "--shm-size", "512m"]
    if work is not None:
        work.chmod(0o777)
        mounts += ["--volume", f"{work}:/work:rw"]
    variables = [word for name, value in (environment or {}).items() for word in ("--env", f"{name}={value}")]
    command = [*CONTAINER, "run", "--rm", *RUN_OPTIONS, *RESTRICTED, *mounts, *variables, IMAGE, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, f"{shlex.join(words)[:200]} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_command_is_there_and_the_user_is_nobody_special() -> None:
    assert run("dino4cells", "--version").startswith("dino4cells 0.")
    assert run("id", "-u").strip() == "1000"


def test_one_epoch_trains_under_torchrun_as_in_a_pod_of_two_processes(tmp_path: Path) -> None:
    run("dino4cells", "simulate", "/work/cells", "--cells", "84", work=tmp_path)
    overrides = [word for pair in TINY.split() for word in (f"--{pair.partition('=')[0]}", pair.partition("=")[2])]
    config = run("dino4cells", "config", "--preset", "small", *overrides, work=tmp_path)
    (tmp_path / "config.yaml").write_text(config)

    run(
        *("torchrun", "-m", "dino4cells.training", "--config", "/work/config.yaml", "--data", "/work/cells", "--output", "/work/model"),
        work=tmp_path,
        # What the operator's variables say to a job of one pod.
        environment={"PET_NPROC_PER_NODE": "2", "PET_NNODES": "1", "OMP_NUM_THREADS": "1"},
    )

    assert json.loads((tmp_path / "model" / "model.json").read_text())["training"]["processes"] == 2


def test_a_component_runs_as_kubeflow_pipelines_starts_it(tmp_path: Path) -> None:
    pipeline = next(document for document in yaml.safe_load_all(COMPILED.read_text()) if "deploymentSpec" in document)
    container = pipeline["deploymentSpec"]["executors"]["exec-train"]["container"]
    run("dino4cells", "simulate", "/work/cells", "--cells", "84", work=tmp_path)
    request = {
        "inputs": {"parameterValues": {"data": "/work/cells", "preset": "small", "overrides": TINY}},
        "outputs": {
            "artifacts": {
                "model": {"artifacts": [{"name": "model", "uri": "/work/out/model", "type": {"schemaTitle": "system.Model"}}]},
                "metrics": {"artifacts": [{"name": "metrics", "uri": "/work/out/metrics", "type": {"schemaTitle": "system.Metrics"}}]},
            },
            "outputFile": "/work/out/executor_output.json",
        },
    }
    words = [word.replace("{{$}}", json.dumps(request)) for word in [*container["command"], *container["args"]]]

    run(*words, work=tmp_path, environment={"OMP_NUM_THREADS": "2"})

    assert (tmp_path / "out" / "model" / "manifest.json").exists()
    written = json.loads((tmp_path / "out" / "executor_output.json").read_text())
    assert written["artifacts"]["metrics"]["artifacts"][0]["metadata"]["images per second"] > 0
