"""From a `JobSpec` to the manifest of a PyTorchJob (Kubeflow Training Operator v1): a pure function, without a client.

The manifest that `kubectl apply` takes and the one that the pipeline submits both come from here. A renderer for another kind of job
(a TrainJob of Trainer v2) would be one more file like this one.
"""

from __future__ import annotations

import math
from typing import Any

from dino4cells.cluster.job import JobSpec, Resources
from dino4cells.cluster.names import job_name
from dino4cells.cluster.quantities import cores
from dino4cells.cluster.validation import check_job

API_VERSION, KIND, PLURAL = "kubeflow.org/v1", "PyTorchJob", "pytorchjobs"
CONTAINER = "pytorch"  # the operator knows the training container by this name
FINGERPRINT = "dino4cells.org/specification"
CONFIG_DIRECTORY = "/etc/dino4cells"
AUTHORITY_DIRECTORY = "/etc/dino4cells-authority"
HOME = "/tmp"
USER = 1000

Manifest = dict[str, Any]


def render(job: JobSpec, namespace: str | None = None, *, name: str | None = None) -> Manifest:
    """The manifest of a job.

    One pod a node: a Master and Workers, which the operator tells of each other, or for an elastic job Workers alone that find each other
    by a rendezvous. Every pod runs bare `torchrun -m MODULE`, which takes the numbers of nodes and processes from the operator's variables.

    Args:
        job: with an image.
        namespace: where it goes; None leaves that to whoever applies it.
        name: of the job; derived from its name and its content when None.

    Raises:
        ConfigError: something in the job that the cluster would refuse, or accept and not survive.
    """
    check_job(job)
    labels = {"app.kubernetes.io/name": "dino4cells", "app.kubernetes.io/component": job.name, **job.placement.labels}
    metadata: Manifest = {"name": name or job_name(job), "labels": dict(labels), "annotations": {FINGERPRINT: job.fingerprint()}}
    metadata["annotations"].update(job.placement.annotations)
    if namespace:
        metadata["namespace"] = namespace
    if job.placement.queue:
        metadata["labels"]["kueue.x-k8s.io/queue-name"] = job.placement.queue
    spec: Manifest = {"nprocPerNode": str(job.processes_per_node), "runPolicy": _run_policy(job)}
    if job.min_nodes is None:
        spec["pytorchReplicaSpecs"] = {"Master": _replicas(1, job, labels)}
        if job.nodes > 1:
            spec["pytorchReplicaSpecs"]["Worker"] = _replicas(job.nodes - 1, job, labels)
    else:
        spec["elasticPolicy"] = {
            "minReplicas": job.min_nodes,
            "maxReplicas": job.nodes,
            "maxRestarts": job.tolerated_failures,
            "rdzvBackend": "c10d",
        }
        spec["pytorchReplicaSpecs"] = {"Worker": _replicas(job.nodes, job, labels)}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


def _replicas(count: int, job: JobSpec, labels: Manifest) -> Manifest:
    return {"replicas": count, "restartPolicy": "OnFailure", "template": _pod(job, labels)}


def _run_policy(job: JobSpec) -> Manifest:
    policy: Manifest = {
        # The operator holds the limit against the restarts of all pods together and fails the job when it is reached; when one
        # process dies, those of the other pods lose their connection and restart as well.
        "backoffLimit": job.tolerated_failures * job.nodes + 1,
        "cleanPodPolicy": "Running",  # hung peers would keep their GPUs
        "ttlSecondsAfterFinished": job.keep_seconds,
    }
    if job.placement.queue:
        policy["suspend"] = True  # Kueue resumes it when there is room
    if job.placement.gang:
        policy["schedulingPolicy"] = {"minAvailable": job.min_nodes or job.nodes}
    return policy


def _pod(job: JobSpec, labels: Manifest) -> Manifest:
    place = job.placement
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(job)],
        "volumes": _volumes(job),
    }
    if place.service_account:
        spec["serviceAccountName"] = place.service_account
    if place.priority_class:
        spec["priorityClassName"] = place.priority_class
    if place.node_selector:
        spec["nodeSelector"] = dict(place.node_selector)
    if place.tolerations:
        spec["tolerations"] = [_toleration(taint.key, taint.value, taint.effect) for taint in place.tolerations]
    if place.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret} for secret in place.image_pull_secrets]
    # A sidecar would keep the pod alive after training, and stand between the processes.
    annotations = {"sidecar.istio.io/inject": "false", **place.annotations}
    return {"metadata": {"labels": {**labels, "sidecar.istio.io/inject": "false"}, "annotations": annotations}, "spec": spec}


def _toleration(key: str, value: str, effect: str) -> Manifest:
    toleration: Manifest = {"operator": "Equal", "value": value} if value else {"operator": "Exists"}
    return {**({"key": key} if key else {}), **toleration, **({"effect": effect} if effect else {})}


def _container(job: JobSpec) -> Manifest:
    mounts = [{"name": "shared-memory", "mountPath": "/dev/shm"}, {"name": "scratch", "mountPath": "/tmp"}]
    if job.config:
        mounts.append({"name": "config", "mountPath": CONFIG_DIRECTORY, "readOnly": True})  # type: ignore[dict-item]
    if job.authority:
        mounts.append({"name": "authority", "mountPath": AUTHORITY_DIRECTORY, "readOnly": True})  # type: ignore[dict-item]
    return {
        "name": CONTAINER,
        "image": job.image,
        "command": ["torchrun", "-m", job.module],
        "args": list(job.arguments),
        "env": _environment(job),
        "resources": _resources(job.resources),
        "volumeMounts": mounts,
        # The last words of the process, which say what is wrong in one sentence, become the pod's reason.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _environment(job: JobSpec) -> list[Manifest]:
    plain = {
        # Each of a pod's processes takes its share of the cores that the pod may use, not all that the machine has.
        "OMP_NUM_THREADS": str(max(1, math.floor(cores(job.resources.cpu_limit or job.resources.cpu) / job.processes_per_node))),
        "PYTHONUNBUFFERED": "1",
        "HOME": HOME,
        **_trust(job),
        **job.environment,
    }
    variables: list[Manifest] = [{"name": name, "value": value} for name, value in plain.items()]
    for secret in job.secrets:
        reference: Manifest = {"name": secret.secret, "key": secret.key}
        if secret.optional:
            reference["optional"] = True
        variables.append({"name": secret.variable, "valueFrom": {"secretKeyRef": reference}})
    return variables


def _trust(job: JobSpec) -> dict[str, str]:
    """Where the clients of S3 and of other stores look for the authorities that they trust."""
    if job.authority is None:
        return {}
    file = f"{AUTHORITY_DIRECTORY}/{job.authority.file}"
    return {"AWS_CA_BUNDLE": file, "SSL_CERT_FILE": file}


def _resources(resources: Resources) -> Manifest:
    requests = {"cpu": resources.cpu, "memory": resources.memory}
    limits = {"cpu": resources.cpu_limit or resources.cpu, "memory": resources.memory_limit or resources.memory}
    if resources.gpus:
        # Kubernetes wants the two equal for devices.
        requests[resources.gpu_resource] = limits[resources.gpu_resource] = str(resources.gpus)
    return {"requests": requests, "limits": limits}


def _volumes(job: JobSpec) -> list[Manifest]:
    volumes: list[Manifest] = [
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": job.resources.shared_memory}},
        {"name": "scratch", "emptyDir": {"sizeLimit": job.resources.scratch}},
    ]
    if job.config:
        item = {"key": job.config.file, "path": job.config.file}
        volumes.append({"name": "config", "configMap": {"name": job.config.config_map, "items": [item]}})
    if job.authority:
        items = [{"key": job.authority.file, "path": job.authority.file}]
        kept = {"configMap": {"name": job.authority.config_map, "items": items}}
        if job.authority.secret:
            kept = {"secret": {"secretName": job.authority.secret, "items": items}}
        volumes.append({"name": "authority", **kept})
    return volumes
