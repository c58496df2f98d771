"""Jobs that the tests of the launcher run, what becomes of them on the cluster, and what a person reads of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from kubernetes_server import NAMESPACE, KubernetesServer

from dino4cells.cluster.failures import ClusterJobFailed
from dino4cells.cluster.job import JobSpec, Placement
from dino4cells.cluster.launcher import LauncherSettings, PyTorchJobLauncher
from dino4cells.cluster.names import job_name

IMAGE = "registry.example/dino4cells:0.1.0"
JOB = JobSpec("train", "dino4cells.training", ("--output", "s3://bucket/model"), image=IMAGE)
TWO = dataclasses.replace(JOB, nodes=2)
QUEUED = dataclasses.replace(JOB, placement=Placement(queue="biology"))
ELASTIC = dataclasses.replace(JOB, nodes=3, min_nodes=2)
SETTINGS = LauncherSettings(NAMESPACE, run="run-1")


def launcher(server: KubernetesServer, settings: LauncherSettings = SETTINGS, **limits: float) -> PyTorchJobLauncher:
    settings = dataclasses.replace(settings, limits=dataclasses.replace(settings.limits, **limits))
    return PyTorchJobLauncher(settings, server.connect, server.time.clock, server.time.sleep, lambda: 1.0)


def succeeds(server: KubernetesServer) -> None:
    server.ends(0)
    server.condition("Succeeded", replaces="Running")


def runs_through(server: KubernetesServer, *lines: str, begin: float = 0) -> None:
    """Have the job start and succeed, with these lines in its log."""
    server.time.at(begin + 2, server.create_pods)
    server.time.at(begin + 6, server.all_run)
    for number, line in enumerate(lines):
        server.time.at(begin + 8 + 3 * number, lambda line=line: server.writes(line))  # type: ignore[misc]
    server.time.at(begin + 10 + 3 * len(lines), lambda: succeeds(server))


def failure_of(call: Callable[[], None]) -> ClusterJobFailed:
    with pytest.raises(ClusterJobFailed) as failed:
        call()
    return failed.value


def said(output: str, job: JobSpec = JOB) -> list[str]:
    """What the launcher itself said, without the job's name."""
    begin = f"{job_name(job, 'run-1')}: "
    return [line.removeprefix(begin) for line in output.splitlines() if line.startswith(begin)]


def logged(output: str, job: JobSpec = JOB) -> list[str]:
    """The lines of the job's log."""
    return [line for line in output.splitlines() if not line.startswith(f"{job_name(job, 'run-1')}: ")]


def running_for(server: KubernetesServer, *lines: str) -> None:
    """Have the job run from second 4 on and write lines at second 6."""
    server.time.at(2, server.create_pods)
    server.time.at(4, server.all_run)
    server.time.at(6, lambda: server.writes(*lines))


def killed(server: KubernetesServer, when: float, settings: LauncherSettings = SETTINGS) -> None:
    """Run a launcher that is killed without a chance to clean up."""

    class Kill(BaseException): ...

    def kill() -> None:
        server.faults.clear()
        server.forbidden.update({("delete", "pytorchjobs")})
        raise Kill

    server.time.at(when, kill)
    with pytest.raises(Kill):
        launcher(server, settings).run(JOB)
    server.forbidden.clear()
