"""Is there room for the job: quotas and limits of the namespace, nodes and GPUs of the cluster?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from dino4cells.cluster.api import Json
from dino4cells.cluster.doctor.rows import Row, State
from dino4cells.cluster.doctor.visit import Visit
from dino4cells.cluster.job import Toleration
from dino4cells.cluster.quantities import parse_quantity
from dino4cells.cluster.settings import JobSettings

_OTHER_SCOPES = frozenset({"Terminating", "BestEffort"})
"""Quotas of these scopes count other pods than a job's."""


def check_quota(visit: Visit) -> list[Row]:
    """What the namespace may still use, against what the job asks for."""
    needed, rows = _totals(visit.settings), []
    for quota in visit.all_of("resourcequotas"):
        if not _counts(quota, visit.settings):
            continue
        status = quota.get("status") or {}
        hard, used = status.get("hard") or quota["spec"].get("hard") or {}, status.get("used") or {}
        never: list[str] = []
        now: list[str] = []
        for key, amount in needed.items():
            if amount and key in hard:
                limit, taken = parse_quantity(hard[key]) or 0.0, parse_quantity(used.get(key, "0")) or 0.0
                words = f"{key}: {_amount(key, amount)} asked, {_amount(key, max(0.0, limit - taken))} of {_amount(key, limit)} left"
                (never if amount > limit else now if amount > limit - taken else []).append(words)
        what = f"quota {quota['metadata']['name']}"
        if never:
            rows.append(Row(what, State.MISSING, "; ".join(never), "ask for less, or have the quota raised: this job can never run"))
        elif now:
            rows.append(Row(what, State.WARNING, "; ".join(now), "pods will not be created until others have ended"))
        else:
            rows.append(Row(what, State.OK, "leaves room"))
    return rows or [Row("quota", State.OK, "the namespace has none that counts this job")]


def check_limits(visit: Visit) -> list[Row]:
    """What the namespace allows a single container or pod, against what a pod of the job asks for."""
    resources, rows = visit.settings.resources, []
    asked = {"cpu": resources.cpu, "memory": resources.memory}
    most = {"cpu": resources.cpu_limit or resources.cpu, "memory": resources.memory_limit or resources.memory}
    if resources.gpus:
        asked[resources.gpu_resource] = most[resources.gpu_resource] = str(resources.gpus)
    for limits in visit.all_of("limitranges"):
        problems = []
        for item in limits["spec"].get("limits") or ():
            if item.get("type") not in ("Container", "Pod"):
                continue
            for given, bound, above in ((most, item.get("max") or {}, True), (asked, item.get("min") or {}, False)):
                for key, text in bound.items():
                    amount, limit = parse_quantity(given.get(key, "")), parse_quantity(text)
                    if amount is not None and limit is not None and (amount > limit if above else amount < limit):
                        problems.append(f"{key}: {given[key]} asked, {'at most' if above else 'at least'} {text} a {item['type'].lower()}")
        what = f"limits {limits['metadata']['name']}"
        if problems:
            rows.append(Row(what, State.MISSING, "; ".join(problems), "ask for what is allowed: pods will not be created"))
        else:
            rows.append(Row(what, State.OK, "allow a pod of this size"))
    return rows


def check_nodes(visit: Visit) -> Row:
    """Nodes with the labels, taints and size that the pods can be put on."""
    settings = visit.settings
    why = Counter(reason for reason in (_unfit(node, settings) for node in visit.nodes) if reason)
    count = len(visit.nodes) - sum(why.values())
    if not count:
        words = "; ".join(f"{number} × {reason}" for reason, number in why.most_common(4))
        remedy = "correct placement.node_selector, placement.tolerations or resources, unless an autoscaler adds such nodes"
        return Row("nodes", State.MISSING, f"none of {len(visit.nodes)} can take a pod ({words or 'there are none'})", remedy)
    return Row("nodes", State.OK, f"{count} of {len(visit.nodes)} can take a pod by labels, taints, CPUs and memory")


def check_gpus(visit: Visit) -> Row:
    """GPUs on the nodes that may take a pod, whoever uses them now."""
    resources, count = visit.settings.resources, visit.settings.nodes
    what = f"GPUs ({resources.gpu_resource})"
    room = sum(
        int(_allocatable(node, resources.gpu_resource) // resources.gpus) for node in visit.nodes if not _unfit(node, visit.settings)
    )
    least = visit.settings.min_nodes or count
    if room >= count:
        return Row(what, State.OK, f"room for {room} pods of {resources.gpus} when nobody else uses them")
    kinds = sorted({key for node in visit.nodes for key, text in _capacity(node).items() if "/" in key and parse_quantity(text)})
    if not room and not any(_allocatable(node, resources.gpu_resource) for node in visit.nodes):
        others = f"; nodes offer {', '.join(kinds)}" if kinds else ""
        remedy = "install the device plugin, correct resources.gpu_resource, or ask for none, unless an autoscaler adds such nodes"
        return Row(what, State.MISSING, f"no node offers any{others}", remedy)
    state = State.WARNING if room >= least else State.MISSING
    finding = f"room for {room} of {count} pods of {resources.gpus} even when nobody else uses them"
    return Row(what, state, finding, "ask for fewer nodes or fewer GPUs a node, unless an autoscaler adds such nodes")


def _totals(settings: JobSettings) -> dict[str, float]:
    """What the job adds to each thing that a quota may count."""
    resources, count = settings.resources, settings.nodes
    cpu, memory = parse_quantity(resources.cpu) or 0.0, parse_quantity(resources.memory) or 0.0
    cpu_limit, memory_limit = parse_quantity(resources.cpu_limit or "") or cpu, parse_quantity(resources.memory_limit or "") or memory
    totals = {"cpu": count * cpu, "requests.cpu": count * cpu, "limits.cpu": count * cpu_limit}
    totals.update({"memory": count * memory, "requests.memory": count * memory, "limits.memory": count * memory_limit})
    totals.update({"pods": count, "count/pods": count, "services": count, "count/services": count, "count/pytorchjobs.kubeflow.org": 1})
    if resources.gpus:
        totals[f"requests.{resources.gpu_resource}"] = totals[f"limits.{resources.gpu_resource}"] = count * resources.gpus
    return totals


def _counts(quota: Json, settings: JobSettings) -> bool:
    """Whether a quota counts the pods of the job."""
    spec = quota["spec"]
    if _OTHER_SCOPES & set(spec.get("scopes") or ()):
        return False
    priority = settings.placement.priority_class
    for term in (spec.get("scopeSelector") or {}).get("matchExpressions") or ():
        if term.get("scopeName") in _OTHER_SCOPES:
            return False
        if term.get("scopeName") == "PriorityClass":
            values = term.get("values") or ()
            fits = {"In": priority in values, "NotIn": priority not in values, "Exists": bool(priority), "DoesNotExist": not priority}
            if not fits.get(term.get("operator", ""), True):
                return False
    return True


def _unfit(node: Json, settings: JobSettings) -> str:
    """Why a node cannot take a pod of the job, GPUs apart; nothing where it can."""
    return next(_obstacles(node, settings), "")


def _obstacles(node: Json, settings: JobSettings) -> Iterator[str]:
    labels, spec = node["metadata"].get("labels") or {}, node.get("spec") or {}
    for key, value in settings.placement.node_selector.items():
        if labels.get(key) != value:
            yield f"without the label {key}={value}"
    for taint in spec.get("taints") or ():
        repels = taint.get("effect") in ("NoSchedule", "NoExecute")
        if repels and not any(_tolerates(item, taint) for item in settings.placement.tolerations):
            value = f"={taint['value']}" if taint.get("value") else ""
            yield f"with the taint {taint['key']}{value}:{taint['effect']}"
    if spec.get("unschedulable"):
        yield "cordoned"
    conditions = (node.get("status") or {}).get("conditions") or ()
    if any(condition.get("type") == "Ready" and condition.get("status") != "True" for condition in conditions):
        yield "not ready"
    for key in ("cpu", "memory"):
        wanted, there = getattr(settings.resources, key), _allocatable(node, key)
        if (parse_quantity(wanted) or 0.0) > there:
            yield f"with less {key} than {wanted}"


def _tolerates(toleration: Toleration, taint: Mapping[str, Any]) -> bool:
    return (
        toleration.key in ("", taint.get("key"))
        and toleration.value in ("", taint.get("value", ""))
        and toleration.effect in ("", taint.get("effect"))
    )


def _capacity(node: Json) -> dict[str, str]:
    return dict((node.get("status") or {}).get("allocatable") or {})


def _allocatable(node: Json, key: str) -> float:
    return parse_quantity(_capacity(node).get(key, "0")) or 0.0


def _amount(key: str, number: float) -> str:
    if key.endswith("memory"):
        return f"{number / 2**30:.4g}Gi"
    return f"{math.ceil(number * 1000) / 1000:g}"
