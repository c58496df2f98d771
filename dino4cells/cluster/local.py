"""Runs a job on this machine by torchrun."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from dino4cells.cluster.gpus import visible_devices
from dino4cells.cluster.job import JobSpec
from dino4cells.errors import ConfigError, Interrupted, JobFailed
from dino4cells.events import LOG, Style, style_of
from dino4cells.progress import Relay

REASON_FILE = "DINO4CELLS_REASON_FILE"
"""Environment variable: where a process of a job leaves the sentence that says why it failed (in a pod: /dev/termination-log)."""

# torchrun's own account of a failed process; it says less than the process did and is shown only when that left no reason. Its
# warnings are single lines, its errors the beginning of its last words.
AGENT_LINE = re.compile(r"^(?P<level>[WE])\d{4} .*torch/distributed/(run|elastic)")
_KILL_AFTER_SECONDS = 60


@dataclass(frozen=True)
class LocalLauncher:
    """torchrun on this machine, one rendezvous on a free port.

    Attributes:
        gpus: numbers of the GPUs to use, one process each, or empty for CPU processes (or all GPUs that are visible).
    """

    gpus: Sequence[int] = ()

    def run(self, job: JobSpec) -> None:
        """Run the job and pass its output on, line by line; SIGTERM and Ctrl-C reach its processes.

        Raises:
            ConfigError: the job wants more than one machine.
            JobFailed: with the reason that the failed process left, or its exit code.
            Interrupted: this process was asked to stop, and the job has.
        """
        if job.nodes != 1:
            raise ConfigError(f"nodes: this machine is one node and the job wants {job.nodes}; raise the processes per node instead.")
        with tempfile.TemporaryDirectory(prefix="dino4cells-") as directory:
            reason = Path(directory, "reason")
            process = subprocess.Popen(
                self._command(job),
                env=self._environment(job, reason),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                bufsize=1,
                start_new_session=True,
            )
            with _forwarded_signals(process) as received:
                withheld = _pass_on(process)
                code = process.wait()
            if code:
                if received:
                    sentence = reason.read_text().strip() if reason.exists() else "the same command goes on or starts anew."
                    raise Interrupted(sentence, received[0])
                if reason.exists():
                    raise JobFailed(reason.read_text().strip())
                sys.stdout.write("".join(withheld))
                raise JobFailed(f"{job.name}: a process ended with exit code {code}; its own words are in the output above.")

    def _command(self, job: JobSpec) -> list[str]:
        return [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1"),
            *(f"--nproc-per-node={job.processes_per_node}", "-m", job.module, *job.arguments),
        ]

    def _environment(self, job: JobSpec, reason: Path) -> dict[str, str]:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        environment = {
            **os.environ,
            # The processes share the cores instead of each taking all of them.
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // job.processes_per_node))),
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
            REASON_FILE: str(reason),
            LOG: (Style.QUIET if style_of(sys.stderr) is Style.QUIET else Style.JSON).value,  # `Relay` writes it as this process does
            **job.environment,
        }
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = visible_devices(tuple(self.gpus))
        return environment


def _pass_on(process: subprocess.Popen[str]) -> list[str]:
    """Print the output as it comes, up to torchrun's account of a failure; returns what was not printed."""
    withheld: list[str] = []
    failing = False
    with Relay() as relay:
        for line in process.stdout or ():
            agent = AGENT_LINE.match(line)
            failing = failing or (agent is not None and agent["level"] == "E")
            if failing or agent:
                withheld.append(line)
            else:
                relay.line(line)
    return withheld


@contextlib.contextmanager
def _forwarded_signals(process: subprocess.Popen[str]) -> Iterator[list[signal.Signals]]:
    """SIGTERM and SIGINT of this process go to torchrun, which passes them on; yields those that came.

    Nothing is left running when this process leaves: torchrun ends its processes, and these end without it (`entry`).
    """
    received: list[signal.Signals] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        process.send_signal(signal.SIGTERM)

    before: dict[signal.Signals, object] = {}
    with contextlib.suppress(ValueError):  # not the main thread, which alone may set handlers
        for name in (signal.SIGTERM, signal.SIGINT):
            before[name] = signal.signal(name, forward)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_KILL_AFTER_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
