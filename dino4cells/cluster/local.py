"""Runs a job on this machine by torchrun, and again where a process was killed or hung."""

from __future__ import annotations

import contextlib
import logging
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
from dino4cells.cluster.reason import FAULT, MISTAKE, OUTAGE, REASON_FILE, Reason
from dino4cells.cores import available_cores
from dino4cells.errors import ConfigError, Interrupted, JobFailed
from dino4cells.events import LOG, Style, event_of, style_of
from dino4cells.progress import Relay

# torchrun's own account of a failed process; it says less than the process did and is shown only when that left no reason. Its
# warnings are single lines, its errors the beginning of its last words.
AGENT_LINE = re.compile(r"^(?P<level>[WE])\d{4} .*torch/distributed/(run|elastic)")
_KILL_AFTER_SECONDS = 60

# In that account, of every process that had ended when it was written: -9 for SIGKILL.
_EXIT_CODE = re.compile(r"^\s*exitcode\s*:\s*(-?\d+)", re.MULTILINE)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _End:
    """How a job ended that did not succeed: its failure, and whether it may succeed when it is started again."""

    failure: JobFailed
    may_pass: bool


@dataclass(frozen=True)
class LocalLauncher:
    """torchrun on this machine, one rendezvous on a free port.

    Attributes:
        gpus: numbers of the GPUs to use, one process each, or empty for CPU processes (or all GPUs that are visible).
    """

    gpus: Sequence[int] = ()

    def run(self, job: JobSpec) -> None:
        """Run the job and pass its output on, line by line; SIGTERM and Ctrl-C reach its processes.

        A process that is killed, or hangs, ends the others; the job is then started again, and goes on from what it has kept, as often as
        it tolerates failures. A mistake, a bug that shows its traceback, and a store that stays away end it.

        Raises:
            ConfigError: the job wants more than one machine.
            JobFailed: with the reason that the failed process left, or its exit code; `exit_code` 75 where it is no mistake of the user.
            Interrupted: this process was asked to stop, and the job has.
        """
        if job.nodes != 1:
            raise ConfigError(f"nodes: this machine is one node and the job wants {job.nodes}; raise the processes per node instead.")
        restarts = 0
        while (end := self._run_once(job)) is not None:
            if not end.may_pass or restarts == job.tolerated_failures:
                raise end.failure
            restarts += 1
            logger.warning("%s The job is started again (%s of %s times).", end.failure, restarts, job.tolerated_failures)

    def _run_once(self, job: JobSpec) -> _End | None:
        """Run torchrun to its end; None where the job has succeeded."""
        with tempfile.TemporaryDirectory(prefix="dino4cells-") as directory:
            place = Path(directory, "reason")
            process = subprocess.Popen(
                self._command(job),
                env=self._environment(job, place),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                bufsize=1,
                start_new_session=True,
            )
            with _forwarded_signals(process) as received:
                withheld = _pass_on(process, received)
                code = process.wait()
            reason = Reason.read(place)
        if not code:
            return None
        if received:
            raise Interrupted(reason.sentence if reason else "the same command goes on or starts anew.", received[0])
        end = _end_of(job, "".join(withheld) if code > 0 else "", reason)
        if end is None:
            sys.stdout.write("".join(withheld))
            failure = JobFailed(f"{job.name}: a process ended with exit code {code}; its own words are in the output above.")
            return _End(failure, may_pass=False)
        return end

    def _command(self, job: JobSpec) -> list[str]:
        return [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1"),
            *(f"--nproc-per-node={job.processes_per_node}", "-m", job.module, *job.arguments),
        ]

    def _environment(self, job: JobSpec, reason: Path) -> dict[str, str]:
        environment = {
            **os.environ,
            # The processes share the cores instead of each taking all of them.
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, available_cores() // job.processes_per_node))),
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
            REASON_FILE: str(reason),
            LOG: (Style.QUIET if style_of(sys.stderr) is Style.QUIET else Style.JSON).value,  # `Relay` writes it as this process does
            **job.environment,
        }
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = visible_devices(tuple(self.gpus))
        return environment


def _end_of(job: JobSpec, account: str, reason: Reason | None) -> _End | None:
    """How the job ended, by what its processes left and by torchrun's account; None where neither says it better than the output."""
    if reason is not None and reason.kind in (MISTAKE, OUTAGE):
        return _End(reason.failure(), may_pass=False)
    # The account may name processes that failed because of another; only a signal that nobody of the job sends tells which was first.
    codes = [int(code) for code in _EXIT_CODE.findall(account)]
    killed = next((-code for code in codes if code < 0 and -code != signal.SIGTERM), None)
    if killed is not None:
        why = ", most often for want of memory; lower the batch size or the number of processes" if killed == signal.SIGKILL else ""
        return _End(JobFailed(f"{job.name}: a process was ended by {_name(killed)}{why}."), may_pass=True)
    if reason is not None:
        return _End(reason.failure(), may_pass=reason.kind == FAULT)
    return None


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _pass_on(process: subprocess.Popen[str], received: Sequence[signal.Signals]) -> list[str]:
    """Print the output as it comes, up to torchrun's account of a failure; returns what was not printed.

    Once a signal is received, events alone are printed: torchrun then ends by an exception of its own, with a traceback.
    """
    withheld: list[str] = []
    failing = False
    with Relay() as relay:
        for line in process.stdout or ():
            agent = AGENT_LINE.match(line)
            failing = failing or (agent is not None and agent["level"] == "E")
            if failing or agent or (received and event_of(line) is None):
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
