"""Runs a job on a cluster as a PyTorchJob: from the pod of a pipeline's step, or from any machine with a kubeconfig."""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kubernetes.client import ApiClient

from dino4cells.cluster.api import Api, ClusterError, Conflict, Json, connect, within
from dino4cells.cluster.client import Cluster
from dino4cells.cluster.failures import ClusterJobFailed, Failure, duration
from dino4cells.cluster.job import JobSpec
from dino4cells.cluster.names import job_name
from dino4cells.cluster.objects import Job, job_from
from dino4cells.cluster.pytorchjob import render
from dino4cells.cluster.sign import LauncherSign
from dino4cells.cluster.states import Limits, State
from dino4cells.cluster.stopping import Stopped, stop_signals
from dino4cells.cluster.variables import LAUNCHER_SIGN
from dino4cells.cluster.watching import JobPods, JobWatch
from dino4cells.errors import ConfigError, JobFailed
from dino4cells.events import readable

# A pod that is asked to stop is killed after 30 seconds by default; until then the job must be gone.
_STOPPED_SECONDS = 20.0


@dataclass(frozen=True)
class LauncherPod:
    """The pod that this process runs in (from the downward API); a job that it owns is deleted with it."""

    name: str
    uid: str


@dataclass(frozen=True)
class LauncherSettings:
    """What a launcher needs to know beside the job.

    Attributes:
        namespace: of the job.
        run: identifier of the run that the job belongs to, or nothing. It makes part of the job's name: a step that is tried again finds
            the job of its first try, another run never does.
        name: of the job, or nothing: one that its content and the run give.
        pod: that owns the job, or None: the job outlives this process if that is killed.
        template: what the cluster adds to a job that names no image: image, resources, secrets, configuration, placement, tolerated
            failures, and variables of the environment.
        limits: how long the job may stay in each state.
        round_seconds: whole seconds between two looks at the job.
        last_lines: so many lines of a failed pod's log make part of the failure.
        sign: URL of this launcher's sign of life, without which the job that `run` follows ends by itself; nothing: it has none.
        sign_seconds: between two signs.
    """

    namespace: str
    run: str = ""
    name: str = ""
    pod: LauncherPod | None = None
    template: JobSpec | None = None
    limits: Limits = field(default_factory=Limits)
    round_seconds: int = 2
    last_lines: int = 20
    sign: str = ""
    sign_seconds: float = 60.0


@dataclass(frozen=True)
class PyTorchJobLauncher:
    """A PyTorchJob of the Training Operator v1, created, watched to its end and cleaned up.

    A job that is there already with the same specification is taken over: this process, or the pod it ran in, was started again. Its log
    is shown from the beginning, as far as the cluster has kept it, so that the log of each try is whole. A job that has failed is replaced,
    and so is one that has succeeded unless the same run started it; the new one goes on from its checkpoints.

    Nothing keeps a GPU when `run` ends. A job that succeeded or that the operator called failed is left to be looked at for as long as it
    says, once its pods have ended; any other is deleted, after its log was read, or before where a signal asked this process to stop. One
    that cannot be deleted, or whose launcher is killed, ends by itself where `settings.sign` is given.

    Attributes:
        settings: where and how.
        connect: makes a client of the cluster's API.
        clock, sleep, jitter: time and chance; replaced in tests.
    """

    settings: LauncherSettings
    connect: Callable[[], ApiClient] = connect
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def run(self, job: JobSpec) -> None:
        """Return when the job has succeeded; print its log and each change of its state.

        Raises:
            ConfigError: the job cannot run on a cluster, or another job has its name.
            ClusterError: the cluster refuses what this launcher must do, or did not answer for too long.
            JobFailed: it did not succeed (`ClusterJobFailed.failure` holds what is known), or this process was asked to stop.
        """
        if self.settings.sign:
            job = replace(job, environment={**job.environment, LAUNCHER_SIGN: self.settings.sign})
        job, name, manifest, say = self._prepared(job)
        sign = LauncherSign(self.settings.sign, self.clock, say, self.settings.sign_seconds)
        cluster = self._cluster(say, sign)
        with contextlib.closing(cluster.api), stop_signals() as signals:
            watch: JobWatch | None = None
            try:
                sign.give()  # before there is a process that would find the word of an abandoned one
                found, created = self._submitted(cluster, name, manifest, job.fingerprint(), say)
                if not created:
                    say("its log follows from the beginning")
                watch = JobWatch(cluster, found, self.settings.limits, say, _print, self.settings.last_lines)
                failure = self._watched(watch, sign)
                signals.hold()
            except BaseException as error:
                signals.hold()
                sign.end()
                stop = error.signal if isinstance(error, Stopped) else None
                if self._abandon(cluster, name, job.fingerprint(), watch, say, hasty=stop is not None):
                    sign.remove()
                if stop is None:
                    raise
                raise JobFailed(
                    f"{name}: was stopped by {stop.name} and deleted; run it again to go on from its last checkpoint."
                ) from None
            watch.finish_log(self.sleep, self.settings.round_seconds)
            if failure is not None:
                failure = watch.with_last_lines(failure)
            sign.end()
            if self._release(cluster, watch, say):
                sign.remove()
            if failure is not None:
                raise ClusterJobFailed(failure)

    def submit(self, job: JobSpec) -> Job:
        """Return when the cluster has accepted the job, or has it already; nothing follows it then.

        Raises:
            ConfigError, ClusterError: as `run`.
        """
        job, name, manifest, say = self._prepared(job)
        cluster = self._cluster(say, LauncherSign("", self.clock, say))
        with contextlib.closing(cluster.api):
            return self._submitted(cluster, name, manifest, job.fingerprint(), say)[0]

    def _prepared(self, job: JobSpec) -> tuple[JobSpec, str, Json, Callable[[str], None]]:
        """The whole job, its name, its manifest, and what prints a line about it."""
        job = self._completed(job)
        name = self.settings.name or job_name(job, self.settings.run)
        manifest = render(job, self.settings.namespace, name=name)
        if self.settings.pod:
            manifest["metadata"]["ownerReferences"] = self._owners()
        return job, name, manifest, lambda text: _print(f"{name}: {text}")

    def _cluster(self, say: Callable[[str], None], sign: LauncherSign) -> Cluster:
        def sleep(seconds: float) -> None:
            sign.give()  # a launcher that waits for the cluster's API is not gone
            self.sleep(seconds)

        patience = self.settings.limits.unreachable
        return Cluster(Api(self.settings.namespace, self.connect, patience, self.clock, sleep, self.jitter, say))

    def _completed(self, job: JobSpec) -> JobSpec:
        template = self.settings.template
        if template is None or job.image:
            return job
        return replace(
            template,
            name=job.name,
            module=job.module,
            arguments=job.arguments,
            nodes=job.nodes,
            processes_per_node=job.processes_per_node,
            environment={**template.environment, **job.environment},
        )

    def _owners(self) -> list[Json]:
        pod = self.settings.pod
        return [{"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}] if pod else []

    # Beginning

    def _submitted(self, cluster: Cluster, name: str, manifest: Json, fingerprint: str, say: Callable[[str], None]) -> tuple[Job, bool]:
        """The job as it was created, or the one that was there already, and whether it was created."""
        since = self.clock()
        while True:
            try:
                created = job_from(cluster.create_job(manifest))
            except Conflict:
                item = cluster.job(name)
            else:
                say(f"submitted to namespace {self.settings.namespace}")
                return created, True
            there = job_from(item) if item else None
            if there is not None and there.fingerprint != fingerprint:
                raise ConfigError(
                    f"job {name}: namespace {self.settings.namespace} has another job of this name; "
                    f"delete it (kubectl delete pytorchjob {name} -n {self.settings.namespace}) or give this one another name."
                )
            if there is not None and not there.deleting:
                if not there.is_finished or ("Succeeded" in there.conditions and self.settings.run):
                    self._own(cluster, name, say)
                    say("is there already with the same specification; taken over")
                    return there, False
                say("has ended before; replaced")
                cluster.delete_job(name, there.uid)
            if self.clock() - since > self.settings.limits.ended:
                raise ClusterError(f"job {name}: is being deleted and does not go; see kubectl describe pytorchjob {name} and run again.")
            cluster.api.sleep(self.settings.round_seconds)

    def _own(self, cluster: Cluster, name: str, say: Callable[[str], None]) -> None:
        if self.settings.pod is None:
            return
        try:
            cluster.own_job(name, self._owners())
        except ClusterError as error:
            say(f"keeps its former owner, with whose pod it will be deleted ({within(error)})")

    def _watched(self, watch: JobWatch, sign: LauncherSign) -> Failure | None:
        """Watch the job to its end: why it does not succeed, or None."""
        seconds = 0
        while True:
            sign.give()
            begun = self.clock()
            outcome = watch.look(seconds)
            if isinstance(outcome, Failure):
                return outcome
            if outcome is State.SUCCEEDED:
                return None
            seconds = self.settings.round_seconds
            # The watch of the pods lasts as long as a round, unless the cluster or a proxy ends it before.
            rest = begun + seconds - self.clock()
            if rest > 0:
                self.sleep(rest)

    # End

    def _release(self, cluster: Cluster, watch: JobWatch, say: Callable[[str], None]) -> bool:
        """See that a job that has ended, or is given up, holds nothing; whether the cluster did what that takes."""
        name, limit, job = watch.job.name, self.settings.limits.ended, watch.job
        end, pods = self.clock() + limit, JobPods(cluster.with_patience(limit), job)
        try:
            if not job.is_finished:
                cluster.with_patience(limit).delete_job(name, job.uid)
                say("deleted")
            while True:
                pods.update(0)
                holding = [pod for pod in pods.now.values() if pod.holds_resources]
                if not holding:
                    return True
                if self.clock() >= end:
                    break
                self.sleep(self.settings.round_seconds)
            if job.is_finished:
                cluster.with_patience(limit).delete_job(name, job.uid)
            where = ", ".join(f"{pod.name} on {pod.node or 'no node'}" for pod in holding)
            say(f"deleted; pods of it have still not ended after {duration(limit)} ({where})")
        except ClusterError as error:
            say(f"could not be cleaned up ({within(error)}); kubectl delete pytorchjob {name} -n {self.settings.namespace} does it")
            return False
        return True

    def _abandon(
        self, cluster: Cluster, name: str, fingerprint: str, watch: JobWatch | None, say: Callable[[str], None], *, hasty: bool
    ) -> bool:
        """Read what there is to read and delete the job; whether it is gone, or ends by itself.

        Args:
            cluster, name, fingerprint: where it is and what it is.
            watch: of it, or None: it may not have been created.
            say: gets a line about it.
            hasty: a signal asked this process to stop, and the next may kill it at any moment: deleting comes first, by one request, and
                the log after it, as far as pods still answer.
        """
        begun = self.clock()
        if not hasty:
            self._show_log(watch)
        brief = cluster.with_patience(max(0.0, _STOPPED_SECONDS - (self.clock() - begun)))
        try:
            if hasty and watch is not None:
                there: Job | None = watch.job
            else:
                # Where the request that creates the job was interrupted, the cluster alone knows whether it is there.
                item = brief.job(name)
                there = job_from(item) if item else None
            if there is not None and there.fingerprint == fingerprint and not there.is_finished:
                brief.delete_job(name, there.uid)
                say("deleted")
        except ClusterError as error:
            if watch is not None:
                say(f"could not be cleaned up ({within(error)}); kubectl delete pytorchjob {name} -n {self.settings.namespace} does it")
            return False
        if hasty:
            self._show_log(watch)
        return True

    def _show_log(self, watch: JobWatch | None) -> None:
        if watch is not None:
            with contextlib.suppress(ClusterError):
                watch.follow_log()


def _print(line: str) -> None:
    sys.stdout.write(f"{readable(line, sys.stdout)}\n")
    sys.stdout.flush()
