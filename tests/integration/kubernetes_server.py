"""A Kubernetes API server for tests, over HTTP, with state: PyTorchJobs, pods, their logs, events, and time that a test moves.

It answers as a real one does as far as a launcher can tell: resource versions, watches that expire, preconditions, logs in whole seconds,
the garbage collector, the words of its refusals. A test plays the Training Operator, the scheduler and the kubelet by calling its methods.
"""

from __future__ import annotations

import copy
import datetime
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes.client import ApiClient, Configuration

Object = dict[str, Any]
CONTAINER = "pytorch"
NAMESPACE = "lab"
BEGIN = datetime.datetime(2026, 1, 1, 12, 0, 0, tzinfo=datetime.timezone.utc)
TOKEN = "first"


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


@dataclass
class Fault:
    """What a request meets instead of an answer, so many times."""

    verb: str
    resource: str
    times: int
    status: int = 0
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes of the answer after which the connection is closed."""
    before: Callable[[], object] | None = None
    """What happens just before the request is answered, which it then is."""


class KubernetesServer:
    """The server; use `kubernetes_server()`."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.token = TOKEN
        self.jobs: dict[str, Object] = {}
        self.pods: dict[str, Object] = {}
        self.events: list[Object] = []
        self.logs: dict[str, list[tuple[datetime.datetime, str, bytes]]] = {}
        self.faults: list[Fault] = []
        self.forbidden: set[tuple[str, str]] = set()
        self.refuses = ""
        self.knows_jobs = True
        self.slow_to_collect = False
        self.objects: dict[str, Object] = {}
        """Any other objects, by their paths."""
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.deleted: list[str] = []
        self.watch_errors: list[Object] = []
        self.lock = threading.RLock()
        self._version = 100
        self._history: list[tuple[int, str, Object]] = []
        self._forgotten = 0
        self._uids = itertools.count(1)
        self.url = ""

    def connect(self) -> ApiClient:
        """A client with the token that stands in its file just now."""
        configuration = Configuration(host=self.url)
        configuration.api_key = {"authorization": f"Bearer {self.token}"}
        configuration.retries = False
        return ApiClient(configuration)

    def asked(self, verb: str, resource: str) -> int:
        """How often it was asked this."""
        return sum(request[:2] == (verb, resource) for request in self.requests)

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

    def breaks_watch(self, code: int, message: str) -> None:
        """The next watch begins and ends with an error."""
        self.watch_errors.append({"type": "ERROR", "object": {"kind": "Status", "code": code, "message": message}})

    def fail(self, verb: str, resource: str, times: int, status: int, message: str = "etcdserver: leader changed", **headers: str) -> None:
        self.faults.append(Fault(verb, resource, times, status, message, {key.replace("_", "-"): text for key, text in headers.items()}))

    def drop(self, verb: str, resource: str, times: int = 1, after: int = 0) -> None:
        """Close the connection after so many bytes of the answer."""
        self.faults.append(Fault(verb, resource, times, cut_after=after))

    def just_before(self, verb: str, resource: str, action: Callable[[], object]) -> None:
        """Have something happen right before the next such request is answered."""
        self.faults.append(Fault(verb, resource, 1, before=action))

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

    def answer(self, method: str, url: str, body: bytes) -> tuple[int, bytes]:
        """The status and body of an answer; `\\n`-separated events for a watch."""
        verb, resource, name, query = _asked(method, url)
        if (verb, resource) in self.forbidden:
            group = ' in API group "kubeflow.org"' if resource == "pytorchjobs" else ' in API group ""'
            who = f"system:serviceaccount:{NAMESPACE}:pipeline-runner"
            what = f'cannot {verb} resource "{resource}"{group} in the namespace "{NAMESPACE}"'
            return _refusal(403, f'{resource} is forbidden: User "{who}" {what}')
        if resource == "selfsubjectaccessreviews":
            return 201, json.dumps({"status": {"allowed": self._allows(json.loads(body)["spec"]["resourceAttributes"])}}).encode()
        if resource not in ("pytorchjobs", "pods", "pods/log", "events"):
            return self._answer_object(verb, urlsplit(url).path)
        if resource == "pytorchjobs":
            if not self.knows_jobs:
                return 404, b"404 page not found\n"
            return self._answer_job(verb, name, json.loads(body) if body else {})
        if resource == "events":
            return 200, json.dumps({"items": self.events}).encode()
        if resource == "pods/log":
            return self._answer_log(name, query)
        if verb == "watch":
            return self._answer_watch(query)
        if verb == "list":
            _, _, job = query["labelSelector"].partition("=")
            items = [pod for pod in self.pods.values() if pod["metadata"]["labels"]["training.kubeflow.org/job-name"] == job]
            return 200, json.dumps({"metadata": {"resourceVersion": str(self._version)}, "items": items}).encode()
        if name not in self.pods:
            return _refusal(404, f'pods "{name}" not found')
        return 200, json.dumps(self.pods[name]).encode()

    def _allows(self, asked: Object) -> bool:
        resource = "/".join(part for part in (asked["resource"], asked.get("subresource")) if part)
        return (asked["verb"], resource) not in self.forbidden

    def _answer_object(self, verb: str, path: str) -> tuple[int, bytes]:
        if verb == "list":
            return 200, json.dumps({"items": [item for place, item in self.objects.items() if place.startswith(f"{path}/")]}).encode()
        if path not in self.objects:
            return _refusal(404, f'"{path.rpartition("/")[2]}" not found')
        return 200, json.dumps(self.objects[path]).encode()

    def _answer_job(self, verb: str, name: str, body: Object) -> tuple[int, bytes]:
        if verb == "create":
            if self.refuses:
                return _refusal(
                    400, f'admission webhook "validator.pytorchjob.training-operator.kubeflow.org" denied the request: {self.refuses}'
                )
            name = body["metadata"]["name"]
            if name in self.jobs:
                return _refusal(409, f'pytorchjobs.kubeflow.org "{name}" already exists')
            body["metadata"].update(uid=self._uid(), creationTimestamp=self._stamp())
            self.jobs[name] = body
            return 201, json.dumps(body).encode()
        if name not in self.jobs:
            return _refusal(404, f'pytorchjobs.kubeflow.org "{name}" not found')
        job = self.jobs[name]
        if verb == "patch":
            job["metadata"].update(body["metadata"])
        if verb == "delete":
            if body["preconditions"]["uid"] != job["metadata"]["uid"]:
                return _refusal(409, "Precondition failed: UID in precondition does not match")
            self._delete_job(job)
        return 200, json.dumps(job).encode()

    def _answer_watch(self, query: dict[str, str]) -> tuple[int, bytes]:
        since = int(query["resourceVersion"])
        if since < self._forgotten:
            return _refusal(410, f"too old resource version: {since} ({self._forgotten})")
        _, _, job = query["labelSelector"].partition("=")
        events = [{"type": kind, "object": item} for version, kind, item in self._history if version > since]
        events = [event for event in events if event["object"]["metadata"]["labels"]["training.kubeflow.org/job-name"] == job]
        if self.watch_errors:
            events.append(self.watch_errors.pop())
        elif query.get("allowWatchBookmarks"):
            events.append({"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": str(self._version)}}})
        return 200, b"".join(json.dumps(event).encode() + b"\n" for event in events)

    def _answer_log(self, name: str, query: dict[str, str]) -> tuple[int, bytes]:
        if name not in self.pods:
            return _refusal(404, f'pods "{name}" not found')
        status = self._container(self.pods[name])
        state, last = status.get("state", {}), status.get("lastState", {}).get("terminated")
        if query.get("previous"):
            if not last:
                return _refusal(400, f'previous terminated container "{CONTAINER}" in pod "{name}" not found')
            identifier = last["containerID"]
        elif "running" in state or "terminated" in state:
            identifier = status["containerID"]
        elif last:
            identifier = last["containerID"]
        else:
            return _refusal(400, f'container "{CONTAINER}" in pod "{name}" is waiting to start: ContainerCreating')
        lines = self.logs[identifier]
        if since := query.get("sinceTime"):
            begin = datetime.datetime.strptime(since, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
            lines = [line for line in lines if line[0] >= begin]
        if tail := query.get("tailLines"):
            lines = lines[-int(tail) :]
        return 200, b"".join(stamp.encode() + b" " + text + b"\n" for _, stamp, text in lines)


def _asked(method: str, url: str) -> tuple[str, str, str, dict[str, str]]:
    """The verb, resource, name and parameters of a request, as rules for roles call them."""
    parts = urlsplit(url)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    path = parts.path.strip("/").split("/")
    below = path[2:] if path[0] == "api" else path[3:] if path[0] == "apis" else []
    if not below:  # what the cluster is and knows
        return "get", path[-1], parts.path, query
    if below[0] == "namespaces" and len(below) > 2:
        below = below[2:]
        assert path[path.index("namespaces") + 1] == NAMESPACE or below[0] == "deployments"
    resource, _, name = "/".join(below).partition("/")
    if name.endswith("/log"):
        resource, name = "pods/log", name.removesuffix("/log")
    verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "GET": "get" if name else "list"}[method]
    return "watch" if query.get("watch") else verb, resource, name, query


def _refusal(code: int, message: str) -> tuple[int, bytes]:
    return code, json.dumps({"kind": "Status", "status": "Failure", "message": message, "code": code}).encode()


def _handler(server: KubernetesServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def log_message(self, *arguments: object) -> None: ...

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers: dict[str, str] = {}
            cut: int | None = None
            with server.lock:
                fault = self._fault()
                if fault and fault.before:
                    fault.before()
                if self.headers.get("Authorization") != f"Bearer {server.token}":
                    status, answer = _refusal(401, "Unauthorized")
                elif fault and fault.status:
                    (status, answer), headers = _refusal(fault.status, fault.message), fault.headers
                else:
                    status, answer = server.answer(self.command, self.path, body)
                    cut = fault.cut_after if fault else None
            if cut == 0:
                self.close_connection = True
                return
            self.send_response(status)
            for key, text in headers.items():
                self.send_header(key, text)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            sent = answer[:cut]
            if sent:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent))
            if cut is not None:
                self.close_connection = True
                return
            self.wfile.write(b"0\r\n\r\n")

        def _fault(self) -> Fault | None:
            verb, kind, _, query = _asked(self.command, self.path)
            server.requests.append((verb, kind, query))
            for fault in server.faults:
                if (fault.verb in (verb, "*")) and (fault.resource in (kind, "*")):
                    fault.times -= 1
                    if not fault.times:
                        server.faults.remove(fault)
                    return fault
            return None

        do_GET = do_POST = do_PATCH = do_DELETE = _answer

    return Handler


@contextmanager
def kubernetes_server(time: Time) -> Iterator[KubernetesServer]:
    """A server on a free port, with a token and no objects."""
    server = KubernetesServer(time)
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)) as http:
        http.daemon_threads = True
        http.block_on_close = False
        server.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, args=[0.01], daemon=True)
        thread.start()
        yield server
        http.shutdown()
        thread.join()
