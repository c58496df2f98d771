"""What a launcher asks a cluster about its job: the few requests that it makes, in one namespace.

Every answer is the object as the API gives it (JSON): the models of the `kubernetes` package know neither PyTorchJobs nor `sinceTime`,
without which a log cannot be read on from where it was left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dino4cells.cluster.api import Api, Conflict, Expired, Json, Refused, read_json, read_lines
from dino4cells.cluster.pytorchjob import API_VERSION, CONTAINER, PLURAL

JOBS = f"{PLURAL}.{API_VERSION.partition('/')[0]}"


@dataclass(frozen=True)
class LogPart:
    """Lines of a log, in order, each with its timestamp; `complete` where the answer was not cut off in the middle of it."""

    lines: tuple[str, ...]
    complete: bool


@dataclass(frozen=True)
class Cluster:
    """What stands in one namespace of a cluster."""

    api: Api

    def with_patience(self, seconds: float) -> Cluster:
        """The same, waited for this long; it shares the connections."""
        return replace(self, api=replace(self.api, patience=seconds))

    # Jobs

    def create_job(self, manifest: Json) -> Json:
        """Create a PyTorchJob.

        Raises:
            Conflict: there is one of this name.
        """
        return self._json("POST", self._jobs(), "create", JOBS, body=manifest)

    def job(self, name: str) -> Json | None:
        """A PyTorchJob, or None where there is none of this name."""
        return self._found("GET", self._jobs(name), "get", JOBS)

    def own_job(self, name: str, owners: Sequence[Json]) -> None:
        """Replace the owners of a PyTorchJob: it is deleted when they are gone."""
        body = {"metadata": {"ownerReferences": list(owners)}}
        self._found("PATCH", self._jobs(name), "patch", JOBS, body=body, content_type="application/merge-patch+json")

    def delete_job(self, name: str, uid: str) -> None:
        """Delete the PyTorchJob of this name and uid with its pods; one that is gone, or another that took its name, is left alone."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            self._found("DELETE", self._jobs(name), "delete", JOBS, body=body)
        except Conflict:
            return

    # Pods

    def pods(self, selector: str) -> tuple[list[Json], str]:
        """The pods that a label selector names, and the version from which `watch_pods` tells what becomes of them."""
        answer = self._json("GET", self._path("pods"), "list", "pods", query={"labelSelector": selector})
        return list(answer["items"]), str(answer["metadata"]["resourceVersion"])

    def watch_pods(self, selector: str, version: str, seconds: int) -> tuple[list[Json], str]:
        """What became of pods since a version: events in order, within some seconds, and the version to go on from.

        Raises:
            Expired: the cluster no longer knows what happened since then.
        """
        query = {
            "labelSelector": selector,
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
            "allowWatchBookmarks": "true",
        }
        lines, _ = self.api.request("GET", self._path("pods"), "watch", "pods", read_lines, query=query, watch_seconds=seconds)
        events = []
        for line in lines:
            event = json.loads(line)
            if event["type"] == "ERROR":  # 410, or whatever else the cluster cannot go on from
                raise Expired(f"{self.api.namespace}: the watch of pods ended ({event['object'].get('message', '')}); list them again.")
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                events.append(event)
        return events, version

    def pod(self, name: str) -> Json | None:
        """A pod, or None where there is none of this name."""
        return self._found("GET", self._path("pods", name), "get", "pods")

    def log(self, pod: str, *, previous: bool = False, since: str | None = None, tail: int | None = None) -> LogPart | None:
        """The log of a pod's training container, each line with its time; None where there is none to read.

        Args:
            pod: name.
            previous: of the container that ran before the newest.
            since: time (RFC 3339, whole seconds) of the oldest line.
            tail: number of lines at the end, or None: all.
        """
        query = {"container": CONTAINER, "timestamps": "true"}
        query.update({"previous": "true"} if previous else {})
        query.update({"sinceTime": since} if since else {})
        query.update({"tailLines": str(tail)} if tail is not None else {})
        try:
            lines, complete = self.api.request("GET", f"{self._path('pods', pod)}/log", "get", "pods/log", read_lines, query=query)
        except Refused as refused:
            if refused.status in (400, 404):  # the container has not started, or is gone
                return None
            raise
        return LogPart(tuple(lines), complete)

    def warnings(self) -> list[Json]:
        """The warnings among the namespace's events."""
        return list(self._json("GET", self._path("events"), "list", "events", query={"fieldSelector": "type=Warning"})["items"])

    # What the namespace keeps

    def config_map(self, name: str) -> dict[str, str] | None:
        """The data of a config map, or None where there is none of this name."""
        found = self._found("GET", self._path("configmaps", name), "get", "configmaps")
        return None if found is None else dict(found.get("data") or {})

    def secret(self, name: str) -> dict[str, str] | None:
        """The data of a secret, each value in base64, or None where there is none of this name."""
        found = self._found("GET", self._path("secrets", name), "get", "secrets")
        return None if found is None else dict(found.get("data") or {})

    # Requests

    def _jobs(self, name: str = "") -> str:
        return f"/apis/{API_VERSION}/namespaces/{self.api.namespace}/{PLURAL}" + (f"/{name}" if name else "")

    def _path(self, kind: str, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.api.namespace}/{kind}" + (f"/{name}" if name else "")

    def _found(self, method: str, path: str, verb: str, resource: str, **options: Any) -> Json | None:
        try:
            return self._json(method, path, verb, resource, **options)
        except Refused as refused:
            if refused.status == 404 and not refused.unknown_kind:
                return None
            raise

    def _json(self, method: str, path: str, verb: str, resource: str, **options: Any) -> Json:
        return self.api.request(method, path, verb, resource, read_json, **options)
