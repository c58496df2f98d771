"""The pipeline on this machine, by the Kubeflow Pipelines SDK: every step is a process of this Python, no containers, no cluster."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dino4cells.cluster.local import REASON_FILE
from dino4cells.errors import JobFailed


@dataclass(frozen=True)
class LocalRun:
    """Where the artifacts of a finished run are."""

    model: str
    features: str
    classification: str


def run_locally(root: Path, arguments: dict[str, object]) -> LocalRun:
    """Run the pipeline to its end.

    Args:
        root: directory for the artifacts of all runs; each run gets a folder of its own.
        arguments: parameters of the pipeline.

    Raises:
        JobFailed: a step did not succeed; the message is the step's.
    """
    from kfp import local

    from dino4cells.pipelines.pipeline import dino4cells_pipeline

    # The SDK stores artifacts under the root as given, and steps may run in another directory.
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root.absolute()))
    with tempfile.TemporaryDirectory(prefix="dino4cells-") as directory:
        reason = Path(directory, "reason")
        os.environ[REASON_FILE] = str(reason)
        try:
            run = dino4cells_pipeline(**arguments)
        except RuntimeError as error:
            raise JobFailed(reason.read_text().strip() if reason.exists() else str(error)) from error
        finally:
            del os.environ[REASON_FILE]
    return LocalRun(**{name: run.outputs[name].path for name in ("model", "features", "classification")})
