"""The renderer of PyTorchJobs: every specification gives a manifest that Kubernetes and the operator take, or one sentence."""

from __future__ import annotations

import dataclasses
import string
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kubeflow.training.api_client import ApiClient
from kubeflow.training.utils.utils import FakeResponse

from dino4cells.cluster.job import Authority, ConfigFile, JobSpec, Placement, Resources, SecretVariable, Toleration
from dino4cells.cluster.names import is_job_name, job_name
from dino4cells.cluster.pytorchjob import render
from dino4cells.cluster.quantities import parse_quantity
from dino4cells.errors import ConfigError

IMAGE = "registry.example:5000/team/dino4cells:0.1.0"
KUBERNETES = "1.33"
PLAIN = JobSpec("train", "dino4cells.training", ("--output", "s3://bucket/model"), image=IMAGE)
GPUS = dataclasses.replace(PLAIN, nodes=3, processes_per_node=2, resources=Resources(cpu="8", memory="64Gi", gpus=2))
EVERYTHING = dataclasses.replace(
    GPUS,
    environment={"AWS_ENDPOINT_URL": "http://store:9000"},
    secrets=(
        SecretVariable("AWS_ACCESS_KEY_ID", "store", "accesskey"),
        SecretVariable("AWS_SESSION_TOKEN", "store", "token", True),
    ),
    config=ConfigFile("dino4cells-config"),
    authority=Authority("store-ca"),
    placement=Placement(
        node_selector={"gpu.example/kind": "h200"},
        tolerations=(Toleration("nvidia.com/gpu"), Toleration("team", "biology", "NoSchedule")),
        priority_class="low",
        image_pull_secrets=("pull",),
        service_account="dino4cells",
        queue="shared",
        gang=True,
        labels={"team": "biology"},
        annotations={"example.org/cost": "17 – per hour"},
    ),
)
ELASTIC = dataclasses.replace(PLAIN, nodes=4, min_nodes=2)
SPECIFICATIONS = {"plain": PLAIN, "gpus": GPUS, "everything": EVERYTHING, "elastic": ELASTIC}


def pods(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {kind: replicas["template"] for kind, replicas in manifest["spec"]["pytorchReplicaSpecs"].items()}


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    (only,) = next(iter(pods(manifest).values()))["spec"]["containers"]
    return only


def assert_kubernetes_takes(manifest: dict[str, Any]) -> None:
    """Each pod against Kubernetes' schema, the job against the operator's typed models, which know every field by name."""
    for template in pods(manifest).values():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", **template["metadata"]}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    client = ApiClient()
    typed = client.deserialize(FakeResponse(manifest), "KubeflowOrgV1PyTorchJob")
    assert client.sanitize_for_serialization(typed) == manifest


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_every_specification_becomes_a_manifest_that_kubernetes_and_the_operator_take(name: str) -> None:
    assert_kubernetes_takes(render(SPECIFICATIONS[name], "biology"))


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_the_same_specification_gives_the_same_manifest_and_another_gives_another_name(name: str) -> None:
    job = SPECIFICATIONS[name]

    assert render(job) == render(dataclasses.replace(job))
    assert job_name(job) != job_name(dataclasses.replace(job, arguments=("--output", "s3://bucket/other")))
    assert "namespace" not in render(job)["metadata"]


def test_one_node_is_a_master_alone_and_several_are_a_master_and_workers() -> None:
    assert {kind: item["replicas"] for kind, item in render(PLAIN)["spec"]["pytorchReplicaSpecs"].items()} == {"Master": 1}
    several = render(GPUS)["spec"]
    assert {kind: item["replicas"] for kind, item in several["pytorchReplicaSpecs"].items()} == {"Master": 1, "Worker": 2}
    assert several["nprocPerNode"] == "2"


def test_an_elastic_job_has_workers_alone_and_both_bounds() -> None:
    spec = render(ELASTIC)["spec"]

    assert {kind: item["replicas"] for kind, item in spec["pytorchReplicaSpecs"].items()} == {"Worker": 4}
    assert (spec["elasticPolicy"]["minReplicas"], spec["elasticPolicy"]["maxReplicas"]) == (2, 4)
    assert "standalone" not in spec["elasticPolicy"]


def test_torchrun_is_called_bare_and_the_module_gets_its_arguments() -> None:
    assert container(render(GPUS))["command"] == ["torchrun", "-m", "dino4cells.training"]
    assert container(render(GPUS))["args"] == ["--output", "s3://bucket/model"]


@pytest.mark.parametrize(("job", "limit"), [(PLAIN, 4), (GPUS, 10), (dataclasses.replace(GPUS, tolerated_failures=0), 1)])
def test_tolerated_failures_count_the_restarts_of_all_pods(job: JobSpec, limit: int) -> None:
    policy = render(job)["spec"]["runPolicy"]

    assert policy["backoffLimit"] == limit
    assert policy["cleanPodPolicy"] == "Running"
    assert policy["ttlSecondsAfterFinished"] == 86400
    assert {item["restartPolicy"] for item in render(job)["spec"]["pytorchReplicaSpecs"].values()} == {"OnFailure"}


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_pods_have_no_rights_that_they_do_not_need(name: str) -> None:
    for template in pods(render(SPECIFICATIONS[name])).values():
        spec, (box,) = template["spec"], template["spec"]["containers"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert box["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False
        assert template["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"


def test_shared_memory_is_memory_and_scratch_is_writable() -> None:
    spec = pods(render(PLAIN))["Master"]["spec"]

    assert {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}} in spec["volumes"]
    assert {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]} >= {"/dev/shm", "/tmp"}


@pytest.mark.parametrize(("cpu", "processes", "threads"), [("8", 2, "4"), ("2", 3, "1"), ("1500m", 1, "1"), ("500m", 1, "1")])
def test_processes_share_the_cores_of_their_pod(cpu: str, processes: int, threads: str) -> None:
    job = dataclasses.replace(PLAIN, processes_per_node=processes, resources=Resources(cpu=cpu))

    assert {"name": "OMP_NUM_THREADS", "value": threads} in container(render(job))["env"]


def test_gpus_are_requested_and_limited_by_the_name_of_their_resource() -> None:
    job = dataclasses.replace(PLAIN, processes_per_node=2, resources=Resources(gpus=2, gpu_resource="amd.com/gpu", cpu_limit="4"))

    resources = container(render(job))["resources"]
    assert resources["requests"]["amd.com/gpu"] == resources["limits"]["amd.com/gpu"] == "2"
    assert (resources["requests"]["cpu"], resources["limits"]["cpu"]) == ("2", "4")


def test_secrets_stand_in_the_manifest_by_reference_only() -> None:
    variables = {variable["name"]: variable for variable in container(render(EVERYTHING))["env"]}

    assert variables["AWS_ACCESS_KEY_ID"] == {
        "name": "AWS_ACCESS_KEY_ID",
        "valueFrom": {"secretKeyRef": {"name": "store", "key": "accesskey"}},
    }
    assert variables["AWS_SESSION_TOKEN"]["valueFrom"]["secretKeyRef"]["optional"] is True


@pytest.mark.parametrize(
    ("authority", "kept"),
    [
        (Authority("store-ca"), {"configMap": {"name": "store-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}),
        (Authority(secret="store", file="tls.pem"), {"secret": {"secretName": "store", "items": [{"key": "tls.pem", "path": "tls.pem"}]}}),
    ],
)
def test_a_private_authority_is_mounted_and_named_to_the_clients_of_stores(authority: Authority, kept: dict[str, Any]) -> None:
    manifest = render(dataclasses.replace(PLAIN, authority=authority))
    assert {"name": "authority", **kept} in pods(manifest)["Master"]["spec"]["volumes"]
    mount = next(mount for mount in container(manifest)["volumeMounts"] if mount["name"] == "authority")
    assert mount["readOnly"]
    variables = {variable["name"]: variable["value"] for variable in container(manifest)["env"]}
    assert variables["AWS_CA_BUNDLE"] == variables["SSL_CERT_FILE"] == f"{mount['mountPath']}/{authority.file}"


def test_queue_gang_and_placement_reach_their_fields() -> None:
    manifest = render(EVERYTHING, "biology")
    spec = pods(manifest)["Worker"]["spec"]

    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "shared"
    assert manifest["spec"]["runPolicy"]["suspend"] is True
    assert manifest["spec"]["runPolicy"]["schedulingPolicy"] == {"minAvailable": 3}
    assert spec["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists"},
        {"key": "team", "operator": "Equal", "value": "biology", "effect": "NoSchedule"},
    ]
    assert spec["nodeSelector"] == {"gpu.example/kind": "h200"}
    assert (spec["priorityClassName"], spec["serviceAccountName"], spec["imagePullSecrets"]) == ("low", "dino4cells", [{"name": "pull"}])
    assert render(PLAIN)["spec"]["runPolicy"].get("suspend") is None


def test_a_manifest_is_plain_yaml_without_references() -> None:
    text = yaml.safe_dump(render(GPUS, "biology"))

    assert "&id" not in text
    assert yaml.safe_load(text) == render(GPUS, "biology")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": ""}, "image: is not given"),
        ({"image": "Not An Image"}, "no name of a container image"),
        ({"nodes": 0}, "nodes: must be at least 1"),
        ({"processes_per_node": 0}, "processes per node: must be at least 1"),
        ({"nodes": 2, "min_nodes": 3}, "min nodes: must lie between 1 and nodes"),
        ({"tolerated_failures": -1}, "tolerated failures"),
        ({"name": "a b"}, "name: 'a b' cannot be a label"),
        ({"resources": Resources(gpus=2)}, "give each process one GPU"),
        ({"resources": Resources(cpu="many")}, "cpu: 'many' is no quantity"),
        ({"resources": Resources(memory="0")}, "memory: '0' is no quantity above 0"),
        ({"resources": Resources(memory="4Gi", memory_limit="2Gi")}, "memory_limit: is below what is requested"),
        ({"resources": Resources(memory="1Gi")}, "shared_memory: 2Gi counts as memory"),
        ({"resources": Resources(gpus=1, gpu_resource="gpu")}, "gpu_resource: 'gpu' is no name"),
        ({"environment": {"1A": "x"}}, "'1A' is no name of a variable"),
        ({"environment": {"RANK": "0"}}, "RANK is set by the operator"),
        ({"environment": {"PET_NNODES": "2"}}, "PET_NNODES is set by the operator"),
        ({"environment": {"AWS_SECRET_ACCESS_KEY": "planted"}}, "AWS_SECRET_ACCESS_KEY looks like a secret"),
        ({"environment": {"A": "1"}, "secrets": (SecretVariable("A", "s", "k"),)}, "A is given twice"),
        ({"secrets": (SecretVariable("A", "Not_A_Secret", "k"),)}, "is no name of a secret"),
        ({"secrets": (SecretVariable("A", "s", "a key"),)}, "is no key of a secret"),
        ({"config": ConfigFile("Not a map")}, "config map"),
        ({"authority": Authority()}, "authority: is kept in a config map or in a secret; give one"),
        ({"authority": Authority("map", "secret")}, "authority: is kept in a config map or in a secret; give one"),
        ({"authority": Authority(secret="Not a secret")}, "authority: 'Not a secret' with the file 'ca.crt' cannot be one"),
        ({"placement": Placement(node_selector={"a b": "c"})}, "node selector: 'a b=c' is no label"),
        ({"placement": Placement(labels={"a": "b" * 64})}, "is no label of Kubernetes"),
        ({"placement": Placement(tolerations=(Toleration("a", effect="Sometimes"),))}, "the effect 'Sometimes' is not known"),
        ({"placement": Placement(tolerations=(Toleration("", "b"),))}, "the value 'b' needs a key"),
        ({"placement": Placement(queue="A Queue")}, "queue: 'A Queue' is no name of Kubernetes"),
        ({"placement": Placement(annotations={"a b": ""})}, "annotation: 'a b'"),
    ],
)
def test_what_a_cluster_would_refuse_or_not_survive_is_one_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as raised:
        render(dataclasses.replace(PLAIN, **changes))

    assert words in str(raised.value)
    assert "planted" not in str(raised.value)


@given(name=st.text(max_size=80), run=st.text(string.ascii_letters + string.digits + "-_. ", max_size=60))
def test_derived_names_are_names_that_kubernetes_takes(name: str, run: str) -> None:
    derived = job_name(JobSpec(name, "module"), run)

    assert is_job_name(derived)
    assert len(f"{derived}-worker-99999") <= 63


@given(
    nodes=st.integers(1, 200),
    processes=st.integers(1, 16),
    cpu=st.sampled_from(["500m", "1", "2.5", "64"]),
    memory=st.sampled_from(["4Gi", "8000M", "1e10", "1Ti"]),
    gpus=st.booleans(),
    elastic=st.booleans(),
    failures=st.integers(0, 20),
    name=st.from_regex(r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?", fullmatch=True),
)
def test_any_sizes_give_a_manifest_that_kubernetes_takes(
    nodes: int, processes: int, cpu: str, memory: str, gpus: bool, elastic: bool, failures: int, name: str
) -> None:
    job = JobSpec(
        name, "dino4cells.training", nodes=nodes, processes_per_node=processes, min_nodes=1 if elastic else None, image=IMAGE,
        resources=Resources(cpu, memory, gpus=processes if gpus else 0), tolerated_failures=failures,
    )  # fmt: skip

    manifest = render(job)

    assert sum(item["replicas"] for item in manifest["spec"]["pytorchReplicaSpecs"].values()) == nodes
    assert_kubernetes_takes(manifest)


@pytest.mark.parametrize(
    ("text", "number"), [("2", 2), ("500m", 0.5), ("8Gi", 8 * 2**30), ("1e3", 1000), ("1.5G", 1.5e9), (".5", 0.5), ("12E", 12e18)]
)
def test_quantities_are_read_as_kubernetes_reads_them(text: str, number: float) -> None:
    assert parse_quantity(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "-1", "Gi", "8 Gi", "8gi", "1e", "NaN", "1_000", "2Qi"])
def test_what_is_no_quantity_is_none(text: str) -> None:
    assert parse_quantity(text) is None
