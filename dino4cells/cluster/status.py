"""What a person asks of a job that runs somewhere: how it stands, what it says, and that it be gone."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dino4cells.cluster import failures
from dino4cells.cluster.api import ClusterError, within
from dino4cells.cluster.client import Cluster
from dino4cells.cluster.logs import LogFollower, without_time
from dino4cells.cluster.objects import JOB_LABEL, Job, Pod, job_from, pod_from, rank_zero
from dino4cells.cluster.states import Limits, Observation, State, how_it_ended, observe, why_not_up
from dino4cells.cluster.watching import JobPods
from dino4cells.errors import ConfigError
from dino4cells.events import event_of, text_of

_TAIL_LINES = 50


@dataclass(frozen=True)
class PodStatus:
    """A pod of a job: its place in it (`master-0`), where it runs, how often it was started again, and what there is to say of it."""

    name: str
    place: str
    state: str
    node: str
    restarts: int
    reason: str


@dataclass(frozen=True)
class JobStatus:
    """How a job stands.

    Attributes:
        name, namespace: of the job.
        state: one of `states.State`, in words.
        detail: what there is to say of the state, or nothing.
        since: when it began (RFC 3339, UTC), or nothing where the cluster does not say.
        reason: why it does not go on, and what to do, in one sentence; or nothing.
        progress: the last line of its log that tells how far it is, else its last line, else nothing.
        pods: those that are there.
    """

    name: str
    namespace: str
    state: str
    detail: str
    since: str
    reason: str
    progress: str
    pods: tuple[PodStatus, ...]

    def lasted(self, now: datetime.datetime) -> str:
        """For how long it has been in its state, in words; nothing where that is not known."""
        if not self.since:
            return ""
        begun = datetime.datetime.fromisoformat(self.since.replace("Z", "+00:00"))
        return failures.duration(max(0.0, (now - begun).total_seconds()))


def job_named(cluster: Cluster, name: str) -> Job:
    """The job of this name.

    Raises:
        ConfigError: there is none.
        ClusterError: the cluster refuses to say, or does not answer.
    """
    item = cluster.job(name)
    if item is None:
        namespace = cluster.api.namespace
        raise ConfigError(
            f"job {name}: namespace {namespace} has no job of this name; see kubectl get pytorchjobs -n {namespace}, or give --namespace."
        )
    return job_from(item)


def status_of(cluster: Cluster, name: str, now: datetime.datetime, limits: Limits | None = None) -> JobStatus:
    """How a job stands.

    Args:
        cluster: that runs it.
        name: of the job.
        now: the time.
        limits: what is too long for the operator to take notice.

    Raises:
        ConfigError, ClusterError: as `job_named`.
    """
    job = job_named(cluster, name)
    pods = _pods_of(cluster, job)
    ran = "Running" in job.changed_at or "Restarting" in job.changed_at
    seen = observe(job, pods, State.RUNNING if ran else State.SUBMITTED)
    since = _since(seen.state, job, pods)
    limits = limits or Limits()
    if seen.state is State.SUBMITTED and since and _seconds(since, now) > limits.submitted:
        reason = failures.out_of_time(seen.state, job, pods, limits, cluster.api.namespace).sentence
    else:
        reason = _reason(seen, job, pods)
    return JobStatus(
        name=name,
        namespace=cluster.api.namespace,
        state=seen.state.value,
        detail=seen.detail,
        since=since,
        reason=reason,
        progress=_progress(cluster, job, pods),
        pods=tuple(_pod_status(pod) for pod in sorted(pods, key=lambda pod: (pod.role, pod.index))),
    )


def show_log(
    cluster: Cluster,
    name: str,
    show: Callable[[str], None],
    say: Callable[[str], None],
    *,
    place: str = "",
    follow: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    round_seconds: int = 2,
) -> None:
    """Show the log of a job, from the beginning as far as the cluster has kept it.

    Args:
        cluster: that runs it.
        name: of the job.
        show: gets each line.
        say: gets what there is to say beside the log.
        place: of the pod in the job (`worker-1`), or nothing: the one whose log tells how the job goes on.
        follow: until the job has ended; else what is there now.
        sleep, round_seconds: time, and how many whole seconds lie between two looks.

    Raises:
        ConfigError: there is no such job, or no such pod in it.
        ClusterError: the cluster refuses to show the log, or does not answer.
    """
    job = job_named(cluster, name)
    pods = JobPods(cluster, job)
    log = LogFollower(cluster, show, 1)
    while True:
        pods.update(0)
        pod = _chosen(job, list(pods.now.values()), place, follow)
        whole = log.follow(pod) if pod else True
        if not follow:
            if not whole:
                raise ClusterError(f"job {name}: its log cannot be read to its end ({log.problem}); run it again.")
            if not log.count:
                state = observe(job, list(pods.now.values()), State.SUBMITTED)
                say(f"{name}: has no log ({state.state.value}{f': {state.detail}' if state.detail else ''})")
            return
        if job.is_finished and whole:
            say(f"{name}: {'succeeded' if 'Succeeded' in job.conditions else 'failed'}")
            return
        sleep(round_seconds)
        item = cluster.job(name)
        if item is None or item["metadata"].get("uid", "") != job.uid:
            say(f"{name}: was deleted")
            return
        job = job_from(item)


def delete_job(cluster: Cluster, name: str) -> None:
    """Delete a job of this project with its pods; what it wrote stays.

    Raises:
        ConfigError: there is no such job, or it is somebody else's.
        ClusterError: the cluster refuses.
    """
    job = job_named(cluster, name)
    if not job.fingerprint:
        namespace = cluster.api.namespace
        raise ConfigError(f"job {name}: was not made by dino4cells; delete it by kubectl delete pytorchjob {name} -n {namespace}.")
    cluster.delete_job(name, job.uid)


def _chosen(job: Job, pods: Sequence[Pod], place: str, follow: bool) -> Pod | None:
    if not place:
        return rank_zero(job, pods)
    found = next((pod for pod in pods if _place(pod) == place), None)
    if found is None and not follow:
        places = ", ".join(sorted(map(_place, pods))) or "none"
        raise ConfigError(f"--pod: {job.name} has no pod {place}; it has {places}.")
    return found


def _pods_of(cluster: Cluster, job: Job) -> list[Pod]:
    items, _ = cluster.pods(f"{JOB_LABEL}={job.name}")
    return [pod for pod in map(pod_from, items) if pod.owner == job.uid]


def _place(pod: Pod) -> str:
    return f"{pod.role}-{pod.index}"


def _since(state: State, job: Job, pods: Sequence[Pod]) -> str:
    """When a state began, as well as the objects say it; times of the API are in UTC and compare as texts."""
    changed = job.changed_at
    ends = [pod.training.last_end for pod in pods if pod.training]
    times = {
        State.SUBMITTED: [job.made_at],
        State.QUEUED: [changed.get("Suspended", job.made_at)],
        State.SCHEDULING: [changed.get("Created", job.made_at), changed.get("Suspended", "")],
        State.RUNNING: [changed.get("Running", ""), *(pod.training.started_at for pod in pods if pod.training)],
        State.RESTARTING: [changed.get("Restarting", ""), *(end.finished_at for end in ends if end)],
        State.SUCCEEDED: [changed.get("Succeeded", "")],
        State.FAILED: [changed.get("Failed", "")],
    }[state]
    return max(times, default="")


def _seconds(since: str, now: datetime.datetime) -> float:
    return (now - datetime.datetime.fromisoformat(since.replace("Z", "+00:00"))).total_seconds()


def _reason(seen: Observation, job: Job, pods: Sequence[Pod]) -> str:
    """Why a job does not go on, where that is known."""
    if seen.state in (State.SUCCEEDED, State.SUBMITTED, State.QUEUED):
        return ""
    found = failures.mistake_of(pods) or failures.obstacle_of(pods)
    if found is None and seen.state is State.FAILED:
        found = failures.of_failed_job(job, pods)
    if found is None and seen.state is State.RESTARTING:
        found = failures.crash_of(pods)
    return found.sentence if found else ""


def _progress(cluster: Cluster, job: Job, pods: Sequence[Pod]) -> str:
    pod = rank_zero(job, pods)
    if pod is None or pod.training is None or not pod.training.log_of:
        return ""
    try:
        part = cluster.log(pod.name, tail=_TAIL_LINES)
    except ClusterError as error:
        return f"(the log cannot be read: {within(error)})"
    lines = [line for line in map(without_time, part.lines if part else ()) if line.strip()]
    told = (line for line in reversed(lines) if (event := event_of(line)) and event["event"] == "progress")
    return text_of(next(told, lines[-1] if lines else ""))


def _pod_status(pod: Pod) -> PodStatus:
    container = pod.training
    if pod.deleting:
        state = "ending"
    elif pod.phase in ("Succeeded", "Failed"):
        state = pod.phase.lower()
    elif container is not None and container.running:
        state = "running"
    elif container is not None and container.last_end is not None:
        state = "restarting" if container.last_end.exit_code else "succeeded"
    else:
        state = "starting" if pod.node else "scheduling"
    words = why_not_up([pod]).removeprefix(f"{pod.name}: ") if state in ("scheduling", "starting", "restarting") else ""
    ended = how_it_ended(pod).removeprefix(pod.name).removeprefix(": ") if state in ("failed", "restarting") else ""
    stopped = next((item.words for item in pod.containers if item.waiting and item.words and state != "restarting"), "")
    reason = "; ".join(part for part in (ended or pod.words, words, " ".join(stopped.split())) if part)
    return PodStatus(pod.name, _place(pod), state, pod.node, container.restarts if container else 0, reason)
