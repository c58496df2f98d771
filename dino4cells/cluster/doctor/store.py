"""Can the output's object store be written?"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping, MutableMapping

from dino4cells import storage
from dino4cells.cluster.api import ClusterError
from dino4cells.cluster.client import Cluster
from dino4cells.cluster.doctor.rows import Row, State
from dino4cells.cluster.doctor.visit import Visit
from dino4cells.cluster.handoff import Store, store_of
from dino4cells.cluster.providers import KFP_LAUNCHER
from dino4cells.cluster.step import reach, trust
from dino4cells.errors import ConfigError, Dino4CellsError, StorageError, StoreUnavailable
from dino4cells.redaction import redacted
from dino4cells.storage_retry import at_most

_WHAT = "object store"
_OF_PODS = (
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
)
_SECONDS = 10.0  # a table is waited for
_CONTENT = b"dino4cells doctor\n"


def check_store(visit: Visit) -> Row:
    """A small object is written below the output, read and deleted, as the pods would where their credentials may be read."""
    if not visit.output:
        return Row(_WHAT, State.NOT_CHECKED, "no place to write to is given", "give --output s3://bucket/…, where the job is to write")
    if storage.is_local(visit.output) or visit.output.startswith("memory://"):
        return Row(_WHAT, State.MISSING, f"{visit.output} is a place of this machine", "give --output s3://bucket/…, which pods can reach")
    try:
        environment, whose = _environment(visit)
    except ConfigError as error:
        return Row(_WHAT, State.MISSING, str(error).rstrip("."), "correct the settings or the config map")
    with _replaced(environment):
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "the provider's own endpoint"
        how = f"from this machine at {redacted(endpoint)}, with {whose}"
        try:
            with at_most(_SECONDS):
                _try(storage.join(visit.output, f".dino4cells-doctor-{uuid.uuid4().hex[:8]}"))
        except StorageError as error:
            finding = f"{str(error).rstrip('.')} ({how})"
            if isinstance(error, StoreUnavailable):
                return Row(_WHAT, State.WARNING, finding, "pods may see another network than this machine; run doctor in a pod to know")
            return Row(_WHAT, State.MISSING, finding, "create the bucket, or correct endpoint and credentials")
    return Row(_WHAT, State.OK, f"written, read and deleted {how}; pods may see another network")


def _try(url: str) -> None:
    storage.write_bytes(url, _CONTENT)
    try:
        if storage.read_bytes(url) != _CONTENT:
            raise StorageError(f"{url}: what was written is not what is read; another store may answer.")
    finally:
        storage.remove(url)


def _environment(visit: Visit) -> tuple[Mapping[str, str] | None, str]:
    """Variables by which the pods of the job reach the store, and whose they are; None: those of this machine."""
    own = (None, "the credentials of this machine")
    if not visit.has_cluster or visit.output.startswith("gs://"):
        return own
    cluster = Cluster(visit.api)
    try:
        found = _store(visit, cluster)
        if not found.secrets:
            return own
        environment: MutableMapping[str, str] = {}
        reach(found, cluster, environment=environment)
        trust(visit.settings.authority, cluster, environment)
    except ClusterError:
        return own
    except ConfigError:
        raise
    except Dino4CellsError:
        return own
    secrets = ", ".join(dict.fromkeys(variable.secret for variable in found.secrets))
    return environment, f"the credentials of secret {secrets}, as the pods"


def _store(visit: Visit, cluster: Cluster) -> Store:
    try:
        known = cluster.config_map(KFP_LAUNCHER)
    except ClusterError:
        known = None
    return store_of(visit.output, visit.settings, launcher_config=known)


@contextlib.contextmanager
def _replaced(variables: Mapping[str, str] | None) -> Iterator[None]:
    """The environment of the pods in place of this machine's, for a moment."""
    if variables is None:
        yield
        return
    before = {name: os.environ.get(name) for name in {*_OF_PODS, *variables}}
    for name in before:
        os.environ.pop(name, None)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
