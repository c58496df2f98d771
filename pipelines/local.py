"""The pipeline on this machine, by the Kubeflow Pipelines SDK: every step is a process of this Python, no containers, no cluster."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dino4cells.cluster.reason import REASON_FILE, Reason
from dino4cells.errors import JobFailed
from dino4cells.events import LOG, Style, line_of, style_of
from dino4cells.progress import Relay

# What the SDK prints of its own, among the lines of the steps.
_OF_THE_SDK = re.compile(r"\s*\d\d:\d\d:\d\d\.\d+ - (?P<level>[A-Z]+) - (?P<message>.*)")
_RULE = re.compile("-{20,}")
_COLOUR = re.compile(r"\x1b\[\d*m")
_STARTS = re.compile("Executing task '(.*)'")
_INDENT = " " * 4
"""What the SDK puts before each line of a step."""


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
            # The SDK takes an image that is not named after Python for another program, and says that here are no pods to limit.
            warnings.filterwarnings("ignore", message="You may be attemping to run a task that uses custom", category=RuntimeWarning)
            warnings.filterwarnings("ignore", message=r"Task '\w+': settings .* have no effect", category=UserWarning)
            with (
                Relay(sys.stdout) as relay,
                contextlib.redirect_stdout(_StepsAlone(relay)),
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


class _StepsAlone(io.TextIOBase):
    """Passes on what the steps say, what goes wrong, and which step begins.

    Not the SDK's own account: how it calls a step, in some forty lines of JSON, and what the step's artifacts are.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._line = ""
        self._in_input = self._in_outputs = False
        self._steps = 0

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._take(line)
        return len(text)

    def _take(self, line: str) -> None:
        plain = _COLOUR.sub("", line)
        said = _OF_THE_SDK.match(plain)
        if "[KFP Executor" in line:
            self._in_input = "Got executor_input:" in line
        elif self._in_input:
            self._in_input = line.strip() != "}" or len(line) - len(line.lstrip()) > len(_INDENT)
        elif said:
            self._in_outputs = said["message"].endswith("outputs:")
            if starts := _STARTS.fullmatch(said["message"]):
                self._steps += 1
                self._relay.line(line_of("info", message=f"Step {self._steps}: {starts[1]}"))
            elif said["level"] != "INFO":
                self._relay.line(said["message"])
        elif _RULE.fullmatch(plain):
            self._in_outputs = False
        elif line.strip() and not self._in_outputs:
            self._relay.line(line.removeprefix(_INDENT))
