"""The pipeline on this machine, by the Kubeflow Pipelines SDK: every step is a process of this Python, no containers, no cluster."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dino4cells.cluster.reason import REASON_FILE, Reason
from dino4cells.errors import JobFailed
from dino4cells.events import LOG, Style, style_of
from dino4cells.progress import Relay


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
        # What the steps say is written by `Relay` as this process writes.
        style = Style.QUIET if style_of(sys.stderr) is Style.QUIET else Style.JSON
        try:
            # The SDK takes an image that is not named after Python for another program.
            warnings.filterwarnings("ignore", message="You may be attemping to run a task that uses custom", category=RuntimeWarning)
            with (
                Relay(sys.stdout) as relay,
                contextlib.redirect_stdout(_WithoutExecutorInput(relay)),
                _environment({REASON_FILE: str(reason), LOG: style.value}),
            ):
                run = dino4cells_pipeline(**arguments)
        except RuntimeError as error:
            left = Reason.read(reason)
            raise (left.failure() if left else JobFailed(str(error))) from error
    return LocalRun(**{name: run.outputs[name].path for name in ("model", "features", "classification")})


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Inside, processes that are started find these variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _WithoutExecutorInput(io.TextIOBase):
    """Passes lines on, but not the SDK's own about how it calls a step: some forty lines of JSON before the first line of the step."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._line = ""
        self._inside = False

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if "[KFP Executor" in line:
                self._inside = "Got executor_input:" in line
            elif self._inside:
                self._inside = line.strip() != "}" or len(line) - len(line.lstrip()) > 4
            else:
                self._relay.line(line)
        return len(text)
