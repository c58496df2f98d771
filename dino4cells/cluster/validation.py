"""What a cluster would refuse, or accept and not survive, said before a job is sent.

The operator's webhook and the API server check less than one would think: a misspelt policy or a negative limit is accepted and
ignored. The rules here are those of the Training Operator 1.9 and of Kubernetes' own names, and what was seen to fail at run time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dino4cells.cluster.job import Authority, JobSpec, Resources
from dino4cells.cluster.names import LONGEST_NAME, job_name
from dino4cells.cluster.quantities import parse_quantity
from dino4cells.errors import ConfigError
from dino4cells.redaction import holds_secret, is_secret_name

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_QUALIFIED = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?)?")
_IMAGE = re.compile(r"[a-z0-9]([-._a-z0-9:]*[a-z0-9])?(/[a-z0-9]([-._a-z0-9]*[a-z0-9])?)*(:[\w][-.\w]{0,127})?(@sha256:[0-9a-f]{64})?")
_EFFECTS = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
SEEN_BY_OPERATOR = frozenset({"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK"})


def check_job(job: JobSpec) -> None:
    """Refuse a job that cannot run.

    Raises:
        ConfigError: one sentence: what is wrong, and what to do.
    """
    for problem in _problems(job):
        raise ConfigError(problem)


def _problems(job: JobSpec) -> Iterable[str]:
    yield from _sizes(job)
    if not job.image:
        yield "image: is not given; name the container image that holds dino4cells, for example by --image."
    elif len(job.image) > 500 or _IMAGE.fullmatch(job.image) is None:
        yield f"image: '{job.image}' is no name of a container image; write for example registry/dino4cells:0.1.0."
    yield from _resources(job.resources)
    yield from _variables(job)
    yield from _placement(job)


def _sizes(job: JobSpec) -> Iterable[str]:
    if not job.name or len(job.name) > 63 or _LABEL_VALUE.fullmatch(job.name) is None:
        yield f"name: '{job.name}' cannot be a label of the job; use letters, digits, -, _ and dots, at most 63."
    if job.nodes < 1:
        yield f"nodes: must be at least 1, not {job.nodes}."
    if job.processes_per_node < 1:
        yield f"processes per node: must be at least 1, not {job.processes_per_node}."
    if job.min_nodes is not None and not 1 <= job.min_nodes <= job.nodes:
        yield f"min nodes: must lie between 1 and nodes ({job.nodes}), not {job.min_nodes}."
    if job.tolerated_failures < 0:
        yield f"tolerated failures: must be at least 0, not {job.tolerated_failures}."
    if job.keep_seconds < 0:
        yield f"keep seconds: must be at least 0, not {job.keep_seconds}."
    gpus = job.resources.gpus
    if gpus < 0:
        yield f"gpus: must be at least 0, not {gpus}."
    if gpus and gpus != job.processes_per_node:
        yield f"gpus: {gpus} a node and {job.processes_per_node} processes a node do not fit; give each process one GPU."
    if len(f"{job_name(job)}-worker-{job.nodes}") > 63:
        yield f"nodes: {job.nodes} give pods names of more than 63 characters; use a job name shorter than {LONGEST_NAME}."


def _resources(resources: Resources) -> Iterable[str]:
    for name in ("cpu", "memory", "shared_memory", "scratch", "cpu_limit", "memory_limit"):
        value = getattr(resources, name)
        if value is not None and not parse_quantity(value):
            yield f"{name}: '{value}' is no quantity above 0; write for example {'2 or 500m' if name.startswith('cpu') else '8Gi'}."
    for name in ("cpu", "memory"):
        request, limit = parse_quantity(getattr(resources, name)), parse_quantity(getattr(resources, f"{name}_limit") or "")
        if request and limit and limit < request:
            yield f"{name}_limit: is below what is requested ({getattr(resources, name)}); raise it or leave it out."
    memory = parse_quantity(resources.memory_limit or resources.memory)
    shared = parse_quantity(resources.shared_memory)
    if memory and shared and shared > memory:
        yield f"shared_memory: {resources.shared_memory} counts as memory and is more than that limit; lower it or raise memory."
    if resources.gpus and ("/" not in resources.gpu_resource or _QUALIFIED.fullmatch(resources.gpu_resource) is None):
        yield f"gpu_resource: '{resources.gpu_resource}' is no name of an extended resource; write for example nvidia.com/gpu."


def _variables(job: JobSpec) -> Iterable[str]:
    names = [*job.environment, *(secret.variable for secret in job.secrets)]
    for name in names:
        if _VARIABLE.fullmatch(name) is None:
            yield f"environment: '{name}' is no name of a variable; use letters, digits and _."
        if name in SEEN_BY_OPERATOR or name.startswith("PET_"):
            yield f"environment: {name} is set by the operator; leave it out."
        if names.count(name) > 1:
            yield f"environment: {name} is given twice; give it once."
    for name, value in job.environment.items():
        if value and (is_secret_name(name) or holds_secret(value)):
            yield f"environment: {name} looks like a secret and would be readable in the manifest; keep it in a secret and name that."
    for word in job.arguments:
        if holds_secret(word):
            yield (
                f"arguments: {_shown(word)} holds a password, a token or a signature, which would be readable in the manifest; "
                "give the address without, and what opens the store by a secret."
            )
    for secret in job.secrets:
        if _SUBDOMAIN.fullmatch(secret.secret) is None or len(secret.secret) > 253:
            yield f"secret: '{secret.secret}' is no name of a secret; use lower-case letters, digits, - and dots."
        if _KEY.fullmatch(secret.key) is None:
            yield f"secret {secret.secret}: '{secret.key}' is no key of a secret; use letters, digits, -, _ and dots."
    if job.config and (_SUBDOMAIN.fullmatch(job.config.config_map) is None or _KEY.fullmatch(job.config.file) is None):
        yield f"config map: '{job.config.config_map}' with the file '{job.config.file}' cannot be one; use lower-case letters, digits, -."
    yield from _authority(job.authority)


def _authority(authority: Authority | None) -> Iterable[str]:
    if authority is None:
        return
    if bool(authority.config_map) == bool(authority.secret):
        yield "authority: is kept in a config map or in a secret; give one of config_map and secret."
    elif _SUBDOMAIN.fullmatch(authority.config_map or authority.secret) is None or _KEY.fullmatch(authority.file) is None:
        yield f"authority: '{authority.config_map or authority.secret}' with the file '{authority.file}' cannot be one; correct the names."


def _shown(word: str) -> str:
    return word if len(word) < 200 and "\n" not in word else "the configuration"


def _placement(job: JobSpec) -> Iterable[str]:
    place = job.placement
    for what, mapping in (("node selector", place.node_selector), ("label", place.labels)):
        for key, value in mapping.items():
            if _QUALIFIED.fullmatch(key) is None or _LABEL_VALUE.fullmatch(value) is None or len(value) > 63:
                yield f"{what}: '{key}={value}' is no label of Kubernetes; use letters, digits, -, _ and dots, at most 63 in the value."
    for key in place.annotations:
        if _QUALIFIED.fullmatch(key) is None:
            yield f"annotation: '{key}' is no name of an annotation; use letters, digits, -, _ and dots."
    for toleration in place.tolerations:
        if toleration.effect not in _EFFECTS:
            yield f"toleration: the effect '{toleration.effect}' is not known; use one of {', '.join(_EFFECTS[1:])}."
        if toleration.value and not toleration.key:
            yield f"toleration: the value '{toleration.value}' needs a key."
    named = {"priority class": place.priority_class, "service account": place.service_account, "queue": place.queue}
    named.update({f"pull secret {number}": name for number, name in enumerate(place.image_pull_secrets, start=1)})
    for what, name in named.items():
        if name is not None and (_SUBDOMAIN.fullmatch(name) is None or len(name) > 253):
            yield f"{what}: '{name}' is no name of Kubernetes; use lower-case letters, digits, - and dots."
