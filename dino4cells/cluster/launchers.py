"""Launchers by name, as the pipeline's parameter and the command line give them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from dino4cells import storage
from dino4cells.cluster.handoff import BUCKETS, Place, place_of
from dino4cells.cluster.job import Placement, Processes, Toleration
from dino4cells.cluster.local import LocalLauncher
from dino4cells.cluster.settings import JobSettings, parse_settings
from dino4cells.cluster.sign import SIGN
from dino4cells.cluster.variables import ACCESS, ENDPOINT, NAMESPACE, POD, POD_UID, RUN
from dino4cells.errors import ConfigError

LAUNCHERS = ("local", "pytorchjob")

_UPLOADS = 16


@dataclass(frozen=True)
class JobParameters:
    """What the pipeline's parameters say about how a step runs.

    Attributes:
        nodes, gpus: pods of a PyTorchJob, and GPUs of each.
        processes: of each node where that has no GPU.
        image: of the pods.
        queue: Kueue queue, or nothing.
        secret: with the keys `accesskey` and `secretkey` (and `endpoint`) of the object store; it need not be there.
        endpoint: URL of the object store, or nothing.
        pull_secret: with which the image is pulled; it need not be there.
        tolerations: as Kubernetes writes them.
        node_selector: labels that nodes must have.
        settings: text of more settings of jobs (YAML), or nothing.
    """

    nodes: int = 1
    processes: int = 1
    gpus: int = 0
    image: str = ""
    queue: str = ""
    secret: str = ""
    endpoint: str = ""
    pull_secret: str = ""
    tolerations: Sequence[Mapping[str, Any]] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    settings: str = ""

    def job_settings(self) -> JobSettings:
        """The settings of jobs with these parameters over them.

        Raises:
            ConfigError: a wrong key or value, or one that is a parameter of its own.
        """
        settings = parse_settings(self.settings)
        for name, given, usual in (
            ("image", settings.image, ""),
            ("nodes", settings.nodes, 1),
            ("processes_per_node", settings.processes_per_node, None),
            ("resources.gpus", settings.resources.gpus, 0),
        ):
            if given != usual:
                raise ConfigError(f"settings: {name} is a parameter of its own; give it there.")
        return dataclasses.replace(
            settings,
            image=self.image,
            nodes=self.nodes,
            processes_per_node=self.gpus or self.processes,
            resources=dataclasses.replace(settings.resources, gpus=self.gpus),
            placement=self._placed(settings.placement),
        )

    def _placed(self, placement: Placement) -> Placement:
        secrets = (self.pull_secret,) if self.pull_secret and self.pull_secret not in placement.image_pull_secrets else ()
        return dataclasses.replace(
            placement,
            queue=self.queue or placement.queue,
            tolerations=placement.tolerations + tuple(map(_toleration, self.tolerations)),
            node_selector={**placement.node_selector, **self.node_selector},
            image_pull_secrets=placement.image_pull_secrets + secrets,
        )


@dataclass(frozen=True)
class Launch:
    """How a step's work runs and where its artifact goes.

    Attributes:
        output: URL that the work writes.
        checkpoints: URL of what an interrupted job goes on from, or None: beside the output.
        processes: that share the work, or None: this one does it alone.
        shared: directory that all pods of a job see, or None: the work stays on this machine.
    """

    output: str
    checkpoints: str | None
    processes: Processes | None
    shared: str | None = None

    def artifact(self, uri: str, path: str) -> str:
        """Where the work's processes read an artifact that an earlier step has written.

        Args:
            uri: as Kubeflow Pipelines names it.
            path: of the copy on this machine.
        """
        return path if self.shared is None else place_of(uri).url

    def data(self, directory: str | None) -> str | None:
        """A directory of cells where the work's processes can read it: itself, or, where that is simulated, a copy in the shared one.

        Raises:
            ConfigError: a place of this machine, which other pods do not see.
        """
        from dino4cells.data.embedded import simulated_directory
        from dino4cells.data.metadata import METADATA_FILE

        if self.shared is None or not directory or not storage.is_local(directory):
            return directory
        if directory != str(simulated_directory()):
            raise ConfigError(f"data: {directory} is a place of this pod, which those of a job do not see; give a URL such as s3://….")
        copy = storage.join(self.shared, "simulated-cells")
        if not storage.exists(storage.join(copy, METADATA_FILE)):
            names = [name for name in storage.list_files(directory) if name != METADATA_FILE]
            with ThreadPoolExecutor(_UPLOADS) as pool:
                list(pool.map(lambda name: _copy(name, directory, copy), names))
            _copy(METADATA_FILE, directory, copy)  # last: where it is, the copy is whole
        return copy


def _copy(name: str, directory: str, copy: str) -> None:
    storage.upload(storage.local_path(storage.join(directory, name)), storage.join(copy, name))


def launch_of(launcher: str, uri: str, path: str, parameters: JobParameters) -> Launch:
    """How a step of the pipeline runs its work.

    Args:
        launcher: `local` or `pytorchjob`.
        uri: that Kubeflow Pipelines has planned for the artifact.
        path: of the artifact on this machine.
        parameters: of the pipeline.

    Raises:
        ConfigError: an unknown launcher, no cluster where one is needed, or a wrong parameter.
        ClusterError: the cluster refuses to say how its object store is reached.
    """
    _check(launcher, parameters.processes)
    if launcher == "local":
        if parameters.nodes != 1:
            raise ConfigError(f"nodes: {parameters.nodes} need the launcher 'pytorchjob'; 'local' has one, so raise processes instead.")
        _check_gpus(parameters.gpus)
        open_store(uri, parameters.endpoint, parameters.secret)
        return Launch(path, None, processes_of("local", parameters.processes, tuple(range(parameters.gpus))))
    check_cluster()
    place, processes = _on_cluster(uri, parameters)
    return Launch(place.url, place.checkpoints, processes, storage.parent(place.url))


def _on_cluster(uri: str, parameters: JobParameters) -> tuple[Place, Processes]:
    # Imported where they are used: the client of Kubernetes is an extra.
    from dino4cells.cluster.launcher import LauncherPod, LauncherSettings, PyTorchJobLauncher
    from dino4cells.cluster.step import find_store, reach, this_step, trust

    place, settings = place_of(uri), parameters.job_settings()
    with this_step() as (cluster, pod):
        store = find_store(uri, cluster, settings, endpoint=parameters.endpoint, secret=parameters.secret, pod=pod)
        reach(store, cluster, pod)
        trust(settings.authority, cluster)
    settings = store.over(settings, pod.account)
    name, uid = os.environ.get(POD, ""), os.environ.get(POD_UID, "")
    launcher = PyTorchJobLauncher(
        LauncherSettings(
            os.environ[NAMESPACE],
            run=os.environ.get(RUN, ""),
            # The job goes with the pod. When a run is terminated Argo keeps the pod: it signals the process group of the SDK's launcher,
            # which ends at once and the container with it, so that this process may have no time to delete the job itself. A job that
            # is left behind ends without this process's sign of life.
            pod=LauncherPod(name, uid) if name and uid else None,
            template=settings.job("", "", ()),
            sign=storage.join(place.checkpoints, SIGN),
        )
    )
    return place, Processes(launcher, settings.nodes, settings.processes_per_node or 1)


def open_store(uri: str, endpoint: str, secret: str = "") -> None:
    """Let this process read and write the object store of an artifact, where images may be as well, as the pods of a job do.

    Where this is no step of a pipeline on a cluster, or its environment opens a store already, only the endpoint is taken over. What cannot
    be found out is said and fails nothing: a step that reads no store needs none.

    Args:
        uri: of the artifact, as Kubeflow Pipelines names it.
        endpoint: parameter of the pipeline: URL, or nothing.
        secret: parameter of the pipeline: it need not be there.
    """
    if endpoint:
        os.environ[ENDPOINT] = endpoint
    opened = os.environ.get(ACCESS) or os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE")
    if opened or not os.environ.get(NAMESPACE) or uri.partition("://")[0] not in BUCKETS:
        return
    from dino4cells.cluster.step import open_found_store

    open_found_store(uri, endpoint, secret)


def check_cluster() -> None:
    """Refuse to start a PyTorchJob from what is no step of a pipeline on a cluster.

    Raises:
        ConfigError: this is none.
    """
    if not os.environ.get(NAMESPACE):
        raise ConfigError(
            "launcher: 'pytorchjob' starts pods and this is no step of a pipeline on a cluster; use 'local' here, or upload the pipeline "
            "to Kubeflow (dino4cells pipeline compile) and choose it there."
        )


def processes_of(launcher: str, processes: int, gpus: tuple[int, ...] = ()) -> Processes | None:
    """The processes of this machine that share a step's work, or None where the step's own process does it alone.

    Raises:
        ConfigError: an unknown launcher, one that needs a cluster, or fewer than one process.
    """
    _check(launcher, processes)
    if launcher == "pytorchjob":
        check_cluster()
    count = len(gpus) or processes
    return Processes(LocalLauncher(gpus), per_node=count) if count > 1 or gpus else None


def _check(launcher: str, processes: int) -> None:
    if launcher not in LAUNCHERS:
        raise ConfigError(f"launcher: '{launcher}' is not known; choose one of {', '.join(LAUNCHERS)}.")
    if processes < 1:
        raise ConfigError(f"processes: must be at least 1, not {processes}.")


def _check_gpus(wanted: int) -> None:
    """A step's own pod asks for no GPU: with `pytorchjob` it would hold one beside those of the job, for nothing."""
    if not wanted:
        return
    import torch  # here, so that help and version stay quick

    there = torch.cuda.device_count()
    if there < wanted:
        raise ConfigError(
            f"gpus: {wanted} are wanted and this machine has {there}; choose the launcher 'pytorchjob', whose pods ask for them, "
            "or 0 to compute on the CPU."
        )


def _toleration(given: Mapping[str, Any]) -> Toleration:
    unknown = given.keys() - {"key", "operator", "value", "effect"}
    if unknown:
        raise ConfigError(f"tolerations: {min(unknown)} is no key here; the keys are key, operator, value, effect.")
    return Toleration(*(str(given.get(name) or "") for name in ("key", "value", "effect")))
