"""A Kubernetes API server for tests, over HTTP, for the objects of a `PlayedCluster`.

It answers as a real one does as far as a launcher can tell: resource versions, watches that expire, preconditions, logs in whole seconds,
the words of its refusals.
"""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from kubernetes.client import ApiClient, Configuration
from played_cluster import CONTAINER, NAMESPACE, Object, PlayedCluster, Time

TOKEN = "first"


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


class KubernetesServer(PlayedCluster):
    """The server; use `kubernetes_server()`."""

    def __init__(self, time: Time) -> None:
        super().__init__(time)
        self.token = TOKEN
        self.faults: list[Fault] = []
        self.forbidden: set[tuple[str, str]] = set()
        self.refuses = ""
        self.knows_jobs = True
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.watch_errors: list[Object] = []
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

    # What goes wrong

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

    # Answers

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
