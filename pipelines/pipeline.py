"""The pipeline: train → extract → classify. The same function is compiled for a cluster and run on a laptop."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kfp import compiler, dsl, kubernetes

from dino4cells.cluster.job import Resources
from dino4cells.cluster.pytorchjob import USER
from dino4cells.cluster.variables import FIELDS, SECRET_KEYS
from dino4cells.components import classify, extract, train
from dino4cells.components.image import IMAGE
from dino4cells.components.parameters import described

COMPILED = Path(__file__).parent / "dino4cells.yaml"


class Outputs(NamedTuple):
    """Artifacts of a run."""

    model: dsl.Model
    features: dsl.Dataset
    classification: dsl.Artifact


@dataclass(frozen=True)
class _Pod:
    """What parameters say about the pods of the steps; a run on a laptop has no pods and leaves all this aside.

    Secrets have names by default, since Kubernetes and Argo refuse pods that name none; such a secret need not be there.
    """

    image: str
    secret: str
    pull_secret: str
    cpu: str
    memory: str
    tolerations: list
    node_selector: dict

    def of(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """The task, in such a pod."""
        task.set_container_image(self.image)
        # Equal, so that a node has what a step was promised, and a step takes no more: namespaces with a quota want both.
        task.set_cpu_request(self.cpu).set_cpu_limit(self.cpu)
        task.set_memory_request(self.memory).set_memory_limit(self.memory)
        kubernetes.use_secret_as_env(task, self.secret, SECRET_KEYS, optional=True)
        kubernetes.set_image_pull_secrets(task, [self.pull_secret])
        kubernetes.add_toleration_json(task, self.tolerations)
        kubernetes.add_node_selector_json(task, self.node_selector)
        for variable, path in FIELDS.items():
            kubernetes.use_field_path_as_env(task, variable, path)
        # The image's own user, so that namespaces that want to be told admit it; what else they want Kubeflow Pipelines sets since 2.17.
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
        return task


@dsl.pipeline(
    name="dino4cells",
    description="Self-supervised features of single cells: train a DINO model, extract every cell, judge the features by classifiers.",
)
@described
def dino4cells_pipeline(
    data: str = "",
    metadata: str = "",
    data_version: str = "",
    preset: str = "",
    config: str = "",
    overrides: str = "",
    arch: str = "",
    epochs: int = 0,
    label: str = "",
    group: str = "",
    baselines: bool = True,
    launcher: str = "local",
    image: str = IMAGE,
    nodes: int = 1,
    processes: int = 1,
    gpus: int = 0,
    queue: str = "",
    secret: str = "dino4cells-store",
    endpoint: str = "",
    pull_secret: str = "dino4cells-pull",
    cpu: str = Resources.cpu,
    memory: str = Resources.memory,
    tolerations: list = [],  # noqa: B006
    node_selector: dict = {},  # noqa: B006
    settings: str = "",
) -> Outputs:
    """Train, extract, classify.

    Args:
    """
    cells = {"data": data, "metadata": metadata}
    places = {"pull_secret": pull_secret, "tolerations": tolerations, "node_selector": node_selector}
    store = {"secret": secret, "endpoint": endpoint}
    job = {"launcher": launcher, "image": image, "nodes": nodes, "processes": processes, "gpus": gpus, "queue": queue, "settings": settings}
    pod = _Pod(image, secret, cpu=cpu, memory=memory, **places)

    what = {"preset": preset, "config": config, "overrides": overrides, "arch": arch, "epochs": epochs, "data_version": data_version}
    trained = pod.of(train(**cells, **what, **job, **store, **places))
    model = trained.outputs["model"]
    extracted = pod.of(extract(model=model, baselines=baselines, **cells, **job, **store, **places))
    features = extracted.outputs["features"]
    judged = pod.of(classify(model=model, features=features, label=label, group=group, endpoint=endpoint, **cells))
    return Outputs(model, features, judged.outputs["classification"])


def compile_pipeline(path: Path = COMPILED) -> Path:
    """Write the pipeline as the YAML that the Kubeflow UI takes; returns the path."""
    compiler.Compiler().compile(dino4cells_pipeline, str(path))
    return path
