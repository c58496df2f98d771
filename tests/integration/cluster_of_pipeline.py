"""A namespace with Kubeflow Pipelines for tests: an API server over HTTP, the pod of a step, and jobs whose pods are processes.

It runs a job for true: each pod's command with its arguments and its environment, whose secrets it looks up, as a process of this
machine. Only the images, the network between pods and the operator are left out.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes_server import NAMESPACE, KubernetesServer, Time, kubernetes_server

from dino4cells import storage
from dino4cells.events import text_of
from dino4cells.pipelines.pipeline import COMPILED

HERE = Path(__file__).parent
POD, RUN = "dino4cells-abc-system-container-impl-7", "run-1"
PLACE = f"v2/artifacts/dino4cells/{RUN}"
REPLICA = re.compile(r"-(master|worker)-(\d+)$")


def as_json(value: object) -> object:
    """A value as the launcher of Kubeflow Pipelines writes it: a whole number without a point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def path_of(kind: str, name: str) -> str:
    return f"/api/v1/namespaces/{NAMESPACE}/{kind}/{name}"


@dataclass
class Cluster:
    """A namespace with Kubeflow Pipelines, and pods that are processes."""

    server: KubernetesServer
    root: Path
    bucket: str
    runs_pods: bool = True
    started: list[dict[str, Any]] = field(default_factory=list)
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def put_secret(self, name: str, **values: str) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.server.objects[path_of("secrets", name)] = {"metadata": {"name": name}, "data": data}

    def put_launcher_config(self, **provider: object) -> None:
        text = yaml.safe_dump({"minio": {"default": provider}})
        data = {"defaultPipelineRoot": f"minio://{self.bucket}/v2/artifacts", "providers": text}
        self.server.objects[path_of("configmaps", "kfp-launcher")] = {"data": data}

    def uri(self, step: str, name: str) -> str:
        return f"minio://{self.bucket}/{PLACE}/{step}/uuid-{step}/{name}"

    def local(self, step: str, name: str) -> Path:
        """Where the artifact's local path is in the step's pod."""
        return self.root / "minio" / self.bucket / PLACE / step / f"uuid-{step}" / name

    # The step

    def start(self, step: str, *, inputs: dict[str, str] | None = None, **parameters: object) -> subprocess.Popen[str]:
        """Start a step of the compiled pipeline with the pipeline's defaults for the parameters that are not given."""
        compiled = next(iter(yaml.safe_load_all(COMPILED.read_text())))
        defaults = {name: item.get("defaultValue") for name, item in compiled["root"]["inputDefinitions"]["parameters"].items()}
        component = compiled["components"][f"comp-{step}"]
        asked = [name for name in component["inputDefinitions"]["parameters"] if name in defaults]
        values = {name: as_json(parameters.get(name, defaults[name])) for name in asked}
        written = component["outputDefinitions"]["artifacts"]
        outputs = {name: {"artifacts": [self._artifact(step, name, item)]} for name, item in written.items()}
        executor_input = {
            "inputs": {
                "parameterValues": values,
                "artifacts": {name: {"artifacts": [{"name": name, "uri": uri}]} for name, uri in (inputs or {}).items()},
            },
            "outputs": {"artifacts": outputs, "outputFile": str(self.root / f"{step}.json")},
        }
        hidden = {name for name in os.environ if name.startswith(("AWS_", "DINO4CELLS_"))} | {"KUBERNETES_SERVICE_HOST"}
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment |= {"KUBECONFIG": str(self.root / "kubeconfig"), "AWS_CONFIG_FILE": os.devnull, "PYTHONUNBUFFERED": "1"}
        pod = {"POD": POD, "POD_UID": "uid-of-the-step", "NAMESPACE": NAMESPACE, "RUN": RUN}
        environment |= {f"DINO4CELLS_{name}": value for name, value in pod.items()}
        words = [str(HERE / "step_of_pipeline.py"), str(COMPILED), step, json.dumps(executor_input), str(self.root)]
        return subprocess.Popen(
            [sys.executable, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def run(self, step: str, **options: Any) -> tuple[int, str]:
        """The exit code and the log of a step."""
        process = self.start(step, **options)
        out, _ = process.communicate(timeout=150)
        with self.server.lock:  # what has ended is kept for a day, and these tests look at one job at a time
            self.server.jobs.clear()
            for name in [name for name in self.server.pods if name != POD]:
                del self.server.pods[name]
        return process.returncode, out

    def _artifact(self, step: str, name: str, item: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "uri": self.uri(step, name), "type": item["artifactType"], "metadata": {}}

    # The operator and the kubelet

    def live(self, stop: threading.Event) -> None:
        """Run the jobs that are created, until told to stop."""
        seen: set[str] = set()
        while not stop.wait(0.05):
            for job in list(self.server.jobs.values()):
                if job["metadata"]["uid"] not in seen:
                    seen.add(job["metadata"]["uid"])
                    self.started.append(json.loads(json.dumps(job)))
                    self._run(job)
        for process in self._processes:
            process.kill()

    def _run(self, job: dict[str, Any]) -> None:
        self.server.create_pods()
        for name in [name for name in self.server.pods if name != POD]:
            role, index = REPLICA.search(name).groups()  # type: ignore[union-attr]
            self.server.runs(role, int(index))
        self.server.condition("Running", "PyTorchJob is running.")
        if not self.runs_pods:
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        replicas = [
            (role, index, spec["template"]["spec"])
            for role, spec in job["spec"]["pytorchReplicaSpecs"].items()
            for index in range(spec["replicas"])
        ]
        pods = [
            threading.Thread(target=self._pod, args=[job, role.lower(), index, spec, rank, len(replicas), port])
            for rank, (role, index, spec) in enumerate(replicas)
        ]
        for pod in pods:
            pod.start()
        for pod in pods:
            pod.join()
        codes = [process.returncode for process in self._processes[-len(pods) :]]
        if all(code == 0 for code in codes):
            self.server.condition("Succeeded", replaces="Running")
        else:
            self.server.condition("Failed", "the job has reached the specified backoff limit", replaces="Running")

    def _pod(self, job: dict[str, Any], role: str, index: int, spec: dict[str, Any], rank: int, count: int, port: int) -> None:
        container = spec["containers"][0]
        environment = {name: os.environ[name] for name in ("PATH", "NO_PROXY", "LANG") if name in os.environ}
        environment |= {"TMPDIR": str(self.root), "AWS_CONFIG_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}
        environment |= {variable["name"]: self._value(variable) for variable in container["env"]}
        environment |= {
            "PET_NPROC_PER_NODE": job["spec"]["nprocPerNode"], "PET_NNODES": str(count), "PET_NODE_RANK": str(rank),
            "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port),
        }  # fmt: skip
        command = [sys.executable, "-m", "torch.distributed.run", *container["command"][1:], *container["args"]]
        assert container["command"][0] == "torchrun"
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.root)
        self._processes.append(process)
        lines = []
        for line in process.stdout or ():
            lines.append(line.rstrip("\n"))
            self.server.writes(lines[-1], role=role, index=index)
        process.wait()
        # Where there is no /dev/termination-log the process says it on its standard error alone.
        own = [text for text in map(text_of, lines) if text.startswith("error: ")]
        message = own[-1] if own else "\n".join(lines)[-2048:]
        self.server.ends(process.returncode, role, index, message="" if process.returncode == 0 else message, phase="")
        if process.returncode:
            self.server._status(role, index, phase="Failed")

    def _value(self, variable: dict[str, Any]) -> str:
        if "value" in variable:
            return str(variable["value"])
        reference = variable["valueFrom"]["secretKeyRef"]
        secret = self.server.objects[path_of("secrets", reference["name"])]
        return base64.b64decode(secret["data"][reference["key"]]).decode()


@contextmanager
def living(root: Path, bucket: str, *, runs_pods: bool = True) -> Iterator[Cluster]:
    with kubernetes_server(Time()) as server:
        kubeconfig = {
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": server.url}}],
            "users": [{"name": "it", "user": {"token": server.token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": NAMESPACE}}],
        }  # fmt: skip
        (root / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        server.pods[POD] = {"metadata": {"name": POD, "labels": {"training.kubeflow.org/job-name": ""}}, "spec": {"containers": []}}
        cluster = Cluster(server, root, bucket, runs_pods)
        stop = threading.Event()
        thread = threading.Thread(target=cluster.live, args=[stop])
        thread.start()
        try:
            yield cluster
        finally:
            stop.set()
            thread.join()


def with_store(cluster: Cluster) -> Cluster:
    """The object store as an administrator of Kubeflow Pipelines describes it."""
    endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    keys = {"secretName": "objects", "accessKeyKey": "id", "secretKeyKey": "key"}
    cluster.put_launcher_config(endpoint=endpoint, region="us-east-1", disableSSL=True, credentials={"fromEnv": False, "secretRef": keys})
    cluster.put_secret("objects", id="of-the-lab", key="never-shown")
    return cluster


def uploaded(directory: Path, url: str) -> str:
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        storage.upload(path, storage.join(url, path.relative_to(directory).as_posix()))
    return url
