"""The cluster that KUBECONFIG names, as the tests see it: what they put there, wait for, and look at.

Whatever is told to the cluster goes through kubectl, whatever is observed through the client of the launcher.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from dino4cells.cluster.client import Cluster
from dino4cells.cluster.job import JobSpec
from dino4cells.cluster.launcher import LauncherSettings, PyTorchJobLauncher
from dino4cells.cluster.logs import without_time
from dino4cells.cluster.names import job_name
from dino4cells.cluster.objects import JOB_LABEL, Pod, job_from, pod_from
from dino4cells.cluster.settings import JobSettings, read_settings
from dino4cells.cluster.states import Limits
from dino4cells.cluster.work import job_of
from dino4cells.components.image import IMAGE
from dino4cells.events import text_of

HERE = Path(__file__).parent
MANIFESTS = HERE.parents[1] / "manifests"
STORE = "s3://dino4cells"
"""Where cells.yaml and manifests/ look."""

TINY = {
    "model.batch_size": 16,
    "model.out_dim": 64,
    "model.head_hidden_dim": 64,
    "model.head_bottleneck_dim": 32,
    "local_crops_number": 1,
    "model.warmup_epochs": 0,
    "model.checkpoint_minutes": 0.05,
}
"""Over the preset `small`: vit_tiny learns tens of images a second on one core."""

CELLS = 168
SHORT, LONG = 2, 40
"""Epochs: a run that is soon over, and one that lasts until something has been done to it."""

ROUND_SECONDS = 2.0
T = TypeVar("T")
Document = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """What the environment says of the cluster; each field is a variable (docs/kind.md).

    Attributes:
        namespace: of everything; made and removed again where it is not there (E2E_NAMESPACE).
        image: of the pods (E2E_IMAGE).
        pull_secrets: of the namespace, which must then be there (E2E_PULL_SECRETS, separated by commas).
        store: URL of a bucket or a prefix to which the secret dino4cells-store of the namespace gives access (E2E_STORE).
        brings_store: the tests put that store and that secret there themselves, since none is given.
        store_image: with `moto_server` (E2E_STORE_IMAGE).
        gpu_resource: such as nvidia.com/gpu: train on one as well (E2E_GPU_RESOURCE).
        minutes: how long a job may take, the pull of its image included (E2E_MINUTES).
        pipelines: endpoint of Kubeflow Pipelines: run the pipeline as well (E2E_KFP_ENDPOINT).
        pipelines_namespace: of its runs, where several users share it (E2E_KFP_NAMESPACE).
        pipelines_data: cells in the store that its artifacts are in: train on them in a PyTorchJob of two pods (E2E_KFP_DATA).
    """

    namespace: str = "dino4cells-e2e"
    image: str = IMAGE
    pull_secrets: tuple[str, ...] = ()
    store: str = STORE
    brings_store: bool = True
    store_image: str = ""
    gpu_resource: str = ""
    minutes: float = 30.0
    pipelines: str = ""
    pipelines_namespace: str = ""
    pipelines_data: str = ""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Place:
        """Out of the variables that are set and not empty."""
        default = cls()
        return cls(
            namespace=environment.get("E2E_NAMESPACE") or default.namespace,
            image=environment.get("E2E_IMAGE") or default.image,
            pull_secrets=tuple(name for name in environment.get("E2E_PULL_SECRETS", "").split(",") if name),
            store=(environment.get("E2E_STORE") or default.store).rstrip("/"),
            brings_store=not environment.get("E2E_STORE"),
            store_image=environment.get("E2E_STORE_IMAGE", ""),
            gpu_resource=environment.get("E2E_GPU_RESOURCE", ""),
            minutes=float(environment.get("E2E_MINUTES") or default.minutes),
            pipelines=environment.get("E2E_KFP_ENDPOINT", ""),
            pipelines_namespace=environment.get("E2E_KFP_NAMESPACE", ""),
            pipelines_data=environment.get("E2E_KFP_DATA", ""),
        )


def documents(name: str, place: Place) -> list[Document]:
    """The objects of a YAML file beside this one, with the images, the pull secrets and the store of the place."""
    found = list(yaml.safe_load_all((HERE / name).read_text()))
    for document in found:
        if "template" in document.get("spec", {}):
            pod = document["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            container["image"] = (place.store_image or container["image"]) if container["name"] == "store" else place.image
            for variable in container["env"]:
                if variable["name"] == "STORE":
                    variable["value"] = place.store
            if place.pull_secrets:
                pod["imagePullSecrets"] = [{"name": secret} for secret in place.pull_secrets]
    return found


def task(name: str, script: str, place: Place) -> Document:
    """A Job that runs a shell script in the image, with the variables and rights of the one that draws the cells."""
    (document,) = documents("cells.yaml", place)
    document["metadata"]["name"] = name
    document["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] = name
    document["spec"]["template"]["spec"]["containers"][0]["args"] = [script]
    return document


def pipeline_parameters(place: Place) -> list[str]:
    """A short run of the pipeline, as `dino4cells pipeline submit` takes it: over two pods where these can reach the cells."""
    words = [
        f"image={place.image}",
        "preset=small",
        f"epochs={SHORT}",
        "overrides=" + " ".join(f"{key}={value}" for key, value in TINY.items()),
    ]
    if place.pipelines_data:
        words += [f"data={place.pipelines_data}", "launcher=pytorchjob", "nodes=2"]
    return words + [f"pull_secret={secret}" for secret in place.pull_secrets[:1]]


def overlay(directory: Path, place: Place, config: Document) -> Path:
    """manifests/ with an overlay over `cpu`, as a user would write it: an image, a configuration, pull secrets."""
    shutil.copytree(MANIFESTS, directory / "manifests")
    made = directory / "manifests" / "overlays" / "e2e"
    made.mkdir()
    (made / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    name, at, digest = place.image.partition("@")
    head, colon, tag = name.rpartition(":")
    tagged = bool(colon) and "/" not in tag
    image = {"name": IMAGE.partition(":")[0], "newName": head if tagged else name}
    kustomization: Document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../cpu"],
        "images": [{**image, "digest": digest} if at else {**image, "newTag": tag if tagged else "latest"}],
        "configMapGenerator": [{"name": "dino4cells-config", "behavior": "replace", "files": ["config.yaml"]}],
        "generatorOptions": {"disableNameSuffixHash": True},
    }
    if place.pull_secrets:
        secrets = [{"name": secret} for secret in place.pull_secrets]
        paths = [f"/spec/pytorchReplicaSpecs/{role}/template/spec/imagePullSecrets" for role in ("Master", "Worker")]
        patch = [{"op": "add", "path": path, "value": secrets} for path in paths]
        kustomization["patches"] = [{"target": {"kind": "PyTorchJob"}, "patch": yaml.safe_dump(patch)}]
    (made / "kustomization.yaml").write_text(yaml.safe_dump(kustomization, sort_keys=False))
    return made


@dataclass(frozen=True)
class RealCluster:
    """One namespace of a cluster, with a store and cells in it.

    Attributes:
        place: what was given.
        cluster: the launcher's client.
        clock, sleep: time; replaced where this class is tested itself.
    """

    place: Place
    cluster: Cluster
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    # Telling

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """What kubectl prints; AssertionError with its complaint where it fails."""
        command = ["kubectl", "--namespace", self.place.namespace, *words]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"{' '.join(command)[:300]}\n{done.stderr}"
        return done.stdout

    def apply(self, *items: Document) -> None:
        """Create or change objects."""
        self.kubectl("apply", "--filename", "-", given=yaml.safe_dump_all(items))

    def make_namespace(self, **labels: str) -> bool:
        """Make the namespace; False where it is there, or this account must take it as given."""
        may = subprocess.run(["kubectl", "auth", "can-i", "create", "namespaces", "--quiet"], check=False, timeout=60)
        name = self.place.namespace
        if may.returncode or self.kubectl("get", "namespace", name, "--ignore-not-found", "--output", "name"):
            return False
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        return True

    def remove_namespace(self) -> None:
        """Remove the namespace with all that is in it."""
        self.kubectl("delete", "namespace", self.place.namespace, "--ignore-not-found", "--timeout=240s")

    def furnish(self) -> None:
        """Put the store there, unless one is given, and cells in it."""
        if self.place.brings_store:
            self.apply(*documents("store.yaml", self.place))
            self.kubectl("rollout", "status", "deployment/dino4cells-store", "--timeout=240s")
        (drawing,) = documents("cells.yaml", self.place)
        self.run(drawing["metadata"]["name"], *drawing["spec"]["template"]["spec"]["containers"][0]["args"])

    def clear(self) -> None:
        """Remove what `furnish` put there."""
        self.kubectl("delete", "job", "dino4cells-cells", "--ignore-not-found")
        if self.place.brings_store:
            self.kubectl("delete", "--ignore-not-found", "--filename", str(HERE / "store.yaml"))

    def run(self, name: str, script: str) -> str:
        """What a shell script prints in a pod of the image, from which nothing remains."""
        self.kubectl("delete", "job", name, "--ignore-not-found", "--wait")
        self.apply(task(name, script, self.place))

        def ended() -> str:
            conditions = json.loads(self.kubectl("get", "job", name, "--output", "json")).get("status", {}).get("conditions") or ()
            return next((item["type"] for item in conditions if item["type"] in ("Complete", "Failed") and item["status"] == "True"), "")

        outcome = self.until(f"job {name} has ended", ended, self.place.minutes * 60)
        printed = self.kubectl("logs", f"job/{name}", "--tail=-1")
        assert outcome == "Complete", f"job {name}: {outcome}\n{printed}"
        self.kubectl("delete", "job", name, "--wait")
        return printed

    def check_model(self, url: str) -> Document:
        """Read a model in the cluster against its manifest; what check_model.py prints of it."""
        script = f"cat > /tmp/check.py <<'END'\n{(HERE / 'check_model.py').read_text()}END\npython /tmp/check.py {url}"
        found: Document = json.loads(self.run("dino4cells-check", script).splitlines()[-1])
        return found

    # Jobs

    def settings(self, **changes: Any) -> JobSettings:
        """Those of manifests/overlays/cpu, with the image of the place and fields replaced."""
        files = [str(MANIFESTS / "base" / "settings.yaml"), str(MANIFESTS / "overlays" / "cpu" / "settings.yaml")]
        settings = dataclasses.replace(read_settings(files, {"image": self.place.image}), config=None)
        placement = dataclasses.replace(settings.placement, image_pull_secrets=self.place.pull_secrets)
        return dataclasses.replace(settings, **{"placement": placement, **changes})

    def job(self, output: str, *, epochs: int = SHORT, **changes: Any) -> JobSpec:
        """A training of the cells; the model goes to a place of its own."""
        overrides = [f"{key}={value}" for key, value in {**TINY, "model.epochs": epochs}.items()]
        settings = self.settings(**changes)
        return job_of(
            "train", settings, "", "small", overrides, data=f"{self.place.store}/cells", model="", output=f"{self.place.store}/{output}"
        )

    def limits(self, **changes: float) -> Limits:
        """Shorter than a user's, so that a test ends; images may be large."""
        seconds = self.place.minutes * 60
        default = Limits(scheduling=seconds, running=seconds, restarting=seconds, stalled=600, blocked=60)
        return dataclasses.replace(default, **changes)

    def launcher(self, run: str, **limits: float) -> PyTorchJobLauncher:
        """A launcher of jobs of this run, with the limits of these tests or others."""
        settings = LauncherSettings(self.place.namespace, run=run, limits=self.limits(**limits))
        return PyTorchJobLauncher(settings, self.cluster.api.connect, self.clock, self.sleep)

    @contextmanager
    def launched(self, job: JobSpec, run: str) -> Iterator[Launched]:
        """A job that a launcher watches beside the test; both are gone after the block."""
        name = job_name(job, run)
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(self.launcher(run).run, job)
            try:
                yield Launched(self, name, future)
            finally:
                self.until("the job has been sent", lambda: future.done() or self.cluster.job(name) is not None, 120)
                self.kubectl("delete", "pytorchjob", name, "--ignore-not-found", "--wait=false")

    # Observing

    def pods(self, job: str) -> list[Pod]:
        """The pods of a job."""
        items, _ = self.cluster.pods(f"{JOB_LABEL}={job}")
        return [pod_from(item) for item in items]

    def end_of(self, job: str) -> str:
        """`Succeeded` or `Failed`, or nothing as long as the job goes on."""
        item = self.cluster.job(job)
        return next((end for end in ("Succeeded", "Failed") if item and end in job_from(item).conditions), "")

    def log(self, pod: str) -> list[str]:
        """What the newest container of a pod has said so far; nothing before it runs."""
        part = self.cluster.log(pod)
        return [without_time(line) for line in part.lines] if part else []

    def remains(self, job: str) -> list[str]:
        """Pods and services that belong to a job."""
        return self.kubectl("get", "pods,services", "--selector", f"{JOB_LABEL}={job}", "--output", "name").split()

    def until(self, what: str, look: Callable[[], T], seconds: float) -> T:
        """The first answer of `look` that is true; AssertionError where there is none within the time."""
        end = self.clock() + seconds
        while True:
            answer = look()
            if answer:
                return answer
            assert self.clock() < end, f"{what}: not within {seconds:.0f} seconds"
            self.sleep(ROUND_SECONDS)


@dataclass(frozen=True)
class Launched:
    """A job under way, and its launcher."""

    where: RealCluster
    name: str
    future: Future[None] = field(repr=False)

    @property
    def master(self) -> str:
        return f"{self.name}-master-0"

    @property
    def worker(self) -> str:
        return f"{self.name}-worker-0"

    def has_checkpoint(self) -> None:
        """Wait until it has trained for so long that a checkpoint was written."""
        reports = 1 + 15 // 5  # one at once, then every five seconds; a checkpoint every three

        def trains() -> bool:
            assert not self.future.done(), (
                f"{self.name}: ended before anything was done to it: {self.future.exception() or 'trained too fast'}"
            )
            return sum(text_of(line).startswith("train ") for line in self.where.log(self.master)) >= reports

        self.where.until(f"{self.name} trains", trains, self.where.place.minutes * 60)

    def finish(self) -> None:
        """Wait until the launcher returns; raises what it raises."""
        self.future.result(timeout=self.where.place.minutes * 60)
