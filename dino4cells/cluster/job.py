"""What a job is, in words of no particular cluster, and what a launcher must do with it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import ConfigDict

DAY_SECONDS = 24 * 60 * 60
STRICT_KEYS = ConfigDict(extra="forbid", coerce_numbers_to_str=True)
"""How these classes are read from a file: no unknown keys, and `cpu: 2` or `team: 7` is text for Kubernetes."""


@dataclass(frozen=True)
class Resources:
    """What one node of a job gets, in Kubernetes' quantities (`2`, `500m`, `8Gi`).

    Attributes:
        cpu, memory: requested, and the limits too where those are not given.
        cpu_limit, memory_limit: largest use, or None: as requested.
        gpus: whole GPUs, of the kind that `gpu_resource` names (`nvidia.com/gpu`, `amd.com/gpu`, a MIG profile).
        shared_memory: size of /dev/shm, through which the processes that read images hand over batches; counts as memory.
        scratch: size of /tmp, where an artifact is assembled before it is uploaded.
    """

    __pydantic_config__ = STRICT_KEYS

    cpu: str = "2"
    memory: str = "8Gi"
    cpu_limit: str | None = None
    memory_limit: str | None = None
    gpus: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    shared_memory: str = "2Gi"
    scratch: str = "10Gi"


@dataclass(frozen=True)
class SecretVariable:
    """An environment variable whose value stays in a secret of the cluster."""

    __pydantic_config__ = STRICT_KEYS

    variable: str
    secret: str
    key: str
    optional: bool = False


@dataclass(frozen=True)
class Toleration:
    """A taint that the job's nodes may have; an empty key tolerates all, an empty value any, an empty effect each effect."""

    __pydantic_config__ = STRICT_KEYS

    key: str = ""
    value: str = ""
    effect: str = ""


@dataclass(frozen=True)
class Placement:
    """Where and for whom a cluster runs a job.

    Attributes:
        node_selector: labels that a node must have.
        tolerations: taints that it may have.
        priority_class: of the pods.
        image_pull_secrets: secrets with which the image is pulled.
        service_account: of the pods; they never get its token.
        queue: Kueue queue that admits the job, or None: it starts at once.
        gang: start all nodes together or none (a scheduler with pod groups is needed).
        labels, annotations: added to the job and its pods.
    """

    __pydantic_config__ = STRICT_KEYS

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    priority_class: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str | None = None
    queue: str | None = None
    gang: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ConfigFile:
    """A file out of a cluster's configuration object, mounted read-only at `/etc/dino4cells/<file>`."""

    __pydantic_config__ = STRICT_KEYS

    config_map: str
    file: str = "config.yaml"


@dataclass(frozen=True)
class Authority:
    """Certificates of whoever signed those of the object store, which a cluster keeps; not needed where a public authority did.

    Attributes:
        config_map, secret: name of what holds them, one of the two.
        file: key in it; PEM.
    """

    __pydantic_config__ = STRICT_KEYS

    config_map: str = ""
    secret: str = ""
    file: str = "ca.crt"


@dataclass(frozen=True)
class JobSpec:
    """One distributed job: the same Python module in every process.

    Attributes:
        name: what people call it; a launcher derives names of its own from it.
        module: started as `torchrun -m MODULE`.
        arguments: of the module.
        nodes: machines or pods.
        processes_per_node: processes on each; one per GPU, or a few that share the cores.
        environment: extra variables; never secrets.
        min_nodes: with how few nodes an elastic job goes on, or None: always with all of them.
        image: container image, where a cluster runs the job.
        resources: of one node.
        secrets: variables whose values a cluster keeps.
        config: configuration that a cluster keeps, or None.
        authority: that the object store's certificate is trusted by, or None: the public ones.
        placement: where and for whom.
        tolerated_failures: how many times a process may fail before the job does.
        keep_seconds: how long a finished job can be looked at.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    nodes: int = 1
    processes_per_node: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    min_nodes: int | None = None
    image: str = ""
    resources: Resources = field(default_factory=Resources)
    secrets: tuple[SecretVariable, ...] = ()
    config: ConfigFile | None = None
    authority: Authority | None = None
    placement: Placement = field(default_factory=Placement)
    tolerated_failures: int = 3
    keep_seconds: int = DAY_SECONDS

    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of everything that the job is; the same for equal jobs."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()


class Launcher(Protocol):
    """Runs a job to its end."""

    def run(self, job: JobSpec) -> None:
        """Return when the job has succeeded.

        Raises:
            JobFailed: it did not; the message holds the reason that the job gave.
        """


@dataclass(frozen=True)
class Processes:
    """How many processes share the work of a step, and who starts them."""

    launcher: Launcher
    nodes: int = 1
    per_node: int = 1
