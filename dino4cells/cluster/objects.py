"""What a cluster says of a job and its pods, read out of the objects of its API into the few facts that decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dino4cells.cluster.pytorchjob import CONTAINER, FINGERPRINT

JOB_LABEL = "training.kubeflow.org/job-name"
ROLE_LABEL = "training.kubeflow.org/replica-type"
INDEX_LABEL = "training.kubeflow.org/replica-index"

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a container ended: its exit code, the cluster's word for it (`Error`, `OOMKilled`), and what it left as its message."""

    exit_code: int
    reason: str
    message: str
    finished_at: str
    container_id: str


@dataclass(frozen=True)
class Container:
    """A container of a pod.

    Attributes:
        name, image: as in the pod's template.
        container_id: of the newest one that was started in this place; empty before the first.
        restarts: how many were started after the first.
        running: whether one runs now.
        started_at: since when, or nothing.
        waiting, words: why none runs (`ImagePullBackOff`, `CrashLoopBackOff`), in one word and in the cluster's sentence.
        ended: how the newest one ended, or None.
        ended_before: how the one before that ended, or, while the place waits, the newest.
    """

    name: str
    image: str
    container_id: str = ""
    restarts: int = 0
    running: bool = False
    started_at: str = ""
    waiting: str = ""
    words: str = ""
    ended: Ended | None = None
    ended_before: Ended | None = None

    @property
    def log_of(self) -> str:
        """Identifier of the container whose log the API gives now; empty where there is none."""
        if self.running:
            return self.container_id
        last = self.ended or self.ended_before
        return last.container_id if last else ""

    @property
    def log_before(self) -> str:
        """Identifier of the container whose log the API gives as the previous one; empty where there is none."""
        return self.ended_before.container_id if self.ended_before else ""

    @property
    def last_end(self) -> Ended | None:
        """How it ended most recently, or None."""
        return self.ended or self.ended_before


@dataclass(frozen=True)
class Pod:
    """A pod of a job.

    Attributes:
        name, uid: a pod that was made anew has the same name and another uid.
        owner: uid of its job.
        role, index: `master` or `worker`, and the number among those.
        phase: `Pending`, `Running`, `Succeeded` or `Failed`.
        reason, words: of the pod itself (`Evicted`).
        node: where it runs, or nothing.
        unschedulable: the scheduler's words, where it found no node.
        deleting: it is being deleted.
        containers: those that prepare it and the training container.
    """

    name: str
    uid: str
    owner: str
    role: str
    index: int
    phase: str
    reason: str = ""
    words: str = ""
    node: str = ""
    unschedulable: str = ""
    deleting: bool = False
    containers: tuple[Container, ...] = ()

    @property
    def training(self) -> Container | None:
        """The container that trains, once the pod is on a node."""
        return next((container for container in self.containers if container.name == CONTAINER), None)

    @property
    def is_up(self) -> bool:
        """Whether its process runs, or has done its work."""
        container = self.training
        if container is None or self.deleting:
            return False
        return container.running or (container.ended is not None and container.ended.exit_code == 0)

    @property
    def holds_resources(self) -> bool:
        """Whether it has, or is about to get, a place on a node."""
        return self.phase not in ("Succeeded", "Failed")


@dataclass(frozen=True)
class Job:
    """A PyTorchJob.

    Attributes:
        name, uid: a job that was made anew has the same name and another uid.
        fingerprint: of the specification that it was rendered from, or nothing.
        conditions: messages of the conditions that hold (`Created`, `Running`, `Restarting`, `Suspended`, `Succeeded`, `Failed`).
        suspended: it is not to run now.
        queue: that admits it, or nothing.
        made_at: when it was created (RFC 3339).
        changed_at: when each of its conditions last began or ceased to hold.
        pods: with how many it can work.
        leader: role of the pod that speaks for all, `master` or, where there is none, `worker`.
        deleting: it is being deleted.
    """

    name: str
    uid: str
    fingerprint: str
    conditions: Mapping[str, str]
    suspended: bool
    queue: str
    pods: int
    leader: str
    deleting: bool
    made_at: str = ""
    changed_at: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """Whether it has succeeded or failed."""
        return "Succeeded" in self.conditions or "Failed" in self.conditions


def job_from(item: Object) -> Job:
    """A PyTorchJob out of the API's object."""
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    replicas = sum(int(part.get("replicas", 1)) for part in spec["pytorchReplicaSpecs"].values())
    elastic = spec.get("elasticPolicy") or {}
    return Job(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        fingerprint=(metadata.get("annotations") or {}).get(FINGERPRINT, ""),
        conditions={part["type"]: part.get("message", "") for part in status.get("conditions") or () if part.get("status") == "True"},
        suspended=bool((spec.get("runPolicy") or {}).get("suspend")),
        queue=(metadata.get("labels") or {}).get("kueue.x-k8s.io/queue-name", ""),
        leader="master" if "Master" in spec["pytorchReplicaSpecs"] else "worker",
        pods=int(elastic.get("minReplicas") or replicas),
        deleting="deletionTimestamp" in metadata,
        made_at=metadata.get("creationTimestamp", ""),
        changed_at={part["type"]: part.get("lastTransitionTime") or "" for part in status.get("conditions") or ()},
    )


def pod_from(item: Object) -> Pod:
    """A pod out of the API's object."""
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    labels = metadata.get("labels") or {}
    scheduled: Object = next((part for part in status.get("conditions") or () if part.get("type") == "PodScheduled"), {})
    refused = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    images = {part["name"]: part.get("image", "") for part in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]}
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return Pod(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        owner=next((owner["uid"] for owner in metadata.get("ownerReferences") or () if owner.get("controller")), ""),
        role=labels.get(ROLE_LABEL, "").lower(),
        index=int(labels.get(INDEX_LABEL, 0)),
        phase=status.get("phase", "Pending"),
        reason=status.get("reason", ""),
        words=status.get("message", ""),
        node=spec.get("nodeName", ""),
        unschedulable=(scheduled.get("message") or "no node fits") if refused else "",
        deleting="deletionTimestamp" in metadata,
        containers=tuple(_container(part, images) for part in statuses),
    )


def _container(status: Object, images: Mapping[str, str]) -> Container:
    state, before = status.get("state") or {}, status.get("lastState") or {}
    waiting = state.get("waiting") or {}
    return Container(
        name=status["name"],
        image=images.get(status["name"]) or status.get("image", ""),
        container_id=status.get("containerID", ""),
        restarts=int(status.get("restartCount", 0)),
        running="running" in state,
        started_at=(state.get("running") or {}).get("startedAt") or "",
        waiting=waiting.get("reason", ""),
        words=waiting.get("message", ""),
        ended=_ended(state.get("terminated"), status),
        ended_before=_ended(before.get("terminated"), {}),
    )


def _ended(terminated: Object | None, status: Object) -> Ended | None:
    if not terminated:
        return None
    return Ended(
        exit_code=int(terminated.get("exitCode", 0)),
        reason=terminated.get("reason", ""),
        message=terminated.get("message", ""),
        finished_at=terminated.get("finishedAt") or "",
        container_id=terminated.get("containerID") or status.get("containerID", ""),
    )


def rank_zero(job: Job, pods: Iterable[Pod]) -> Pod | None:
    """The pod whose log tells how a job goes on: the master, or worker 0 of an elastic job, which has none."""
    return next((pod for pod in pods if pod.role == job.leader and pod.index == 0), None)
