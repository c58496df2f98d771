"""All checks, in the order in which a person would mend what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dino4cells.cluster.api import ClusterError, Refused, within
from dino4cells.cluster.doctor import cluster, room, settings, store
from dino4cells.cluster.doctor.rows import Row, State
from dino4cells.cluster.doctor.visit import Visit
from dino4cells.cluster.settings import JobSettings

_MAY_NOT = "this account may not look"


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        what: it looks at, for the table where it cannot look.
        look: gives the rows of the table.
        shows: how a failure will show later, where this account may not look.
        wanted: whether the settings ask for anything of the kind; else there is no row.
        needs_cluster: without one it is not done.
    """

    what: str
    look: Callable[[Visit], Row | list[Row]]
    shows: str = ""
    wanted: Callable[[JobSettings], object] = lambda settings: True
    needs_cluster: bool = True


def _place(name: str) -> Callable[[JobSettings], object]:
    """Whether the settings say this about where and for whom the job runs."""
    return lambda settings: getattr(settings.placement, name)


CHECKS = (
    Check("settings", settings.check_settings, needs_cluster=False),
    Check("image", settings.check_image, needs_cluster=False),
    Check("cluster", cluster.check_api, needs_cluster=False),
    Check("namespace", cluster.check_namespace, "if it is not there, submitting says so"),
    Check("kind pytorchjobs.kubeflow.org", cluster.check_kind, "if it is not known, submitting says so"),
    Check(
        "training operator",
        cluster.check_operator,
        "if none watches this namespace, a job stays 'submitted' and is given up after 90 seconds",
    ),
    Check("rights", cluster.check_rights, "a request that is refused is named with its verb"),
    Check("pod security", cluster.check_pod_security, "if it forbids the operator's init container, workers are not created"),
    Check("gang scheduling", cluster.check_gang, "if the operator has no gang scheduler, pods start one by one", _place("gang")),
    Check("secrets", settings.check_secrets, "if one is missing, pods show CreateContainerConfigError"),
    Check("pull secrets", settings.check_pull_secrets, "if one is missing, pods show ImagePullBackOff", _place("image_pull_secrets")),
    Check("config map", settings.check_config_map, "if it is missing, pods stay ContainerCreating", lambda wish: wish.config),
    Check("authority", settings.check_authority, "if it is missing, pods stay ContainerCreating", lambda wish: wish.authority),
    Check("service account", settings.check_service_account, "if it is missing, pods are not created", _place("service_account")),
    Check("priority class", settings.check_priority, "if it is missing, pods are not created", _place("priority_class")),
    Check("queue", settings.check_queue, "if it is missing, the job stays 'queued'", _place("queue")),
    Check("quota", room.check_quota, "if it is used up, pods are not created"),
    Check("limits", room.check_limits, "if a pod is too large, it is not created"),
    Check("nodes", room.check_nodes, "if none fits, the job stays 'scheduling' with the scheduler's words"),
    Check(
        "GPUs",
        room.check_gpus,
        "if there are too few, the job stays 'scheduling' with the scheduler's words",
        lambda wish: wish.resources.gpus,
    ),
    Check("object store", store.check_store, needs_cluster=False),
)


def examine(visit: Visit) -> Iterator[Row]:
    """Every row of the table, as it is found out; no check changes anything but the store's, which cleans up."""
    reachable = True
    for check in CHECKS:
        if not check.wanted(visit.settings):
            continue
        if check.needs_cluster and not reachable:
            remedy = "make the cluster answer first" if visit.has_cluster else cluster.CONFIGURE
            yield Row(check.what, State.NOT_CHECKED, "needs the cluster", remedy)
            continue
        try:
            found = check.look(visit)
        except Refused as error:
            finding = _MAY_NOT if error.status == 403 else within(error)
            yield Row(check.what, State.NOT_CHECKED, finding, check.shows)
            continue
        except ClusterError as error:
            yield Row(check.what, State.NOT_CHECKED, within(error), check.shows)
            continue
        rows = [found] if isinstance(found, Row) else found
        if check.look is cluster.check_api:
            reachable = rows[0].state is State.OK
        yield from rows
