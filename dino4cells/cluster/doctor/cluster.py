"""Is the cluster there, does it know and run PyTorchJobs, and may this account have them run?"""

from __future__ import annotations

from dino4cells.cluster.api import ClusterError, read_json, within
from dino4cells.cluster.doctor.rows import Row, State
from dino4cells.cluster.doctor.visit import OPERATOR_PLACES, Visit
from dino4cells.cluster.failures import duration
from dino4cells.cluster.permissions import LAUNCHER, Permission
from dino4cells.cluster.pytorchjob import API_VERSION, PLURAL
from dino4cells.cluster.states import Limits

_GROUP, _, _VERSION = API_VERSION.partition("/")
OPERATOR_VERSION = "1.9.4"
"""The release that this project was tried with."""

CONFIGURE = "set KUBECONFIG, or give --context"

_INSTALL = (
    'install the Training Operator: kubectl apply --server-side -k "github.com/kubeflow/training-operator.git'
    f'/manifests/overlays/standalone?ref=v{OPERATOR_VERSION}"'
)


def check_api(visit: Visit) -> Row:
    """The API answers."""
    if not visit.has_cluster:
        return Row("cluster", State.MISSING, visit.absent, CONFIGURE)
    try:
        version = visit.api.request("GET", "/version", "get", "version", read_json)
    except ClusterError as error:
        return Row(
            "cluster", State.MISSING, within(error).removeprefix("cluster: "), "see kubectl cluster-info; a VPN or a login may be needed"
        )
    return Row("cluster", State.OK, f"answers, Kubernetes {version.get('gitVersion', 'of unknown version')}")


def check_namespace(visit: Visit) -> Row:
    """The namespace is there."""
    if visit.namespace_labels is None:
        name = visit.namespace
        return Row("namespace", State.MISSING, f"there is no {name}", f"kubectl create namespace {name}, or give --namespace")
    return Row("namespace", State.OK, visit.namespace)


def check_kind(visit: Visit) -> Row:
    """The cluster knows PyTorchJobs, in the version that is sent."""
    what = f"kind {PLURAL}.{_GROUP}"
    group = visit.get(f"/apis/{_GROUP}", _GROUP)
    served = [version["version"] for version in (group or {}).get("versions", ())]
    found = visit.get(f"/apis/{API_VERSION}", API_VERSION) if _VERSION in served else None
    if any(resource["name"] == PLURAL for resource in (found or {}).get("resources", ())):
        return Row(what, State.OK, f"served as {_VERSION}")
    finding = f"not served as {_VERSION}" + (f" (the group has {', '.join(served)})" if served else "")
    if visit.get("/apis/trainer.kubeflow.org", "trainer.kubeflow.org") is not None:
        finding += "; Trainer v2 is there, which does not know PyTorchJobs"
    return Row(what, State.MISSING, finding, _INSTALL)


def check_operator(visit: Visit) -> Row:
    """The operator runs and watches the namespace."""
    what, operator = "training operator", visit.operator
    if operator is None:
        places = ", ".join(dict.fromkeys(namespace for namespace, _ in OPERATOR_PLACES))
        shows = f"if it is elsewhere, well; if nowhere, a job stays 'submitted' and is given up after {duration(Limits().submitted)}"
        return Row(what, State.WARNING, f"found in none of the namespaces {places}", f"{shows}; then {_INSTALL}")
    place = f"{operator['metadata']['namespace']}/{operator['metadata']['name']}"
    if not (operator.get("status") or {}).get("readyReplicas"):
        look = f"see kubectl describe deployment {operator['metadata']['name']} -n {operator['metadata']['namespace']}"
        return Row(what, State.MISSING, f"{place} has no pod that is ready, so that its webhook refuses every job", look)
    watched = [namespace for namespace in visit.operator_flag("namespace") if namespace]
    if watched and visit.namespace not in watched:
        return Row(
            what,
            State.MISSING,
            f"{place} watches the namespace {watched[0]} alone",
            f"submit there, or start it without --namespace={watched[0]}",
        )
    kinds = [kind.lower() for kind in visit.operator_flag("enable-scheme")]
    if kinds and "pytorchjob" not in kinds:
        return Row(what, State.MISSING, f"{place} handles {', '.join(kinds)} alone", "start it with --enable-scheme=pytorchjob as well")
    image = operator["spec"]["template"]["spec"]["containers"][0].get("image", "")
    return Row(what, State.OK, f"{place} is ready ({image.rpartition('/')[2]})")


def check_rights(visit: Visit) -> list[Row]:
    """The account may do what the launcher does."""
    return [_rights(visit, permission) for permission in LAUNCHER]


def _rights(visit: Visit, permission: Permission) -> Row:
    what = f"right to {permission.resource}"
    names = permission.names or ("",)
    lacking = {
        verb: name for verb in permission.verbs for name in names if not visit.allowed(permission.group, permission.resource, verb, name)
    }
    if not lacking:
        return Row(what, State.OK, ", ".join(permission.verbs))
    kind = f"{permission.resource}.{permission.group}" if permission.group else permission.resource
    verb, name = next(iter(lacking.items()))
    test = f"kubectl auth can-i {verb} {kind}{f'/{name}' if name else ''} -n {visit.namespace}"
    remedy = f"bind the Role of manifests/base/role.yaml to this account; test: {test}"
    finding = f"may not {', '.join(lacking)}" + (f" {' or '.join(permission.names)}" if permission.names else "")
    if permission.without:
        return Row(what, State.WARNING, f"{finding}: {permission.without}", remedy)
    return Row(what, State.MISSING, finding, remedy)


def check_pod_security(visit: Visit) -> Row:
    """The namespace admits the pods, the operator's additions included."""
    what, settings = "pod security", visit.settings
    level = (visit.namespace_labels or {}).get("pod-security.kubernetes.io/enforce", "")
    if level != "restricted":
        return Row(what, State.OK, f"the namespace enforces {level or 'no level'}")
    if settings.nodes == 1 or settings.min_nodes is not None:
        return Row(what, State.OK, "the namespace enforces restricted, which the pods of this job meet")
    return Row(
        what,
        State.WARNING,
        "the namespace enforces restricted, and the operator adds an init container without a securityContext to each worker: "
        "workers will not be created",
        "give the operator a template with one (--pytorch-init-container-template-file), make the job elastic (--min_nodes), "
        "use one node, or another namespace",
    )


def check_gang(visit: Visit) -> Row:
    """The operator works with a scheduler that starts all pods or none."""
    what = "gang scheduling"
    names = [name for name in visit.operator_flag("gang-scheduler-name") if name]
    if names:
        return Row(what, State.OK, f"by {names[0]}")
    if visit.operator is None:
        return Row(what, State.NOT_CHECKED, "the operator was not found", "without --gang-scheduler-name of the operator it is ignored")
    remedy = "start the operator with --gang-scheduler-name=volcano or scheduler-plugins, or leave placement.gang out"
    return Row(what, State.MISSING, "the operator has no --gang-scheduler-name and ignores the wish", remedy)
