"""What a cluster holds in tests: PyTorchJobs, pods, their logs, events, and time that a test moves.

A test plays the Training Operator, the scheduler and the kubelet by calling its methods; what a launcher is told of it, `kubernetes_server`
answers.
"""

from __future__ import annotations

import copy
import datetime
import itertools
import threading
from collections.abc import Callable
from typing import Any

Object = dict[str, Any]
CONTAINER = "pytorch"
NAMESPACE = "lab"
BEGIN = datetime.datetime(2026, 1, 1, 12, 0, 0, tzinfo=datetime.timezone.utc)


class Time:
    """Time that passes when somebody sleeps, and what happens meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, Callable[[], object]]] = []

    def clock(self) -> float:
        return self.now

    def at(self, when: float, *actions: Callable[[], object]) -> None:
        """Have something happen at a time."""
        self._due.extend((when, next(self._numbers), action) for action in actions)

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        assert next(self._numbers) < 20_000, "sleeps without end"
        end = self.now + seconds
        while self._due and min(self._due)[0] <= end:
            first = min(self._due, key=lambda due: due[:2])
            self._due.remove(first)
            self.now = max(self.now, first[0])
            first[2]()
        self.now = max(self.now, end)


class PlayedCluster:
    """The objects of one namespace, with their history."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.jobs: dict[str, Object] = {}
        self.pods: dict[str, Object] = {}
        self.events: list[Object] = []
        self.logs: dict[str, list[tuple[datetime.datetime, str, bytes]]] = {}
        self.objects: dict[str, Object] = {}
        """Any other objects, by their paths."""
        self.slow_to_collect = False
        self.deleted: list[str] = []
        self.lock = threading.RLock()
        self._version = 100
        self._history: list[tuple[int, str, Object]] = []
        self._forgotten = 0
        self._uids = itertools.count(1)

    # What the operator does

    @property
    def job(self) -> Object:
        """The only job."""
        (job,) = self.jobs.values()
        return job

    def condition(self, kind: str, message: str = "", replaces: str = "") -> None:
        """Give the job a condition, which may end another."""
        with self.lock:
            conditions = self.job.setdefault("status", {}).setdefault("conditions", [])
            for condition in conditions:
                if condition["type"] in (kind, replaces):
                    condition.update(status="False", lastTransitionTime=self._stamp())
            reason, when = f"PyTorchJob{kind}", self._stamp()
            conditions.append({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": when})

    def suspend(self, value: bool) -> None:
        self.job["spec"]["runPolicy"]["suspend"] = value

    def create_pods(self) -> None:
        """Create the pods of the job."""
        with self.lock:
            self.condition("Created", "PyTorchJob is created.")
            for role, replicas in self.job["spec"]["pytorchReplicaSpecs"].items():
                for index in range(replicas["replicas"]):
                    self.create_pod(role.lower(), index)

    def create_pod(self, role: str, index: int = 0) -> None:
        """Create one pod of the job."""
        with self.lock:
            job = self.job
            name = f"{job['metadata']['name']}-{role}-{index}"
            spec = copy.deepcopy(job["spec"]["pytorchReplicaSpecs"][role.capitalize()]["template"]["spec"])
            if role == "worker" and "Master" in job["spec"]["pytorchReplicaSpecs"]:
                spec["initContainers"] = [{"name": "init-pytorch", "image": "alpine:3.10"}]
            labels = {
                "training.kubeflow.org/job-name": job["metadata"]["name"],
                "training.kubeflow.org/replica-type": role,
                "training.kubeflow.org/replica-index": str(index),
            }
            if role == "master":
                labels["training.kubeflow.org/job-role"] = "master"
            owner = {"kind": "PyTorchJob", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"], "controller": True}
            metadata = {"name": name, "namespace": NAMESPACE, "uid": self._uid(), "labels": labels, "ownerReferences": [owner]}
            self.pods[name] = {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}
            self._happened("ADDED", self.pods[name])

    # What the scheduler and the kubelet do

    def pod(self, role: str = "master", index: int = 0) -> Object:
        """A pod of the job."""
        return next(pod for name, pod in self.pods.items() if name.endswith(f"-{role}-{index}"))

    def unschedulable(self, words: str, role: str = "master", index: int = 0) -> None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
        self._status(role, index, conditions=[condition])

    def waits(self, reason: str, words: str = "", role: str = "master", index: int = 0, *, container: str = CONTAINER) -> None:
        """A container cannot be started."""
        status = {"name": container, "restartCount": 0, "state": {"waiting": {"reason": reason, "message": words}}, "lastState": {}}
        kind = "containerStatuses" if container == CONTAINER else "initContainerStatuses"
        self._status(role, index, phase="Pending", **{kind: [status]})

    def runs(self, role: str = "master", index: int = 0) -> None:
        """The container starts, for the first time or again."""
        with self.lock:
            pod = self.pod(role, index)
            before = self._container(pod)
            restarts = before["restartCount"] + 1 if before and before.get("containerID") else 0
            last = (before.get("state", {}).get("terminated") or before.get("lastState", {}).get("terminated")) if before else None
            identifier = f"containerd://{pod['metadata']['uid']}-{restarts}"
            self.logs[identifier] = []
            status = {
                "name": CONTAINER,
                "restartCount": restarts,
                "containerID": identifier,
                "state": {"running": {"startedAt": self._stamp()}},
                "lastState": {"terminated": last} if last else {},
            }
            pod["spec"]["nodeName"] = "gpu-3"
            self._status(role, index, phase="Running", conditions=[{"type": "PodScheduled", "status": "True"}], containerStatuses=[status])

    def all_run(self) -> None:
        """All containers start."""
        for pod in list(self.pods.values()):
            labels = pod["metadata"]["labels"]
            self.runs(labels["training.kubeflow.org/replica-type"], int(labels["training.kubeflow.org/replica-index"]))
        self.condition("Running", "PyTorchJob is running.", replaces="Restarting")

    def writes(
        self, *texts: str, role: str = "master", index: int = 0, nanoseconds: int | None = None, ago: float = 0, zone: str = "Z"
    ) -> None:
        """The process writes lines; all at the same nanosecond where that is given, `ago` seconds before now."""
        with self.lock:
            log = self.logs[self._container(self.pod(role, index))["containerID"]]
            now = BEGIN + datetime.timedelta(seconds=self.time.now - ago)
            for number, text in enumerate(texts):
                fraction = nanoseconds if nanoseconds is not None else int(now.microsecond * 1000) + len(log) + number
                local = now if zone == "Z" else now.astimezone(datetime.datetime.fromisoformat(f"2026-01-01T00:00:00{zone}").tzinfo)
                stamp = f"{local:%Y-%m-%dT%H:%M:%S}.{fraction:09d}{zone}"
                log.append((now.replace(microsecond=0), stamp, text.encode()))

    def ends(
        self, code: int, role: str = "master", index: int = 0, *, reason: str = "", message: str = "", phase: str = "", again: str = ""
    ) -> None:
        """The process ends; `again` is why its container waits to be started again (`CrashLoopBackOff`)."""
        with self.lock:
            pod = self.pod(role, index)
            status = copy.deepcopy(self._container(pod))
            terminated = {
                "exitCode": code,
                "reason": reason or ("Completed" if code == 0 else "Error"),
                "message": message,
                "finishedAt": self._stamp(),
                "containerID": status["containerID"],
            }
            if again:
                status["state"], status["lastState"] = {"waiting": {"reason": again}}, {"terminated": terminated}
            else:
                status["state"] = {"terminated": terminated}
            phase = phase or ("Succeeded" if code == 0 else "Running")
            self._status(role, index, phase=phase, containerStatuses=[status])

    def evicted(self, words: str, role: str = "master", index: int = 0) -> None:
        self.ends(137, role, index, phase="Failed")
        self._status(role, index, reason="Evicted", message=words)

    def delete_pod(self, role: str = "master", index: int = 0) -> None:
        with self.lock:
            self._gone(self.pod(role, index))

    def warns(self, words: str, about: str, reason: str = "FailedCreatePod") -> None:
        event = {"type": "Warning", "reason": reason, "message": words, "lastTimestamp": self._stamp(), "involvedObject": {"name": about}}
        self.events.append(event)

    # What the rest of the cluster does

    def delete_owner(self, uid: str) -> None:
        """A pod that owns jobs is deleted."""
        for job in list(self.jobs.values()):
            if any(owner["uid"] == uid for owner in job["metadata"].get("ownerReferences", ())):
                self._delete_job(job)

    def collect_garbage(self) -> None:
        """Delete the pods whose job is gone."""
        with self.lock:
            uids = {job["metadata"]["uid"] for job in self.jobs.values()}
            for pod in list(self.pods.values()):
                if pod["metadata"]["ownerReferences"][0]["uid"] not in uids:
                    self._gone(pod)

    def forget(self) -> None:
        """Compact the history: watches from before now expire."""
        self._version += 1
        self._forgotten = self._version

    # Inside

    def _uid(self) -> str:
        return f"uid-{next(self._uids)}"

    def _stamp(self) -> str:
        return f"{BEGIN + datetime.timedelta(seconds=self.time.now):%Y-%m-%dT%H:%M:%SZ}"

    def _container(self, pod: Object) -> Object:
        statuses = pod["status"].get("containerStatuses") or [{}]
        found: Object = statuses[0]
        return found

    def _status(self, role: str, index: int, **values: Any) -> None:
        with self.lock:
            pod = self.pod(role, index)
            pod["status"].update(values)
            self._happened("MODIFIED", pod)

    def _happened(self, kind: str, item: Object) -> None:
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        self._history.append((self._version, kind, copy.deepcopy(item)))

    def _gone(self, pod: Object) -> None:
        del self.pods[pod["metadata"]["name"]]
        self._happened("DELETED", pod)

    def _delete_job(self, job: Object) -> None:
        name = job["metadata"]["name"]
        self.deleted.append(name)
        del self.jobs[name]
        if not self.slow_to_collect:
            self.collect_garbage()
