"""An API server that lets through what a Role allows, and remembers what was asked: an account bound to that Role and to nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from kubernetes_server import NAMESPACE, KubernetesServer

ROLE = Path(__file__).parents[2] / "manifests" / "base" / "role.yaml"
# What Kubernetes grants every account by itself (system:discovery, system:basic-user).
EVERYBODY = frozenset({"version", "discovery", "selfsubjectaccessreviews"})


@dataclass(frozen=True)
class Request:
    """A request in the words of a Role; `name` is empty for a list, and where an object is made."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str = ""

    @classmethod
    def of(cls, method: str, url: str) -> Request:
        """As the API server sees it."""
        parts = urlsplit(url)
        words = parts.path.strip("/").split("/")
        group, rest = ("", words[2:]) if words[0] == "api" else (words[1], words[3:]) if words[0] == "apis" and len(words) > 1 else ("", [])
        if not rest:
            return cls("get", "", "version" if words == ["version"] else "discovery", "")
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        resource, name = rest[0], rest[1] if len(rest) > 1 else ""
        if len(rest) > 2:
            resource = f"{resource}/{rest[2]}"
        verbs = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete", "GET": "get" if name else "list"}
        return cls("watch" if "watch" in parse_qs(parts.query) else verbs[method], group, resource, namespace, name)


@dataclass
class Account:
    """An account bound to the Role of the manifests.

    Attributes:
        asked: every request that was made with it, those that everybody may make left out.
        refused: those of them that the Role does not allow.
    """

    rules: list[dict[str, Any]] = field(default_factory=lambda: rules_of(ROLE))
    asked: list[Request] = field(default_factory=list)
    refused: list[Request] = field(default_factory=list)

    def use(self, server: KubernetesServer) -> None:
        """From now on the server knows this account alone."""
        answer = server.answer

        def guarded(method: str, url: str, body: bytes) -> tuple[int, bytes]:
            request = Request.of(method, url)
            if request.resource == "selfsubjectaccessreviews":
                asked = json.loads(body)["spec"]["resourceAttributes"]
                resource = "/".join(part for part in (asked["resource"], asked.get("subresource")) if part)
                wanted = Request(asked["verb"], asked["group"], resource, asked["namespace"], asked.get("name", ""))
                return 201, json.dumps({"status": {"allowed": self.may(wanted)}}).encode()
            if request.resource not in EVERYBODY:
                self.asked.append(request)
                if not self.may(request):
                    self.refused.append(request)
                    words = f'cannot {request.verb} resource "{request.resource}" in API group "{request.group}"'
                    message = f'{request.resource} is forbidden: User "launcher" {words} in the namespace "{request.namespace}"'
                    return 403, json.dumps({"kind": "Status", "message": message, "code": 403}).encode()
            return answer(method, url, body)

        server.answer = guarded  # type: ignore[method-assign]

    def may(self, request: Request) -> bool:
        """Whether a rule allows it, in the namespace of the Role."""
        return request.namespace == NAMESPACE and any(_allows(rule, request) for rule in self.rules)

    def never_used(self) -> set[tuple[str, str, str]]:
        """Verbs, resources and names that the Role grants and that were not asked for."""
        granted = {
            (verb, resource, name)
            for rule in self.rules
            for verb in rule["verbs"]
            for resource in rule["resources"]
            for name in rule.get("resourceNames", [""])
        }
        used = {(one.verb, one.resource, name) for one in self.asked for name in ("", one.name)}
        return granted - used


def rules_of(file: Path) -> list[dict[str, Any]]:
    """The rules of the Role in a file."""
    documents: Iterable[dict[str, Any]] = yaml.safe_load_all(file.read_text())
    return [rule for document in documents if document["kind"] == "Role" for rule in document["rules"]]


def _allows(rule: dict[str, Any], request: Request) -> bool:
    names = rule.get("resourceNames")
    return (
        request.verb in rule["verbs"]
        and request.group in rule["apiGroups"]
        and request.resource in rule["resources"]
        and (names is None or request.name in names)
    )
