"""Objects of a cluster on which a job would run, and a kubeconfig that leads to it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_server import NAMESPACE

CORE = f"/api/v1/namespaces/{NAMESPACE}"
OPERATOR = "/apis/apps/v1/namespaces/kubeflow/deployments/training-operator"


def encoded(**values: str) -> dict[str, str]:
    """Data of a secret."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def node(name: str, gpus: int = 4, pool: str = "gpu", taint: str = "nvidia.com/gpu") -> dict[str, Any]:
    taints = [{"key": taint, "effect": "NoSchedule"}] if taint else []
    allocatable = {"cpu": "32", "memory": "128Gi", "nvidia.com/gpu": str(gpus)}
    status = {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": name, "labels": {"pool": pool}}, "spec": {"taints": taints}, "status": status}


_CONTAINER = {"image": "ghcr.io/kubeflow/training-v1/training-operator:v1.9.4", "command": ["/manager", "--gang-scheduler-name=volcano"]}
HEALTHY: dict[str, Any] = {
    "/version": {"gitVersion": "v1.33.2"},
    CORE: {"metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}},
    "/apis/kubeflow.org": {"versions": [{"version": "v1"}]},
    "/apis/kubeflow.org/v1": {"resources": [{"name": "pytorchjobs"}, {"name": "mpijobs"}]},
    OPERATOR: {
        "metadata": {"name": "training-operator", "namespace": "kubeflow"},
        "spec": {"template": {"spec": {"containers": [_CONTAINER]}}},
        "status": {"readyReplicas": 1},
    },
    "/api/v1/nodes/gpu-1": node("gpu-1"),
    "/api/v1/nodes/cpu-1": node("cpu-1", 0, "cpu", ""),
}


def write_kubeconfig(directory: Path, monkeypatch: pytest.MonkeyPatch, url: str, token: str) -> None:
    """A kubeconfig of three contexts, the current one with the namespace of the tests."""
    contexts = {"here": NAMESPACE, "elsewhere": "other", "bare": ""}
    content = {
        "current-context": "here",
        "contexts": [
            {"name": name, "context": {"cluster": "c", "user": "u", **({"namespace": space} if space else {})}}
            for name, space in contexts.items()
        ],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }
    (directory / "kubeconfig").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("KUBECONFIG", str(directory / "kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    # The package reads the variable when it is imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(directory / "kubeconfig"))
