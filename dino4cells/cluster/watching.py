"""Watches one job: its pods, its state and for how long, its log, and whether it is to be given up.

One thread, one round every few seconds: what became of the pods since the last round (a watch that the cluster ends after these seconds,
so that no change is missed, not even the last one of a pod that is deleted), the job itself, and what is new in the log. Nothing waits
without an end, nothing runs beside it, and time comes from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dino4cells.cluster import failures
from dino4cells.cluster.api import ClusterError, Expired, within
from dino4cells.cluster.client import Cluster
from dino4cells.cluster.failures import Failure
from dino4cells.cluster.logs import LogFollower, without_time
from dino4cells.cluster.objects import JOB_LABEL, Job, Pod, job_from, pod_from, rank_zero
from dino4cells.cluster.states import Limits, Observation, State, observe, why_not_up

_DETAIL_SECONDS = 60.0
_EVENT_SECONDS = 30.0
_PATIENT_ROUNDS = 3
_AGENT_LINES = 60
"""So many lines, at most, torchrun ends a failed process's log with."""


class JobPods:
    """The pods of a job as they are, and those that are gone as they last were; not those of an earlier job of its name."""

    def __init__(self, cluster: Cluster, job: Job) -> None:
        self._cluster, self._job, self._selector, self._version = cluster, job.uid, f"{JOB_LABEL}={job.name}", ""
        self.now: dict[str, Pod] = {}
        self._gone: dict[str, Pod] = {}

    @property
    def all(self) -> list[Pod]:
        """Those that are and those that are gone."""
        return [*self.now.values(), *self._gone.values()]

    def update(self, seconds: int) -> None:
        """Take in what became of them; waits for up to these seconds, or not at all for 0."""
        if self._version and seconds:
            try:
                events, self._version = self._cluster.watch_pods(self._selector, self._version, seconds)
            except Expired:
                self._version = ""
            else:
                for event in events:
                    pod = pod_from(event["object"])
                    if pod.owner == self._job:
                        self._take(pod, event["type"] == "DELETED")
                return
        items, self._version = self._cluster.pods(self._selector)
        pods = {pod.name: pod for pod in map(pod_from, items) if pod.owner == self._job}
        for pod in list(self.now.values()):
            if pod.name not in pods:
                self._take(pod, True)
        for pod in pods.values():
            self._take(pod, False)

    def _take(self, pod: Pod, deleted: bool) -> None:
        before = self.now.get(pod.name)
        if before is not None and (deleted or before.uid != pod.uid):
            self._gone[before.uid] = pod if before.uid == pod.uid else before
            del self.now[pod.name]
        if not deleted:
            self.now[pod.name] = pod


@dataclass
class _Since:
    """When something that lasts began."""

    state: float
    told: float
    obstacle: float | None = None
    event: float = float("-inf")


class JobWatch:
    """One job, watched.

    Args:
        cluster: that runs it.
        job: as it was created or found.
        limits: how long it may stay where.
        say: gets a line for each change of its state.
        show: gets each line of its log.
        keep: so many last lines of a log make part of a failure.
    """

    def __init__(
        self, cluster: Cluster, job: Job, limits: Limits, say: Callable[[str], None], show: Callable[[str], None], keep: int
    ) -> None:
        self.job, self.pods = job, JobPods(cluster, job)
        self._cluster, self._limits, self._say, self._keep = cluster, limits, say, keep
        # A log that cannot be read is read in the next round: a node that is gone must not hold up what tells so.
        self.log = LogFollower(cluster.with_patience(0), show, keep + _AGENT_LINES)
        self._seen = Observation(State.SUBMITTED)
        now = cluster.api.clock()
        self._since = _Since(now, now)
        self._round, self._ran, self._quiet, self._unread, self._event = now, 0.0, now, 0, ""

    def look(self, seconds: int) -> Failure | State:
        """One round, of about these seconds: where the job stands, or why it is given up.

        Raises:
            ClusterError: the cluster refuses to answer, or did not answer for too long.
        """
        self.pods.update(seconds)
        item = self._cluster.job(self.job.name)
        if item is None or item["metadata"].get("uid", "") != self.job.uid:
            self.follow_log()
            name = self.job.name
            return Failure(f"{name}: was deleted by someone else; run it again to go on from its last checkpoint.", reason="Deleted")
        self.job = job_from(item)
        self._observe()
        self.follow_log()
        state = self._seen.state
        if state is State.SUCCEEDED:
            return state
        if state is State.FAILED:
            self.pods.update(1)  # the operator has deleted some of them with the failure; this tells how they ended
            return failures.mistake_of(self.pods.all) or failures.of_failed_job(self.job, self.pods.all)
        return self._given_up() or state

    def _rank_zero(self) -> Pod | None:
        return rank_zero(self.job, self.pods.now.values())

    def follow_log(self) -> None:
        """Show what is new in the log."""
        pod, count, now = self._rank_zero(), self.log.count, self._cluster.api.clock()
        if pod is None:
            return
        if self.log.follow(pod):
            self._unread = 0
        else:
            self._quiet = now  # nothing is known of what it says
            self._unread += 1
            if self._unread == _PATIENT_ROUNDS:
                self._say(f"the log of {pod.name} cannot be read just now ({self.log.problem}); the job goes on")
        if self.log.count > count:
            self._quiet = now

    def finish_log(self, sleep: Callable[[float], None], pause: float) -> None:
        """Show the log to its end, in a few tries; what becomes of the job does not hang on it."""
        for _ in range(_PATIENT_ROUNDS):
            try:
                self.pods.update(1)
                self.follow_log()
            except ClusterError as error:
                self._say(f"the end of the log cannot be read ({within(error)})")
                return
            if not self.log.problem:
                return
            sleep(pause)

    def with_last_lines(self, failure: Failure) -> Failure:
        """The same failure with the last lines of the container that it names, where the log says more than the failure does."""
        if not failure.container:
            return failure
        lines = self.log.last_lines_of(failure.container) or self._tail(failure) or failure.lines
        return replace(failure, lines=failures.own_words(lines, self._keep))

    def _tail(self, failure: Failure) -> tuple[str, ...]:
        """The end of the log of a pod that was not followed."""
        pod = self.pods.now.get(failure.pod)
        container = pod.training if pod else None
        if container is None or failure.container not in (container.log_of, container.log_before):
            return ()
        try:
            part = self._cluster.with_patience(0).log(
                failure.pod, previous=container.log_of != failure.container, tail=self._keep + _AGENT_LINES
            )
        except ClusterError:  # what the pod left as its message stands in for it
            return ()
        return tuple(map(without_time, part.lines)) if part else ()

    def _observe(self) -> None:
        now, before = self._cluster.api.clock(), self._seen
        if before.state is State.RUNNING:
            self._ran += now - self._round
        self._round = now
        seen = observe(self.job, list(self.pods.now.values()), before.state)
        if seen.state is State.SCHEDULING and now - self._since.state >= _EVENT_SECONDS:
            self._event = self._newest_warning(now)
            if self._event and not why_not_up(self.pods.now.values()):
                seen = Observation(seen.state, self._event)
        if seen.state is not before.state:
            self._since.state, self._quiet = now, now
        elif seen.detail == before.detail or now - self._since.told < _DETAIL_SECONDS:
            return
        self._seen, self._since.told = seen, now
        if seen.state is not State.FAILED:
            self._say(f"{seen.state.value} ({seen.detail})" if seen.detail else seen.state.value)

    def _newest_warning(self, now: float) -> str:
        """The cluster's newest warning about the job or a pod of it, asked for now and then; some roles may not read those."""
        if now - self._since.event < _EVENT_SECONDS:
            return self._event
        self._since.event = now
        try:
            events = self._cluster.with_patience(0).warnings()
        except ClusterError:
            return self._event
        name = self.job.name
        # The scheduler's word stands in the pods, as long as it holds.
        mine = [event for event in events if event.get("reason") != "FailedScheduling" and _is_about(event, name)]
        newest = max(mine, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""), default=None)
        return " ".join(str(newest.get("message", "")).split()) if newest else ""

    def _given_up(self) -> Failure | None:
        now, state, limits = self._cluster.api.clock(), self._seen.state, self._limits
        mistake = failures.mistake_of(self.pods.all)
        if mistake is not None:
            return mistake
        obstacle = failures.obstacle_of(list(self.pods.now.values()))
        if obstacle is None:
            self._since.obstacle = None
        else:
            began = self._since.obstacle = now if self._since.obstacle is None else self._since.obstacle
            if obstacle.reason in failures.HOPELESS or now - began >= limits.blocked:
                return obstacle
        lasted = self._ran if state is State.RUNNING else now - self._since.state
        if lasted >= limits.of(state):
            event = self._newest_warning(now) if state in (State.SCHEDULING, State.RESTARTING) else ""
            return failures.out_of_time(state, self.job, self.pods.all, limits, self._cluster.api.namespace, event)
        if state is State.RUNNING and now - self._quiet >= limits.stalled:
            return failures.stalled(self.job, self._rank_zero(), limits, self.log.last_lines[-self._keep :])
        return None


def _is_about(event: Mapping[str, Any], job: str) -> bool:
    """Whether an event is about a job or one of its pods, whose names begin with that of the job."""
    return f"{event.get('involvedObject', {}).get('name', '')}-".startswith(f"{job}-")
