"""Every pod that is rendered here passes *restricted* Pod Security; of those that others make of it, what they add is named."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes_server import Time, kubernetes_server

from dino4cells.cluster.job import ConfigFile, JobSpec, Placement, Resources, SecretVariable, Toleration
from dino4cells.cluster.pytorchjob import render
from tests.faults.pod_security import Spec, violations

ROOT = Path(__file__).parents[2]
JOB = JobSpec("train", "dino4cells.training", image="registry.example/dino4cells:0.1.0", nodes=2)
PLACEMENTS = st.builds(
    Placement,
    node_selector=st.just({"pool": "gpu"}),
    tolerations=st.just((Toleration("nvidia.com/gpu"),)),
    priority_class=st.sampled_from([None, "batch"]),
    image_pull_secrets=st.sampled_from([(), ("registry",)]),
    service_account=st.sampled_from([None, "trainer"]),
    queue=st.sampled_from([None, "biology"]),
    gang=st.booleans(),
)


def templates(job: Spec) -> list[Spec]:
    """The pod templates of a PyTorchJob, or of a Deployment or Job of Kubernetes."""
    replicas = job["spec"].get("pytorchReplicaSpecs")
    return [part["template"] for part in replicas.values()] if replicas else [job["spec"]["template"]]


def written() -> Iterator[tuple[str, Spec]]:
    """Every object with pods in a YAML file of the repository."""
    for folder in ("manifests", "tests/e2e"):
        for file in sorted((ROOT / folder).rglob("*.yaml")):
            for document in yaml.safe_load_all(file.read_text()):
                if isinstance(document, dict) and document.get("kind") in ("PyTorchJob", "Deployment", "Job"):
                    yield f"{file.relative_to(ROOT)}:{document['kind']}", document


@given(
    st.builds(
        JobSpec,
        name=st.just("train"),
        module=st.just("dino4cells.training"),
        image=st.just(JOB.image),
        nodes=st.integers(2, 4),
        min_nodes=st.sampled_from([None, 1]),
        resources=st.builds(Resources, gpus=st.sampled_from([0, 1])),
        environment=st.sampled_from([{}, {"NCCL_DEBUG": "INFO"}]),
        secrets=st.sampled_from([(), (SecretVariable("AWS_ACCESS_KEY_ID", "store", "accesskey"),)]),
        config=st.sampled_from([None, ConfigFile("dino4cells-config")]),
        placement=PLACEMENTS,
    )
)
@settings(max_examples=50)
def test_the_pods_of_any_job_pass_restricted(job: JobSpec) -> None:
    for template in templates(render(job)):
        assert violations(template) == []


@pytest.mark.parametrize(("place", "document"), list(written()), ids=lambda value: value if isinstance(value, str) else "")
def test_the_pods_of_every_file_pass_restricted(place: str, document: Spec) -> None:
    for template in templates(document):
        assert violations(template) == []


def test_the_files_are_found() -> None:
    places = [place for place, _ in written()]

    assert {f"manifests/{folder}/pytorchjob.yaml:PyTorchJob" for folder in ("base", "overlays/cpu", "overlays/gpu")} < set(places)
    assert "tests/e2e/store.yaml:Deployment" in places


@pytest.mark.parametrize("job", [JOB, JobSpec(**{**JOB.__dict__, "min_nodes": 1})], ids=["static", "elastic"])
def test_a_pod_of_a_job_gets_no_token_and_cannot_write_but_to_its_scratch(job: JobSpec) -> None:
    for template in templates(render(job)):
        spec = template["spec"]
        (container,) = spec["containers"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
        writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert all("sizeLimit" in volume["emptyDir"] for volume in spec["volumes"] if volume["name"] in writable)


def test_what_the_operator_adds_to_workers_is_what_it_fails_for() -> None:
    """The exception: the init container of Training Operator v1 has no securityContext; `doctor` and docs/kubernetes.md say what to do."""
    with kubernetes_server(Time()) as server:
        server.jobs["train"] = render(JOB, "lab", name="train")
        server.jobs["train"]["metadata"]["uid"] = "uid"
        server.create_pods()
        master, worker = (server.pod(role) for role in ("master", "worker"))

    assert violations(master) == []
    # runAsNonRoot and seccompProfile it takes over from the pod.
    assert violations(worker) == ["init-pytorch: allowPrivilegeEscalation", "init-pytorch: capabilities are not dropped"]


@pytest.mark.parametrize("step", ["train", "extract", "classify"])
def test_the_steps_of_the_pipeline_pass_with_what_kubeflow_pipelines_adds(step: str) -> None:
    """Its backend writes the pod; a pipeline says who it runs as. Since 2.17 the rest is set by the backend for every step."""
    _, platform = yaml.safe_load_all((ROOT / "pipelines" / "dino4cells.yaml").read_text())
    ours = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{step}"]["securityContext"]
    by_backend = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }

    assert violations({"spec": {"containers": [{"name": "main", "securityContext": {**by_backend, **ours}}]}}) == []
    assert violations({"spec": {"containers": [{"name": "main", "securityContext": by_backend}]}}) == ["main: runAsNonRoot"]


def test_the_image_names_its_user_by_a_number() -> None:
    """Kubernetes cannot tell of a name whether it is root's, and refuses such an image where runAsNonRoot is wanted."""
    users = re.findall(r"^USER (.*)$", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE)

    assert users == ["1000:1000"]


# Each rule, so that passing means something.

CONTAINER = ("spec", "containers", 0)
BROKEN: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("hostNetwork", ("spec", "hostNetwork"), True),
    ("hostPID", ("spec", "hostPID"), True),
    ("hostIPC", ("spec", "hostIPC"), True),
    ("volume data: hostPath", ("spec", "volumes"), [{"name": "data", "hostPath": {"path": "/"}}]),
    ("sysctl kernel.msgmax", ("spec", "securityContext", "sysctls"), [{"name": "kernel.msgmax", "value": "1"}]),
    ("runAsUser 0", ("spec", "securityContext", "runAsUser"), 0),
    ("pytorch: runAsUser 0", (*CONTAINER, "securityContext", "runAsUser"), 0),
    ("pytorch: runAsNonRoot", ("spec", "securityContext", "runAsNonRoot"), False),
    ("pytorch: runAsNonRoot", (*CONTAINER, "securityContext", "runAsNonRoot"), False),
    ("seccompProfile", ("spec", "securityContext", "seccompProfile"), {"type": "Unconfined"}),
    ("pytorch: privileged", (*CONTAINER, "securityContext", "privileged"), True),
    ("pytorch: procMount", (*CONTAINER, "securityContext", "procMount"), "Unmasked"),
    ("pytorch: allowPrivilegeEscalation", (*CONTAINER, "securityContext", "allowPrivilegeEscalation"), True),
    ("pytorch: capabilities are not dropped", (*CONTAINER, "securityContext", "capabilities"), {}),
    ("pytorch: capabilities are added", (*CONTAINER, "securityContext", "capabilities", "add"), ["SYS_PTRACE"]),
    ("pytorch: seLinuxOptions", (*CONTAINER, "securityContext", "seLinuxOptions"), {"type": "spc_t"}),
    ("pytorch: appArmor unconfined", (*CONTAINER, "securityContext", "appArmorProfile"), {"type": "Unconfined"}),
    ("pytorch: hostProcess", (*CONTAINER, "securityContext", "windowsOptions"), {"hostProcess": True}),
    ("pytorch: hostPort", (*CONTAINER, "ports"), [{"containerPort": 1, "hostPort": 1}]),
    ("pytorch: host of a probe", (*CONTAINER, "livenessProbe"), {"httpGet": {"host": "169.254.169.254", "port": 80}}),
]


@pytest.mark.parametrize(("words", "path", "value"), BROKEN, ids=[case[0] for case in BROKEN])
def test_every_rule_of_the_standard_is_held(words: str, path: tuple[str | int, ...], value: Any) -> None:
    template = copy.deepcopy(templates(render(JOB))[0])
    place: Any = template
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value

    assert words in violations(template)


def test_a_template_without_any_settings_passes_nothing() -> None:
    bare: Spec = {"spec": {"containers": [{"name": "main"}]}}

    assert violations(bare) == [
        "main: allowPrivilegeEscalation",
        "main: capabilities are not dropped",
        "main: runAsNonRoot",
        "main: seccompProfile",
    ]
