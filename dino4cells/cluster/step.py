"""The pod that a step of the pipeline runs in: who it is, and how it finds and reaches the object store of its artifacts."""

from __future__ import annotations

import atexit
import base64
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dino4cells.cluster.api import Api, Json
from dino4cells.cluster.client import Cluster
from dino4cells.cluster.handoff import Store, store_of
from dino4cells.cluster.job import Authority, SecretVariable
from dino4cells.cluster.providers import ACCESS_KEY, KFP_LAUNCHER, SECRET_KEY
from dino4cells.cluster.settings import JobSettings
from dino4cells.cluster.variables import ACCESS, NAMESPACE, POD, SECRET
from dino4cells.errors import ConfigError, Dino4CellsError
from dino4cells.storage_s3 import CA_BUNDLE

_SECONDS_FOR_THE_STORE = 60.0
_MAIN, _LAUNCHER = "main", "kfp-launcher"


@dataclass(frozen=True)
class StepPod:
    """What a step's pod says of itself.

    Attributes:
        account: its service account.
        version: of Kubeflow Pipelines, from the image of its launcher; nothing where that has no number.
        references: variables of the step whose values are in secrets.
    """

    account: str = ""
    version: str = ""
    references: Mapping[str, SecretVariable] = field(default_factory=dict)


def step_pod(pod: Json) -> StepPod:
    """What is to be known of a step's pod, from the pod as the cluster has it."""
    spec = pod["spec"]
    containers = spec.get("containers", [])
    main = next((container for container in containers if container["name"] == _MAIN), containers[0] if containers else {})
    references = {}
    for variable in main.get("env") or ():
        if reference := (variable.get("valueFrom") or {}).get("secretKeyRef"):
            name = variable["name"]
            references[name] = SecretVariable(name, reference["name"], reference["key"], bool(reference.get("optional")))
    images = [container["image"] for container in spec.get("initContainers") or () if container["name"] == _LAUNCHER]
    tag = images[0].partition("@")[0].rpartition("/")[2].partition(":")[2] if images else ""
    return StepPod(spec.get("serviceAccountName", ""), tag.lstrip("v") if tag.lstrip("v")[:1].isdigit() else "", references)


@contextmanager
def this_step(patience: float = 15 * 60.0) -> Iterator[tuple[Cluster, StepPod]]:
    """The namespace of this step, asked with some patience (seconds), and what its pod says of itself.

    Raises:
        ConfigError: this process does not know who it is to the cluster.
        ClusterError: the cluster refuses to show the pod, or does not answer.
    """
    api = Api(os.environ[NAMESPACE], patience=patience)
    try:
        cluster, name = Cluster(api), os.environ.get(POD, "")
        found = cluster.pod(name) if name else None
        yield cluster, step_pod(found) if found else StepPod()
    finally:
        api.close()


def find_store(
    uri: str,
    cluster: Cluster,
    settings: JobSettings | None = None,
    *,
    endpoint: str = "",
    secret: str = "",
    pod: StepPod | None = None,
    environment: Mapping[str, str] = os.environ,
    say: Callable[[str], None] = print,
) -> Store:
    """The object store of an artifact, as `handoff.store_of` finds it, from what stands in this environment and in the namespace.

    Args:
        uri, settings, endpoint: as `store_of` takes them.
        cluster: whose namespace has the config map `kfp-launcher`.
        secret: name of a secret, which need not be there.
        pod: of this step, or None: it is no step.
        environment: of this step.
        say: told what was found where; names, never values of secrets.

    Raises:
        ConfigError: a wrong endpoint or config map.
        ClusterError: the cluster refuses to show what is asked for.
    """
    pod = pod or StepPod()
    # An optional secret that is not there leaves a reference without a value.
    references = {name: reference for name, reference in pod.references.items() if name in environment}
    if secret and not _is_there(secret, cluster, pod, environment):
        say(f"object store: secret {secret} is not in namespace {cluster.api.namespace}, or lacks its keys {ACCESS_KEY}, {SECRET_KEY}")
        secret = ""
    store = store_of(
        uri,
        settings,
        endpoint=endpoint,
        secret=secret,
        environment=environment,
        references=references,
        launcher_config=cluster.config_map(KFP_LAUNCHER),
        version=pod.version,
    )
    for line in store.lines():
        say(line)
    return store


def _is_there(secret: str, cluster: Cluster, pod: StepPod, environment: Mapping[str, str]) -> bool:
    names = (ACCESS, SECRET)
    if all(name in pod.references and pod.references[name].secret == secret for name in names):
        return all(name in environment for name in names)
    found = cluster.secret(secret)
    return found is not None and {ACCESS_KEY, SECRET_KEY} <= found.keys()


def reach(store: Store, cluster: Cluster, pod: StepPod | None = None, environment: MutableMapping[str, str] = os.environ) -> None:
    """Let this process reach a store as the pods of a job do.

    The launcher of Kubeflow Pipelines, which runs in the same pod, reads the secret of the artifacts by the API and does not hand it on;
    so does this process where its environment does not hold it.

    Raises:
        ConfigError: a secret or a key in it is not there, or this step may not read it.
    """
    references = (pod or StepPod()).references
    values: dict[str, Mapping[str, bytes]] = {}
    for variable in store.secrets:
        there = references.get(variable.variable)
        if there and (there.secret, there.key) == (variable.secret, variable.key) and variable.variable in environment:
            continue
        if variable.secret not in values:
            values[variable.secret] = _read(variable.secret, cluster)
        if variable.key in values[variable.secret]:
            environment[variable.variable] = values[variable.secret][variable.key].decode()
        elif not variable.optional:
            raise ConfigError(f"secret {variable.secret}: has no key {variable.key}; add it, or name another secret (parameter secret).")
    environment.update(store.environment)


def open_found_store(uri: str, endpoint: str, secret: str) -> None:
    """Find the store of an artifact and let this process reach it; where that fails it is said, since the step may need none.

    Args:
        uri, endpoint, secret: as `find_store` takes them.
    """
    try:
        with this_step(_SECONDS_FOR_THE_STORE) as (cluster, pod):
            reach(find_store(uri, cluster, endpoint=endpoint, secret=secret, pod=pod), cluster, pod)
    except Dino4CellsError as error:
        print(f"object store: is not found as Kubeflow Pipelines finds it ({str(error).rstrip('.')})", flush=True)


def trust(authority: Authority | None, cluster: Cluster, environment: MutableMapping[str, str] = os.environ) -> None:
    """Let this process trust the authority that the pods of a job do, unless its environment names one.

    Raises:
        ConfigError: the certificates are not there, or this step may not read them.
    """
    if authority is None or environment.get(CA_BUNDLE):
        return
    kind, name = ("secret", authority.secret) if authority.secret else ("config map", authority.config_map)
    found = _read(name, cluster) if authority.secret else cluster.config_map(name)
    content = (found or {}).get(authority.file)
    if content is None:
        raise ConfigError(f"{kind} {name}: has no {authority.file} with the certificates of the store's authority; add it.")
    handle, path = tempfile.mkstemp(prefix="dino4cells-", suffix=".pem")
    atexit.register(Path(path).unlink, missing_ok=True)
    with os.fdopen(handle, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    environment[CA_BUNDLE] = path


def _read(secret: str, cluster: Cluster) -> Mapping[str, bytes]:
    namespace = cluster.api.namespace
    found = cluster.secret(secret)
    if found is None:
        raise ConfigError(f"secret {secret}: is not in namespace {namespace}; create it there, or name another (parameter secret).")
    return {key: base64.b64decode(value) for key, value in found.items()}
