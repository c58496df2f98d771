"""What a job is, in words of no particular cluster, and what a launcher must do with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class JobSpec:
    """One distributed job: the same Python module in every process.

    Attributes:
        name: what people call it; a launcher derives names of its own from it.
        module: started as `torchrun -m MODULE`.
        arguments: of the module.
        nodes: machines or pods.
        processes_per_node: processes on each; one per GPU, or a few that share the cores.
        environment: extra variables; never secrets.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    nodes: int = 1
    processes_per_node: int = 1
    environment: dict[str, str] = field(default_factory=dict)


class Launcher(Protocol):
    """Runs a job to its end."""

    def run(self, job: JobSpec) -> None:
        """Return when the job has succeeded.

        Raises:
            JobFailed: it did not; the message holds the reason that the job gave.
        """


@dataclass(frozen=True)
class Processes:
    """How many processes share the work of a step, and who starts them."""

    launcher: Launcher
    nodes: int = 1
    per_node: int = 1
