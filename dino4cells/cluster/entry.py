"""How a process of a job ends: a failure that a user can fix leaves one sentence and exit code 2, in a pod and on a laptop."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from dino4cells.cluster import reason
from dino4cells.cluster.reason import REASON_FILE, Reason
from dino4cells.cluster.sign import Patience, end_without_launcher, wait_for_launcher
from dino4cells.cluster.variables import LAUNCHER_SIGN, POD
from dino4cells.config import Config, load_config, parse_config
from dino4cells.errors import Dino4CellsError, Interrupted
from dino4cells.events import Style, line_of, logged, said, style_of
from dino4cells.redaction import hide_in_tracebacks
from dino4cells.storage_retry import counted_repeats, expected_store

# Kubernetes shows the content of this file as the reason of a terminated container.
TERMINATION_LOG = Path("/dev/termination-log")

# A process whose torchrun was killed is asked to stop as by torchrun itself, and after this time made to.
_PARENT_SECONDS = 1.0
_GRACE_SECONDS = 30.0


@contextlib.contextmanager
def process_of_a_job(patience: Patience | None = None) -> Iterator[None]:
    """Report a Dino4CellsError as one sentence, on the standard error and where the launcher looks for it.

    A process that is told of its launcher's sign of life refuses to start when the job is abandoned; the first one ends without the sign.

    Args:
        patience: with that sign; the usual one when None.
    """
    hide_in_tracebacks()
    # In a step's pod a shell stands between; where it alone is asked to stop, it ends and does not pass that on.
    if os.environ.get(REASON_FILE) or os.environ.get(POD):
        threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    # On this machine somebody may have mistyped the store's address.
    is_pod = not os.environ.get(REASON_FILE)
    with logged(), counted_repeats(), expected_store() if is_pod else contextlib.nullcontext(), _reported():
        if sign := os.environ.get(LAUNCHER_SIGN):
            patience = patience or Patience()
            wait_for_launcher(sign, patience)
            if os.environ.get("RANK") == "0":
                threading.Thread(target=end_without_launcher, args=[sign, patience], daemon=True).start()
        yield


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Say why this process ends, where the launcher looks for it."""
    try:
        yield
    except Interrupted as stop:
        if place := os.environ.get(REASON_FILE):
            Reason(reason.STOPPED, f"{stop}").leave(place)
        else:
            _say("interrupted", f"{stop}")
        raise
    except Dino4CellsError as error:
        _leave(Reason(reason.kind_of(error), f"{error}"))
        raise SystemExit(error.exit_code) from None


def leave(sentence: str) -> None:
    """End this process at once, from any of its threads, for a reason that is no mistake of its user."""
    _leave(Reason(reason.FAULT, sentence))
    os._exit(os.EX_TEMPFAIL)


def _leave(why: Reason) -> None:
    if place := os.environ.get(REASON_FILE):  # the launcher of this machine says it once for all processes
        why.leave(place)
        return
    if TERMINATION_LOG.exists():
        TERMINATION_LOG.write_text(f"{why.kind}{why.sentence}\n")
    _say("error", why.sentence)


def _say(kind: str, message: str) -> None:
    print(line_of(kind, message=message) if style_of(sys.stderr) is Style.JSON else said(kind, message), file=sys.stderr, flush=True)


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone: torchrun puts its processes into sessions that no signal reaches."""
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def read_job_config(url: str | None, text: str | None) -> Config:
    """The configuration of a job: from a path or URL (a mounted ConfigMap), or given as text in the job's arguments."""
    config = load_config(url) if text is None else parse_config(text, where="--config-text")
    for warning in config.warnings:
        logging.getLogger(__name__).warning("%s", warning)
    return config


def job_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """The arguments that every module of a job takes."""
    parser = argparse.ArgumentParser(prog=module, description=description)
    parser.add_argument("--data", help="directory or URL that holds a metadata.csv; the configuration's when not given")
    parser.add_argument("--output", help="URL of the artifact; the configuration's when not given")
    parser.add_argument("--config", help="path or URL of the configuration")
    parser.add_argument("--config-text", help="the configuration itself, as YAML")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished artifact that is at the output")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    return parser


def job_arguments(
    *, output: str = "", data: str = "", config: str = "", config_text: str = "", overwrite: bool = False, device: str = "auto"
) -> tuple[str, ...]:
    """The words that `job_parser` reads back."""
    given = {"--output": output, "--data": data, "--config": config, "--config-text": config_text, "--device": device}
    words = [word for option, value in given.items() if value for word in (option, value)]
    return (*words, *(["--overwrite"] if overwrite else []))
