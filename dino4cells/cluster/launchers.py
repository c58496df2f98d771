"""Launchers by name, as the pipeline's parameter and the command line give them."""

from __future__ import annotations

from dino4cells.cluster.job import Processes
from dino4cells.cluster.local import LocalLauncher
from dino4cells.errors import ConfigError

LAUNCHERS = ("local", "pytorchjob")


def processes_of(launcher: str, processes: int, gpus: tuple[int, ...] = ()) -> Processes | None:
    """The processes that share a step's work, or None where the step's own process does it alone.

    Raises:
        ConfigError: an unknown launcher, one that is not available yet, or fewer than one process.
    """
    if launcher not in LAUNCHERS:
        raise ConfigError(f"launcher: '{launcher}' is not known; choose one of {', '.join(LAUNCHERS)}.")
    if launcher == "pytorchjob":
        raise ConfigError("launcher: 'pytorchjob' is not available yet in this version; use 'local', which trains in the step's own pod.")
    if processes < 1:
        raise ConfigError(f"processes: must be at least 1, not {processes}.")
    count = len(gpus) or processes
    return Processes(LocalLauncher(gpus), per_node=count) if count > 1 or gpus else None
