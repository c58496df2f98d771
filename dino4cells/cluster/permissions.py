"""What the launcher asks a cluster to do, as its Role (manifests/base/role.yaml) allows it; a test holds the two together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Permission:
    """Verbs that are allowed on one kind of object.

    Attributes:
        group: of the API; nothing for the core.
        resource: kind, with what is below it: `pods/log`.
        verbs: that are needed.
        names: of the only objects that are asked for, or none: any of the namespace.
        without: what is not possible without it, where the launcher goes on; nothing: it cannot work.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()
    without: str = ""


LAUNCHER = (
    Permission("kubeflow.org", "pytorchjobs", ("create", "get", "patch", "delete")),
    Permission("", "pods", ("get", "list", "watch")),
    Permission("", "pods/log", ("get",)),
    Permission("", "events", ("list",), without="the cluster's own words about pods that do not start are left out"),
    Permission(
        "", "configmaps", ("get",), ("kfp-launcher",), without="a step of the pipeline must be told the endpoint of the object store"
    ),
    Permission(
        "",
        "secrets",
        ("get",),
        ("mlpipeline-minio-artifact", "dino4cells-store"),
        without="a step of the pipeline must be given the credentials of the object store as variables",
    ),
)
"""The rights that the launcher of the pipeline's train step uses, and `dino4cells job` with it."""
