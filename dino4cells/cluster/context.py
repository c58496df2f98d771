"""Which namespace of which cluster a command means, chosen as kubectl does."""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from kubernetes import config as kubernetes_config

from dino4cells.errors import ConfigError

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where a pod reads the namespace that it is in."""

DEFAULT = "default"


def namespace_of(namespace: str = "", context: str = "") -> str:
    """The namespace that was given, else that of the pod or of the kubeconfig's context, else `default`.

    Args:
        namespace: as given, or nothing.
        context: of the kubeconfig, or nothing: the pod's own place where this is a pod, else the current context.

    Raises:
        ConfigError: the kubeconfig has no such context.
    """
    if namespace:
        return namespace
    if os.environ.get("KUBERNETES_SERVICE_HOST") and not context:
        return OWN_NAMESPACE.read_text().strip() if OWN_NAMESPACE.exists() else DEFAULT
    try:
        contexts, current = kubernetes_config.list_kube_config_contexts()
    except (kubernetes_config.ConfigException, yaml.YAMLError, OSError, KeyError, TypeError, AttributeError):
        return DEFAULT  # that there is no cluster is said where it is asked
    names = [item["name"] for item in contexts]
    if context and context not in names:
        raise ConfigError(f"--context: the kubeconfig has no context '{context}'; it has {', '.join(names) or 'none'}.")
    chosen = next((item for item in contexts if item["name"] == context), current)
    return str(chosen["context"].get("namespace") or DEFAULT)
