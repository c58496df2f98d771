"""Kubeflow Pipelines' API for tests, over HTTP: what `kfp.Client` asks to start a run and to look at it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]
PREFIX = "/pipeline/apis/v2beta1"


class PipelinesServer:
    """The server; use `pipelines_server()`."""

    def __init__(self) -> None:
        self.url = ""
        self.token = ""
        self.cookie = ""
        self.multi_user = False
        self.experiments: dict[str, Object] = {}
        self.runs: dict[str, Object] = {}
        self.states: list[Object] = []
        """What the run is, look by look; the last one stays."""
        self.faults: list[tuple[str, int, Object]] = []
        """Path, status and body of answers that a request gets instead, once each."""
        self.asked: list[str] = []

    def answer(self, method: str, url: str, headers: Any, body: Object) -> tuple[int, Object | str]:
        parts = urlsplit(url)
        path = parts.path.removeprefix(PREFIX)
        self.asked.append(f"{method} {path}")
        for fault in self.faults:
            if path.startswith(fault[0]):
                self.faults.remove(fault)
                return fault[1:]
        if self.cookie and self.cookie != headers.get("Cookie"):
            return 302, "<html>Log in to Dex</html>"
        if self.token and headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {"error": "Unauthenticated", "message": "the token has expired"}
        if not parts.path.startswith(PREFIX):
            return 404, {"message": "Not Found"}
        if path == "/healthz":
            return 200, {"multi_user": self.multi_user}
        namespace = parse_qs(parts.query).get("namespace", [""])[0] or body.get("namespace", "")
        if path == "/experiments":
            if namespace and not self.multi_user:
                return 400, {"message": "In single-user mode, ListExperiment cannot filter by namespace."}
            if method == "POST":
                made = {"experiment_id": f"e{len(self.experiments) + 1}", **body}
                self.experiments[body["display_name"]] = made
                return 200, made
            wanted = json.loads(parse_qs(parts.query)["filter"][0])["predicates"][0]["stringValue"]
            return 200, {"experiments": [item for name, item in self.experiments.items() if name == wanted]}
        if path == "/runs":
            run = {"run_id": "run-1", "state": "PENDING", **body}
            self.runs["run-1"] = run
            return 200, run
        run = self.runs[path.rpartition("/")[2]]
        if self.states:
            run = {**run, **(self.states.pop(0) if len(self.states) > 1 else self.states[0])}
        return 200, run


@contextmanager
def pipelines_server() -> Iterator[PipelinesServer]:
    """A server on a free port, behind the prefix that a Kubeflow platform gives it."""
    server = PipelinesServer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None: ...

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else {}
            status, answer = server.answer(self.command, self.path, self.headers, body)
            page = isinstance(answer, str)
            content = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/dex/auth")
            self.send_header("Content-Type", "text/html" if page else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        server.url = f"http://127.0.0.1:{http.server_address[1]}/pipeline"
        thread = threading.Thread(target=http.serve_forever, args=[0.01], daemon=True)
        thread.start()
        yield server
        http.shutdown()
        thread.join()
