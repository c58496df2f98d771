"""Why a job does not succeed: from what the cluster says of it to one sentence, with what to do about it.

All functions here are pure; what they judge was seen by `watching`.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from dino4cells.cluster.local import AGENT_LINE
from dino4cells.cluster.objects import Container, Ended, Job, Pod
from dino4cells.cluster.reason import MISTAKE, OUTAGE
from dino4cells.cluster.states import Limits, State
from dino4cells.errors import Dino4CellsError, JobFailed
from dino4cells.events import text_of

IMAGE_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable"}
)
START_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
"""What no waiting mends."""

# The summary that torchrun ends with; it comes out itself with exit code 1, whatever the process did.
_ROOT_CAUSE = re.compile(r"Root Cause.*?^\s*exitcode\s*:\s*(-?\d+)", re.DOTALL | re.MULTILINE)
_KILLED = 128 + signal.SIGKILL
_TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Failure:
    """Why a job does not succeed.

    Attributes:
        sentence: what is wrong, where, and what to do.
        pod: that failed first, or nothing where it is none in particular.
        reason: in the cluster's word (`OOMKilled`, `ImagePullBackOff`, `Unschedulable`, `Evicted`), or nothing.
        exit_code: of the process that failed, or None.
        lines: the last ones of the pod's log; none where the sentence says all.
        container: identifier of the container whose log says more, or nothing.
    """

    sentence: str
    pod: str = ""
    reason: str = ""
    exit_code: int | None = None
    lines: tuple[str, ...] = ()
    container: str = ""

    def __str__(self) -> str:
        if not self.lines:
            return self.sentence
        return "\n".join([self.sentence, f"The last lines of {self.pod}:", *(f"  {line}" for line in self.lines)])


class ClusterJobFailed(JobFailed):
    """A job on a cluster did not succeed; `failure` holds what is known of it."""

    def __init__(self, failure: Failure) -> None:
        passing = failure.exit_code == os.EX_TEMPFAIL
        super().__init__(str(failure), os.EX_TEMPFAIL if passing else Dino4CellsError.exit_code)
        self.failure = failure


def mistake_of(pods: Sequence[Pod]) -> Failure | None:
    """What a process says that only its user can mend, so that starting it again is in vain."""
    for pod in pods:
        for end in _ends(pod):
            code = exit_code(end)
            sentence = own_sentence(end, MISTAKE)
            if sentence:
                return Failure(sentence, pod.name, end.reason, Dino4CellsError.exit_code)
            if code == Dino4CellsError.exit_code:
                what = f"{pod.name}: ended with exit code {code}, a mistake that starting again does not mend"
                sentence = f"{what}; its last lines say what to correct."
                return Failure(sentence, pod.name, end.reason, code, _lines(end.message), end.container_id)
    return None


def own_sentence(end: Ended, kind: str) -> str | None:
    """The sentence that a process left as its reason, of this kind; None where the cluster filled in the end of its log instead."""
    message = end.message.strip()
    return message[len(kind) :] if message.startswith(kind) and "\n" not in message else None


def exit_code(end: Ended) -> int:
    """The exit code of the process that failed first, which torchrun names and does not pass on; negative for a signal."""
    root = _ROOT_CAUSE.search(end.message)
    return int(root.group(1)) if root else end.exit_code


def obstacle_of(pods: Sequence[Pod]) -> Failure | None:
    """What keeps a pod from starting: its image, or a secret or configuration that is not there."""
    for pod in pods:
        for container in pod.containers:
            if container.waiting in IMAGE_REASONS:
                return Failure(_image(pod, container), pod.name, container.waiting)
            if container.waiting in START_REASONS:
                what = f"{pod.name}: cannot start ({container.waiting}: {_clause(container.words)})"
                return Failure(f"{what}; create what is missing, or correct its name.", pod.name, container.waiting)
    return None


def _image(pod: Pod, container: Container) -> str:
    words = f": {_clause(container.words)}" if container.words else ""
    return (
        f"{pod.name}: the image {container.image} cannot be pulled ({container.waiting}{words}); "
        "correct its name, or give a pull secret that may read it."
    )


def crash_of(pods: Sequence[Pod]) -> Failure | None:
    """The pod that failed first: the others lose their connection to it and fail after it.

    Memory and eviction come before all else, since they leave no trace in any log; then whatever ended first in the last round; pods
    that the cluster stopped come last.
    """
    ended = [(pod, end) for pod in pods for end in [_failed_end(pod)] if end is not None]
    if not ended:
        return None
    pod, end = min(ended, key=lambda pair: (_rank(*pair), pair[1].finished_at, pair[0].role != "master", pair[0].index))
    outage = own_sentence(end, OUTAGE)
    if outage:
        return Failure(f"{pod.name}: its store was away{_restarts(pod)}: {outage}", pod.name, "StoreUnavailable", os.EX_TEMPFAIL)
    sentence, code = _crash_sentence(pod, end)
    waiting = pod.training.waiting if pod.training and end.reason == "Error" else ""
    return Failure(sentence, pod.name, pod.reason or waiting or end.reason, code, _lines(end.message), end.container_id)


def _crash_sentence(pod: Pod, end: Ended) -> tuple[str, int | None]:
    code = exit_code(end)
    more_memory = "raise the memory, or lower the batch size or the number of workers"
    if pod.reason:
        where = f" from node {pod.node}" if pod.node else ""
        what = f"{pod.name}: was {'evicted' if pod.reason == 'Evicted' else f'ended ({pod.reason})'}{where}: {_clause(pod.words)}"
        return f"{what}; run it again, with more of what was short.", None
    if end.reason == "OOMKilled":
        code = end.exit_code
        return f"{pod.name}: was killed for using more memory than its limit (OOMKilled, exit code {code}); {more_memory}.", code
    if code in (_KILLED, -signal.SIGKILL):
        return f"{pod.name}: a process was killed (exit code {code}), most often for want of memory; {more_memory}.", code
    how = f"by {_signal_name(code)} (exit code {code})" if code < 0 or code > 128 else f"with exit code {code}"
    return f"{pod.name}: a process ended {how}{_restarts(pod)}; its last lines say why.", code


def of_failed_job(job: Job, pods: Sequence[Pod]) -> Failure:
    """Why a job failed that the operator calls failed."""
    crash = crash_of(pods)
    if crash is not None:
        return crash
    words = _clause(job.conditions.get("Failed", "")) or "the operator gives no reason"
    return Failure(f"{job.name}: failed and left no pod that says why ({words}); look at kubectl describe pytorchjob {job.name}.")


def out_of_time(state: State, job: Job, pods: Sequence[Pod], limits: Limits, namespace: str, event: str = "") -> Failure:
    """What to say of a job that stayed in a state for longer than it may.

    Args:
        state: it stayed in.
        job, pods: as they are.
        limits: that hold.
        namespace: it is in.
        event: newest warning that the cluster has given about it, or nothing.
    """
    time = duration(limits.of(state))
    if state is State.SUBMITTED:
        return Failure(
            f"{job.name}: no operator took notice of the job within {time}; install the Training Operator (v1), "
            f"or let it watch the namespace {namespace}.",
            reason="NoOperator",
        )
    if state is State.QUEUED:
        where = f"the queue {job.queue} has not admitted it" if job.queue else "it is suspended"
        return Failure(
            f"{job.name}: did not start within {time}, since {where}; see kubectl get workloads -n {namespace}.", reason="Queued"
        )
    if state is State.RUNNING:
        return Failure(f"{job.name}: ran for longer than {time}; raise that limit, or train for less.", reason="DeadlineExceeded")
    if state is State.RESTARTING:
        crash = crash_of(pods)
        if crash is not None:
            return crash
    return _not_up(job, pods, time, event)


def _not_up(job: Job, pods: Sequence[Pod], time: str, event: str) -> Failure:
    obstacle = obstacle_of(pods)
    if obstacle is not None:
        return obstacle
    for pod in pods:
        if pod.unschedulable:
            what = f"{pod.name}: found no node within {time} ({_clause(pod.unschedulable)})"
            return Failure(f"{what}; ask for less, or wait until there is room.", pod.name, "Unschedulable")
    waiting = next((pod for pod in pods if not pod.is_up), None)
    up = sum(pod.is_up for pod in pods)
    what = f"{job.name}: only {up} of {job.pods} pods ran within {time}"
    words = f" ({_clause(event)})" if event else ""
    return Failure(f"{what}{words}; look at kubectl describe for those that do not.", waiting.name if waiting else "", "NotStarted")


def stalled(job: Job, pod: Pod | None, limits: Limits, lines: Sequence[str]) -> Failure:
    """What to say of a job that runs and says nothing."""
    name = pod.name if pod else job.name
    what = f"{name}: has said nothing for {duration(limits.stalled)} although it runs, as when one process waits for another"
    return Failure(f"{what}; see where it hangs, or raise that limit.", name, "Stalled", None, tuple(lines))


def _ends(pod: Pod) -> list[Ended]:
    container = pod.training
    ends = [container.ended, container.ended_before] if container else []
    return [end for end in ends if end is not None and end.exit_code != 0]


def _failed_end(pod: Pod) -> Ended | None:
    ends = _ends(pod)
    if ends:
        return ends[0]
    return Ended(0, pod.reason, pod.words, "", "") if pod.phase == "Failed" and pod.reason else None


def _rank(pod: Pod, end: Ended) -> int:
    if end.reason == "OOMKilled" or pod.reason:
        return 0
    return 2 if pod.deleting and end.exit_code in (_KILLED, _TERMINATED) else 1


def _restarts(pod: Pod) -> str:
    count = pod.training.restarts if pod.training else 0
    loop = " (CrashLoopBackOff)" if pod.training and pod.training.waiting == "CrashLoopBackOff" else ""
    return (f" after {count} restart{'s' if count > 1 else ''}" if count else "") + loop


def _signal_name(code: int) -> str:
    number = -code if code < 0 else code - 128
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _lines(text: str) -> tuple[str, ...]:
    return tuple(text.rstrip().splitlines())


def own_words(lines: Sequence[str], count: int) -> tuple[str, ...]:
    """The last lines that a process wrote before torchrun gave its own account of the failure, which says less."""
    begin = next((number for number, line in enumerate(lines) if (match := AGENT_LINE.match(line)) and match["level"] == "E"), None)
    own = [line for line in lines[:begin] if AGENT_LINE.match(line) is None]
    return tuple(map(text_of, (own or list(lines))[-count:]))


def _clause(words: str) -> str:
    """The cluster's words as a part of a sentence."""
    return " ".join(words.split()).rstrip(".")


def duration(seconds: float) -> str:
    """`90 seconds`, `30 minutes`, `7 days`: in the largest unit that leaves at least two, or one exactly."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size or seconds == size:
            count = round(seconds / size)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{seconds:.0f} second{'s' if round(seconds) != 1 else ''}"
