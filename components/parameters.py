"""What the form of the Kubeflow UI says beside each parameter: written once for the pipeline and its three components."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

DESCRIPTIONS = {
    "data": "Directory or URL (s3://…) that holds a metadata.csv (column 'file', a row a cell). Empty: the configuration's, or simulated.",
    "metadata": "URL of the CSV, where it is not the metadata.csv in 'data', from which the names of its files then start.",
    "data_version": "Any text that changes with the data: under the same URL, other data is trained on anew, not taken from the cache. "
    "'dino4cells pipeline submit' fills in a fingerprint.",
    "preset": "Settings to start from: 'small', 'small-fluorescence' (brightness says nothing) or 'handbook'. Empty: what suits the data.",
    "config": "A config.yaml of the handbook, its text or its URL; its keys override the preset.",
    "overrides": "Single keys that override both, such as 'model.seed=1 batch_size=64'.",
    "arch": "Network, such as vit_tiny, vit_small or vit_base. Empty: the configuration's.",
    "epochs": "Times that each cell is trained on. 0: the configuration's.",
    "label": "Column with the classes. Empty: the configuration's, else protein_location if there, else cell_type.",
    "group": "Column whose values never straddle a train/test split, such as plate. Empty: the configuration's, else none.",
    "baselines": "Also judge the untrained network and intensity statistics, to compare with.",
    "launcher": "'local': train and extract in the steps' own pods. 'pytorchjob': as PyTorchJobs, over as many pods as 'nodes' says.",
    "image": "Container image with dino4cells, in which the steps and the pods of PyTorchJobs run.",
    "nodes": "Pods of a PyTorchJob.",
    "processes": "Processes of each node that share the work on a CPU; with GPUs it is one for each.",
    "gpus": "GPUs of each node. 0: CPU.",
    "queue": "Kueue queue that admits the PyTorchJobs. Empty: they start at once.",
    "secret": "Secret with the object store's credentials, keys accesskey and secretkey, if wanted endpoint. It need not be there: then "
    "the store is found as Kubeflow Pipelines finds it.",
    "endpoint": "URL of the object store, such as http://seaweedfs.kubeflow:9000. Empty: as Kubeflow Pipelines finds it.",
    "pull_secret": "Secret with which the image is pulled; it need not be there.",
    "cpu": "Cores of each step's own pod, requested and at most: '2', '500m'. The pods of PyTorchJobs have theirs in 'settings'.",
    "memory": "Memory of each step's own pod, requested and at most: '8Gi'. The pods of PyTorchJobs have theirs in 'settings'.",
    "tolerations": 'Taints that nodes of all pods may have, a list as in Kubernetes: [{"key": "nvidia.com/gpu", "operator": "Exists"}].',
    "node_selector": 'Labels that the nodes of all pods must have: {"pool": "gpu"}.',
    "settings": "More about the pods of PyTorchJobs, as YAML, such as 'resources: {cpu: \"8\", memory: 64Gi}' (docs/kubernetes.md).",
}  # fmt: skip


def described(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with the descriptions of its parameters below the `Args:` that its docstring ends with."""
    lines = [f"    {name}: {DESCRIPTIONS[name]}" for name in inspect.signature(function).parameters if name in DESCRIPTIONS]
    function.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), *lines])
    return function
