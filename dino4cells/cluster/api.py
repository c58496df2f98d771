"""Requests to a cluster's API: each bounded in time, and repeated until the cluster answers or refuses.

The `kubernetes` package gives what is hard: where the cluster is and who asks (kubeconfig, the token of a pod, plug-ins), TLS, and the
connections.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import urllib3
import yaml
from kubernetes import config as kubernetes_config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException

from dino4cells.errors import ConfigError, Dino4CellsError

Json = dict[str, Any]
T = TypeVar("T")

_REPEATED = frozenset({408, 429, 500, 502, 503, 504})
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 30.0
_SHORTEST_SECONDS = 5.0
_LONGEST_PAUSE = 30.0
_QUIET_SECONDS = 10.0


class ClusterError(Dino4CellsError):
    """The cluster refuses a request; the message says which and what would allow it."""


class ClusterUnreachable(ClusterError):
    """The cluster's API gave no answer for as long as it was waited for; `reason` says what came instead."""

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class Conflict(ClusterError):
    """An object of this name is there already."""


class Expired(ClusterError):
    """The version that a watch was to go on from is too old: list again."""


def within(error: ClusterError) -> str:
    """What an error says, as a part of another sentence."""
    return str(error).rstrip(".")


class Refused(ClusterError):
    """A refusal that a caller may know what to make of; `unknown_kind` where the cluster knows no such objects at all."""

    def __init__(self, sentence: str, status: int, unknown_kind: bool = False) -> None:
        super().__init__(sentence)
        self.status, self.unknown_kind = status, unknown_kind


def connect(context: str = "") -> ApiClient:
    """A client for the cluster that this process runs in, or that the kubeconfig of this machine names.

    Args:
        context: of the kubeconfig, which is then read in a pod too; nothing: its current one.

    Raises:
        ConfigError: there is neither.
    """
    configuration = Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST") and not context:
            kubernetes_config.load_incluster_config(client_configuration=configuration)
        else:
            kubernetes_config.load_kube_config(context=context or None, client_configuration=configuration)
    except kubernetes_config.ConfigException as error:
        raise ConfigError(f"cluster: none is configured ({str(error).rstrip('.')}); set KUBECONFIG, or run inside a cluster.") from error
    except (yaml.YAMLError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"kubeconfig: cannot be read ({_plainly(error)}); see whether kubectl config view shows it.") from error
    configuration.retries = False  # repeating is done here, where it is counted
    return ApiClient(configuration)


@dataclass(frozen=True)
class Api:
    """The API of one cluster, asked about one of its namespaces.

    Attributes:
        namespace: of all objects.
        connect: makes a client; called again when the cluster no longer knows the token, since the tokens of pods live for an hour or so.
        patience: seconds without an answer after which a request fails; 0 asks once.
        clock, sleep: time, monotonic.
        jitter: numbers from 0 to 1 by which pauses differ, so that many launchers do not ask all at once.
        say: told when the cluster does not answer for long.
    """

    namespace: str
    connect: Callable[[], ApiClient] = connect
    patience: float = 15 * 60.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    say: Callable[[str], None] = print
    _client: list[ApiClient] = field(default_factory=list, repr=False)

    def close(self) -> None:
        """Close the connections."""
        while self._client:
            self._client.pop().close()

    def request(
        self,
        method: str,
        path: str,
        verb: str,
        resource: str,
        read: Callable[[urllib3.HTTPResponse], T],
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
        watch_seconds: float = 0,
    ) -> T:
        """Ask until the cluster answers or the patience is at its end, with pauses that grow."""
        since, pause, renewed, told = self.clock(), 1.0, False, False
        timeout = max(_SHORTEST_SECONDS, min(self.patience, _READ_SECONDS))
        while True:
            wanted = 0.0
            try:
                if not self._client:
                    self._client.append(self.connect())
                response = self._client[0].call_api(
                    path,
                    method,
                    query_params=list((query or {}).items()),
                    header_params={"Accept": "application/json", "Content-Type": content_type},
                    body=body,
                    auth_settings=["BearerToken"],
                    _return_http_data_only=True,
                    _preload_content=False,
                    _request_timeout=(min(timeout, _CONNECT_SECONDS), timeout + watch_seconds),
                )
                try:
                    return read(response)
                finally:
                    response.release_conn()
            except ApiException as error:
                if error.status == 401 and not renewed:
                    renewed = True
                    self.close()
                    continue
                if error.status and error.status not in _REPEATED:
                    raise self._refusal(error, verb, resource) from None
                reason = f"{error.status} {_message(error)}" if error.status else str(error.reason).splitlines()[0]
                wanted = _retry_after(error)
            except (urllib3.exceptions.HTTPError, OSError, json.JSONDecodeError) as error:
                reason = _plainly(error)
            except ValueError as error:
                if "header value" not in str(error):
                    raise
                # Python shows the header, which is the token.
                raise ConfigError("kubeconfig: its token holds a line break; write it anew (kubectl config set-credentials).") from None
            waited = self.clock() - since
            if waited + pause > self.patience:
                raise ClusterUnreachable(
                    f"cluster: its API did not answer for {waited:.0f} seconds ({verb} {resource}: {reason}); "
                    "see whether it is reachable (kubectl get nodes) and run again.",
                    reason,
                )
            if waited > _QUIET_SECONDS and not told:
                told = True
                self.say(f"the cluster's API does not answer ({reason}); asking on for up to {self.patience:.0f} seconds")
            self.sleep(max(wanted, pause * (0.5 + self.jitter() / 2)))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _refusal(self, error: ApiException, verb: str, resource: str) -> ClusterError:
        words = _message(error)
        if error.status == 401:
            return ClusterError("cluster: does not know who asks (401), even with a new token; log in again, or mount the service account.")
        if error.status == 403 and " cannot " in words:
            sentence = (
                f"namespace {self.namespace}: this account may not {verb} {resource} ({words}); give its role that verb, "
                f"and test it by kubectl auth can-i {verb} {resource} -n {self.namespace}."
            )
            return Refused(sentence, 403)
        if (
            error.status == 404
            and resource.endswith("kubeflow.org")
            and ("page not found" in words or "could not find the requested resource" in words)
        ):
            sentence = f"cluster: knows no {resource}; install the Training Operator (v1), whose jobs these are."
            return Refused(sentence, 404, unknown_kind=True)
        if error.status == 409:
            return Conflict(f"namespace {self.namespace}: {words}; use another name.")
        if error.status == 410:
            return Expired(f"namespace {self.namespace}: {words}; list again.")
        return Refused(f"namespace {self.namespace}: the cluster refuses to {verb} {resource} ({error.status}: {words}).", error.status)


def read_json(response: urllib3.HTTPResponse) -> Json:
    answer: Json = json.loads(response.read())
    return answer


def read_lines(response: urllib3.HTTPResponse) -> tuple[list[str], bool]:
    """The lines of an answer and whether it came to its end; a last line that was cut off is left out: it is asked for again."""
    received, complete = bytearray(), True
    try:
        for chunk in response.stream(1 << 16):
            received += chunk
    except (urllib3.exceptions.HTTPError, OSError):
        complete = False
    *lines, rest = received.split(b"\n")
    return [line.decode("utf-8", "replace") for line in ([*lines, rest] if complete and rest else lines)], complete


def _message(error: ApiException) -> str:
    """What the API says of a refusal, in its own words."""
    body = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else error.body or ""
    try:
        words = json.loads(body).get("message") or error.reason
    except (json.JSONDecodeError, AttributeError):
        words = body.strip() or error.reason
    return " ".join(str(words).split()).rstrip(".")


def _retry_after(error: ApiException) -> float:
    value = str((error.headers or {}).get("Retry-After", ""))
    return min(float(value), _LONGEST_PAUSE) if value.isdigit() else 0.0


def _plainly(error: Exception) -> str:
    """`connection refused` out of the long words of the HTTP library."""
    words = str(error).rpartition(": ")[2] or type(error).__name__
    return words if len(words) < 100 else f"{words[:100]}…"
