"""In which state a job is, as a function of what the cluster says of it, and how long it may stay there."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass

from dino4cells.cluster.objects import Job, Pod

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


class State(enum.Enum):
    """Where a job stands, as a person would say it."""

    SUBMITTED = "submitted"
    QUEUED = "queued"
    SCHEDULING = "scheduling"
    RUNNING = "running"
    RESTARTING = "restarting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Limits:
    """How long, in seconds, a job may stay in each state before its launcher gives it up; `math.inf` where it may stay for ever.

    Attributes:
        submitted: until the operator takes notice of it.
        queued: suspended, until a queue admits it.
        scheduling: until all pods run: a free node, the image pulled.
        running: all the time together in which it ran.
        restarting: until all pods run again.
        stalled: while it runs, without a line in its log.
        blocked: with an image that cannot be pulled, or a secret or configuration that is not there.
        ended: after its end, until its pods are gone.
        unreachable: without an answer of the cluster's API.
    """

    submitted: float = 90.0
    queued: float = 7 * _DAY
    scheduling: float = _HOUR
    running: float = 14 * _DAY
    restarting: float = 30 * _MINUTE
    stalled: float = _HOUR
    blocked: float = 3 * _MINUTE
    ended: float = _MINUTE
    unreachable: float = 15 * _MINUTE

    def of(self, state: State) -> float:
        """The limit of one state."""
        return {
            State.SUBMITTED: self.submitted,
            State.QUEUED: self.queued,
            State.SCHEDULING: self.scheduling,
            State.RUNNING: self.running,
            State.RESTARTING: self.restarting,
        }.get(state, self.ended)


@dataclass(frozen=True)
class Observation:
    """A state, and in few words what a person would want to know of it."""

    state: State
    detail: str = ""


def observe(job: Job, pods: Collection[Pod], before: State) -> Observation:
    """The state of a job.

    The job's own conditions say less than one would think: a job whose image does not exist is `Created` for ever, one whose workers
    crash again and again is `Running`. So the conditions decide only on the beginning and the end, and the pods on what lies between.

    Args:
        job, pods: as they are now.
        before: the state so far; a job that ran and does not run is restarting, one that never ran is being scheduled.
    """
    if "Succeeded" in job.conditions:
        return Observation(State.SUCCEEDED)
    if "Failed" in job.conditions:
        return Observation(State.FAILED, job.conditions["Failed"])
    if not job.conditions:
        return Observation(State.SUBMITTED)
    if job.suspended or "Suspended" in job.conditions:
        return Observation(State.QUEUED, f"in queue {job.queue}" if job.queue else "suspended")
    up = sum(pod.is_up for pod in pods)
    crashed = [pod for pod in pods if _is_down(pod)]
    if crashed or ("Restarting" in job.conditions and up < job.pods):
        return Observation(State.RESTARTING, "; ".join(map(how_it_ended, crashed)) or f"{up} of {_pods(job.pods)} up")
    if up >= job.pods:
        return Observation(State.RUNNING, _pods(up))
    state = State.RESTARTING if before in (State.RUNNING, State.RESTARTING) else State.SCHEDULING
    return Observation(state, why_not_up(pods) or f"{up} of {_pods(job.pods)} up")


def how_it_ended(pod: Pod) -> str:
    """`pod: exit code 1`, with the cluster's word for it where that says more."""
    if pod.reason:
        return f"{pod.name}: {pod.reason}"
    end = pod.training.last_end if pod.training else None
    if end is None:
        return pod.name
    word = end.reason if end.reason not in ("", "Error", "Completed") else ""
    return f"{pod.name}: {word}{' with ' if word else ''}exit code {end.exit_code}"


def _is_down(pod: Pod) -> bool:
    """Whether its process has failed and does not run again yet."""
    container = pod.training
    if pod.phase == "Failed":
        return True
    if container is None or container.running:
        return False
    end = container.last_end
    return end is not None and end.exit_code != 0


def why_not_up(pods: Collection[Pod]) -> str:
    """What keeps a pod from starting, in the scheduler's words or the cluster's one; nothing where there is nothing to say."""
    for pod in pods:
        if pod.unschedulable:
            return pod.unschedulable
    for pod in pods:
        for container in pod.containers:
            if container.waiting not in ("", "PodInitializing", "ContainerCreating"):
                return f"{pod.name}: {container.waiting}"
    return ""


def _pods(count: int) -> str:
    return f"{count} pod{'s' if count != 1 else ''}"
