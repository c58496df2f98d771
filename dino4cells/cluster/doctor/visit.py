"""What the checks look at: the settings of a job, and the cluster with the rights of whoever asks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cached_property
from urllib.parse import quote

from dino4cells.cluster.api import Api, Json, Refused, read_json
from dino4cells.cluster.settings import JobSettings

OPERATOR_PLACES = (
    ("kubeflow", "training-operator"),
    ("kubeflow-system", "training-operator"),
    ("training-operator", "training-operator"),
    ("opendatahub", "kubeflow-training-operator"),
    ("redhat-ods-applications", "kubeflow-training-operator"),
)
"""Namespaces and names of the operator's deployment: its own manifests, Kubeflow's, Open Data Hub's."""


class Visit:
    """One look at a cluster; what several checks ask for is asked once.

    Args:
        settings: of the job that is to run.
        output: URL that it writes to, or nothing.
        api: of the cluster, for one namespace; None: there is none.
        absent: why there is none.
    """

    def __init__(self, settings: JobSettings, output: str = "", api: Api | None = None, absent: str = "") -> None:
        self.settings, self.output, self.absent = settings, output, absent
        self._api = api

    @property
    def has_cluster(self) -> bool:
        """Whether a cluster is configured."""
        return self._api is not None

    @property
    def api(self) -> Api:
        """The cluster's API; only where there is one."""
        if self._api is None:
            raise LookupError(self.absent)
        return self._api

    @property
    def namespace(self) -> str:
        """Of the job."""
        return self.api.namespace

    def get(self, path: str, resource: str, query: Mapping[str, str] | None = None, verb: str = "get") -> Json | None:
        """What is at a path of the API; None where nothing is.

        Raises:
            Refused: with status 403 where this account may not look.
            ClusterUnreachable: no answer.
        """
        try:
            return self.api.request("GET", path, verb, resource, read_json, query=query)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def named(self, resource: str, name: str, group: str = "") -> Json | None:
        """An object of the namespace, or None."""
        base = f"/apis/{group}" if group else "/api/v1"
        kind = resource if not group else f"{resource}.{group.partition('/')[0]}"
        return self.get(f"{base}/namespaces/{self.namespace}/{resource}/{quote(name, safe='')}", kind)

    def all_of(self, resource: str) -> list[Json]:
        """All core objects of a kind in the namespace."""
        found = self.get(f"/api/v1/namespaces/{self.namespace}/{resource}", resource, verb="list")
        return list((found or {}).get("items", ()))

    def allowed(self, group: str, resource: str, verb: str, name: str = "") -> bool:
        """Whether this account may do something in the namespace (SelfSubjectAccessReview, which everybody may ask)."""
        kind, _, part = resource.partition("/")
        attributes = {"namespace": self.namespace, "verb": verb, "group": group, "resource": kind}
        attributes.update({"subresource": part} if part else {})
        attributes.update({"name": name} if name else {})
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = self.api.request("POST", path, "create", "selfsubjectaccessreviews", read_json, body=body)
        return bool(answer["status"].get("allowed"))

    @cached_property
    def nodes(self) -> list[Json]:
        """All nodes of the cluster."""
        return list((self.get("/api/v1/nodes", "nodes", verb="list") or {}).get("items", ()))

    @cached_property
    def namespace_labels(self) -> dict[str, str] | None:
        """Labels of the namespace; None where there is no such namespace."""
        found = self.get(f"/api/v1/namespaces/{self.namespace}", "namespaces")
        return None if found is None else dict(found["metadata"].get("labels") or {})

    @cached_property
    def operator(self) -> Json | None:
        """The operator's deployment; None where it is in none of the usual places.

        Raises:
            Refused: it was not found where this account may look, and it may not look everywhere.
        """
        refused: Refused | None = None
        for namespace, name in OPERATOR_PLACES:
            try:
                found = self.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}", "deployments.apps")
            except Refused as error:
                refused = error
                continue
            if found is not None:
                return found
        if refused is not None:
            raise refused
        return None

    def operator_flag(self, flag: str) -> list[str]:
        """Values that a flag of the operator has; none where it is not given."""
        words = []
        for container in ((self.operator or {}).get("spec") or {}).get("template", {}).get("spec", {}).get("containers", ()):
            words += [*(container.get("command") or ()), *(container.get("args") or ())]
        values = []
        for word, following in itertools.pairwise([*words, ""]):
            name, equals, value = word.lstrip("-").partition("=")
            if word.startswith("-") and name == flag:
                values.append(value if equals else following)
        return values
