"""`dino4cells doctor`: each row of its table against an API server over HTTP, healthy and not, and against a real object store."""

from __future__ import annotations

import base64
import copy
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import healthy_cluster
import pytest
import yaml
from healthy_cluster import CORE, OPERATOR, encoded, write_kubeconfig
from kubernetes_server import NAMESPACE, KubernetesServer, Time, kubernetes_server

from dino4cells.cluster.api import Api
from dino4cells.cluster.doctor import Row, State, Visit, examine, exit_code
from dino4cells.cluster.job import Authority, JobSpec
from dino4cells.cluster.launcher import LauncherPod, LauncherSettings, PyTorchJobLauncher
from dino4cells.cluster.permissions import LAUNCHER
from dino4cells.cluster.settings import JobSettings, read_settings
from dino4cells.errors import JobFailed
from tests.faults.certificates import authority, certificate_of_server
from tests.faults.faulty_proxy import faulty_proxy

Command = Callable[..., Any]  # the fixture `dino4cells` of conftest
Change = Callable[[KubernetesServer], object]
ROLE = Path(__file__).parents[2] / "manifests" / "base" / "role.yaml"
SETTINGS = """
image: registry.example/dino4cells:0.1.0
nodes: 2
resources: {cpu: "4", memory: 16Gi, gpus: 2}
config: {config_map: dino4cells-config}
secrets:
- {variable: AWS_ENDPOINT_URL, secret: store, key: endpoint, optional: true}
- {variable: AWS_ACCESS_KEY_ID, secret: store, key: accesskey}
- {variable: AWS_SECRET_ACCESS_KEY, secret: store, key: secretkey}
placement:
  node_selector: {pool: gpu}
  tolerations: [{key: nvidia.com/gpu}]
  service_account: trainer
  priority_class: batch
  image_pull_secrets: [registry]
  queue: biology
  gang: true
"""


HEALTHY: dict[str, Any] = {
    **healthy_cluster.HEALTHY,
    f"{CORE}/secrets/store": {"data": encoded(accesskey="AKIA-the-key", secretkey="the-secret-value", endpoint="http://127.0.0.1:9")},
    f"{CORE}/secrets/registry": {"type": "kubernetes.io/dockerconfigjson", "data": {}},
    f"{CORE}/configmaps/dino4cells-config": {"data": {"config.yaml": "preset: small\n"}},
    f"{CORE}/serviceaccounts/trainer": {},
    "/apis/scheduling.k8s.io/v1/priorityclasses/batch": {},
    "/apis/kueue.x-k8s.io": {"preferredVersion": {"version": "v1beta1"}},
    f"/apis/kueue.x-k8s.io/v1beta1/namespaces/{NAMESPACE}/localqueues/biology": {"spec": {"clusterQueue": "science"}},
    f"{CORE}/resourcequotas/all": {
        "metadata": {"name": "all"},
        "spec": {},
        "status": {"hard": {"requests.memory": "64Gi", "requests.nvidia.com/gpu": "8"}, "used": {"requests.memory": "16Gi"}},
    },
    f"{CORE}/limitranges/size": {"metadata": {"name": "size"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "64Gi"}}]}},
}


@pytest.fixture
def settings(tmp_path: Path) -> JobSettings:
    (tmp_path / "job.yaml").write_text(SETTINGS)
    return read_settings([str(tmp_path / "job.yaml")])


@pytest.fixture
def server() -> Iterator[KubernetesServer]:
    with kubernetes_server(Time()) as running:
        running.objects = copy.deepcopy(HEALTHY)
        yield running


def table(server: KubernetesServer, settings: JobSettings, output: str = "") -> dict[str, Row]:
    api = Api(NAMESPACE, server.connect, 0, server.time.clock, server.time.sleep)
    return {row.what: row for row in examine(Visit(settings, output, api))}


def test_a_cluster_that_lacks_nothing_is_ok_in_every_row(server: KubernetesServer, settings: JobSettings) -> None:
    rows = table(server, settings)
    assert {row.what for row in rows.values() if row.state is not State.OK} == {"object store"}
    assert rows["cluster"].finding == "answers, Kubernetes v1.33.2"
    assert rows["training operator"].finding == "kubeflow/training-operator is ready (training-operator:v1.9.4)"
    assert rows["secret store"].finding == "has the keys endpoint, accesskey, secretkey"
    assert rows["nodes"].finding == "1 of 2 can take a pod by labels, taints, CPUs and memory"
    assert rows["GPUs (nvidia.com/gpu)"].finding == "room for 2 pods of 2 when nobody else uses them"
    assert rows["queue biology"].finding == "feeds science"
    assert exit_code(rows.values()) == 0


def gone(path: str) -> Change:
    return lambda server: server.objects.pop(path)


def put(path: str, *keys: str | int, value: object) -> Change:
    """Set a value deep inside an object."""

    def change(server: KubernetesServer) -> None:
        place = server.objects[path]
        for key in keys[:-1]:
            place = place[key] if isinstance(key, int) else place.setdefault(key, {})
        place[keys[-1]] = value

    return change


def flag(*words: str) -> Change:
    return put(OPERATOR, "spec", "template", "spec", "containers", 0, "command", value=["/manager", *words])


def forbid(verb: str, resource: str) -> Change:
    return lambda server: server.forbidden.add((verb, resource))


QUOTA, LIMITS = f"{CORE}/resourcequotas/all", f"{CORE}/limitranges/size"
KUEUE = f"/apis/kueue.x-k8s.io/v1beta1/namespaces/{NAMESPACE}/localqueues/biology"
BROKEN: list[tuple[str, Change, str, State, str]] = [
    ("cluster", lambda server: server.fail("get", "version", 1, 503, "the server is starting"), "cluster", State.MISSING, "did not answer"),
    ("token", lambda server: server.fail("get", "version", 2, 401, "Unauthorized"), "cluster", State.MISSING, "does not know who asks"),
    ("namespace", gone(CORE), "namespace", State.MISSING, "there is no lab"),
    ("kind", gone("/apis/kubeflow.org"), "kind pytorchjobs.kubeflow.org", State.MISSING, "not served as v1"),
    (
        "kind in another version",
        put("/apis/kubeflow.org", "versions", value=[{"version": "v2beta1"}]),
        "kind pytorchjobs.kubeflow.org",
        State.MISSING,
        "the group has v2beta1",
    ),
    (
        "kinds of others",
        put("/apis/kubeflow.org/v1", "resources", value=[{"name": "mpijobs"}]),
        "kind pytorchjobs.kubeflow.org",
        State.MISSING,
        "not served",
    ),
    ("operator", gone(OPERATOR), "training operator", State.WARNING, "found in none of the namespaces kubeflow, "),
    ("operator that is down", put(OPERATOR, "status", value={}), "training operator", State.MISSING, "has no pod that is ready"),
    ("operator of another namespace", flag("--namespace", "chemistry"), "training operator", State.MISSING,
     "watches the namespace chemistry"),
    ("operator of other kinds", flag("--enable-scheme=tfjob"), "training operator", State.MISSING, "handles tfjob alone"),
    ("gang scheduler", flag(), "gang scheduling", State.MISSING, "has no --gang-scheduler-name"),
    ("pod security", put(CORE, "metadata", "labels", value={"pod-security.kubernetes.io/enforce": "restricted"}), "pod security",
     State.WARNING, "init container without a securityContext"),
    ("secret", gone(f"{CORE}/secrets/store"), "secret store", State.MISSING, "is not there"),
    ("key of a secret", put(f"{CORE}/secrets/store", "data", value=encoded(accesskey="a")), "secret store", State.MISSING,
     "no key secretkey"),
    ("pull secret", gone(f"{CORE}/secrets/registry"), "pull secret registry", State.MISSING, "is not there"),
    ("pull secret of another type", put(f"{CORE}/secrets/registry", "type", value="Opaque"), "pull secret registry", State.MISSING,
     "Opaque"),
    ("config map", gone(f"{CORE}/configmaps/dino4cells-config"), "config map dino4cells-config", State.MISSING, "is not there"),
    ("file", put(f"{CORE}/configmaps/dino4cells-config", "data", value={"other.yaml": ""}), "config map dino4cells-config", State.MISSING,
     "has no config.yaml"),
    ("service account", gone(f"{CORE}/serviceaccounts/trainer"), "service account trainer", State.MISSING, "is not there"),
    ("priority", gone("/apis/scheduling.k8s.io/v1/priorityclasses/batch"), "priority class batch", State.MISSING, "is not there"),
    ("Kueue", gone("/apis/kueue.x-k8s.io"), "queue biology", State.MISSING, "the cluster has no Kueue"),
    ("queue", gone(KUEUE), "queue biology", State.MISSING, "no such LocalQueue"),
    ("stopped queue", put(KUEUE, "status", value={"conditions": [{"type": "Active", "status": "False", "message": "is stopped"}]}),
     "queue biology", State.WARNING, "is not active (is stopped)"),
    ("quota", put(QUOTA, "status", "hard", value={"requests.memory": "24Gi"}), "quota all", State.MISSING,
     "requests.memory: 32Gi asked, 8Gi of 24Gi left"),
    ("used quota", put(QUOTA, "status", "used", value={"requests.nvidia.com/gpu": "5"}), "quota all", State.WARNING,
     "requests.nvidia.com/gpu: 4 asked, 3 of 8 left"),
    ("limits", put(LIMITS, "spec", "limits", value=[{"type": "Container", "max": {"cpu": "2"}}]), "limits size", State.MISSING,
     "cpu: 4 asked, at most 2 a container"),
    ("least", put(LIMITS, "spec", "limits", value=[{"type": "Pod", "min": {"memory": "32Gi"}}]), "limits size", State.MISSING,
     "memory: 16Gi asked, at least 32Gi a pod"),
    ("label", put("/api/v1/nodes/gpu-1", "metadata", "labels", value={}), "nodes", State.MISSING, "2 × without the label pool=gpu"),
    ("taint", put("/api/v1/nodes/gpu-1", "spec", "taints", value=[{"key": "team", "value": "x", "effect": "NoExecute"}]), "nodes",
     State.MISSING, "1 × with the taint team=x:NoExecute"),
    ("cordon", put("/api/v1/nodes/gpu-1", "spec", "unschedulable", value=True), "nodes", State.MISSING, "1 × cordoned"),
    ("dead node", put("/api/v1/nodes/gpu-1", "status", "conditions", value=[{"type": "Ready", "status": "Unknown"}]), "nodes",
     State.MISSING, "1 × not ready"),
    ("small node", put("/api/v1/nodes/gpu-1", "status", "allocatable", "memory", value="8Gi"), "nodes", State.MISSING,
     "1 × with less memory than 16Gi"),
    ("no GPUs", put("/api/v1/nodes/gpu-1", "status", "allocatable", value={"cpu": "32", "memory": "128Gi", "amd.com/gpu": "8"}),
     "GPUs (nvidia.com/gpu)", State.MISSING, "no node offers any; nodes offer amd.com/gpu"),
    ("few GPUs", put("/api/v1/nodes/gpu-1", "status", "allocatable", "nvidia.com/gpu", value="3"), "GPUs (nvidia.com/gpu)", State.MISSING,
     "room for 1 of 2 pods of 2"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "what", "state", "words"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_is_missing_is_told_in_its_row_with_what_to_do(
    server: KubernetesServer, settings: JobSettings, change: Change, what: str, state: State, words: str
) -> None:
    change(server)
    rows = table(server, settings)
    assert rows[what].state is state
    assert words in rows[what].finding
    assert rows[what].remedy
    assert exit_code(rows.values()) == (2 if state is State.MISSING else 1)


FORBIDDEN = [
    ("namespaces", "get", "namespace"),
    ("deployments", "get", "training operator"),
    ("namespaces", "get", "pod security"),
    ("secrets", "get", "secrets"),
    ("configmaps", "get", "config map"),
    ("serviceaccounts", "get", "service account"),
    ("priorityclasses", "get", "priority class"),
    ("localqueues", "get", "queue"),
    ("resourcequotas", "list", "quota"),
    ("limitranges", "list", "limits"),
    ("nodes", "list", "nodes"),
    ("nodes", "list", "GPUs"),
]


@pytest.mark.parametrize(("resource", "verb", "what"), FORBIDDEN, ids=[case[2] for case in FORBIDDEN])
def test_what_this_account_may_not_look_at_says_how_it_will_show(
    server: KubernetesServer, settings: JobSettings, resource: str, verb: str, what: str
) -> None:
    server.forbidden.add((verb, resource))
    row = table(server, settings)[what]
    assert (row.state, row.finding) == (State.NOT_CHECKED, "this account may not look")
    assert row.remedy.startswith("if ")


@pytest.mark.parametrize(
    ("permission", "verb"), [(item, verb) for item in LAUNCHER for verb in item.verbs], ids=lambda value: getattr(value, "resource", value)
)
def test_every_right_of_the_launcher_is_asked_for(server: KubernetesServer, settings: JobSettings, permission: Any, verb: str) -> None:
    server.forbidden.add((verb, permission.resource))
    row = table(server, settings)[f"right to {permission.resource}"]
    assert row.state is (State.WARNING if permission.without else State.MISSING)
    assert row.finding.startswith(f"may not {verb}")
    assert f"kubectl auth can-i {verb} {permission.resource}" in row.remedy


def test_the_rights_are_those_of_the_role_in_the_manifests() -> None:
    role = next(item for item in yaml.safe_load_all(ROLE.read_text()) if item["kind"] == "Role")
    written = {
        (group, resource): (tuple(rule["verbs"]), tuple(rule.get("resourceNames", ())))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert written == {(item.group, item.resource): (item.verbs, item.names) for item in LAUNCHER}


def test_every_request_of_the_launcher_is_among_the_rights(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A queued job that is taken over, is slow to start, fails in a worker, and is deleted after its log was read."""
    time, job = server.time, JobSpec("train", "dino4cells.training", nodes=2, image="a/b:1")
    launcher = PyTorchJobLauncher(LauncherSettings(NAMESPACE, pod=LauncherPod("step", "uid")), server.connect, time.clock, time.sleep)
    launcher.submit(job)
    time.at(2, server.create_pods)
    time.at(60, server.all_run)
    time.at(62, lambda: server.writes("epoch 1"), lambda: server.writes("out of memory", role="worker"))
    time.at(64, lambda: server.ends(1, "worker", phase="Failed"), lambda: server.condition("Failed", replaces="Running"))
    with pytest.raises(JobFailed):
        launcher.run(job)
    asked = {request[:2] for request in server.requests}
    allowed = {(verb, item.resource) for item in LAUNCHER for verb in item.verbs}
    assert asked <= allowed
    assert allowed - asked <= {("get", "secrets"), ("get", "configmaps")}  # of the step that calls the launcher


def test_a_trainer_of_the_second_generation_is_told_apart(server: KubernetesServer, settings: JobSettings) -> None:
    del server.objects["/apis/kubeflow.org"]
    server.objects["/apis/trainer.kubeflow.org"] = {"versions": [{"version": "v1alpha1"}]}
    row = table(server, settings)["kind pytorchjobs.kubeflow.org"]
    assert "Trainer v2 is there, which does not know PyTorchJobs" in row.finding
    assert "ref=v1.9.4" in row.remedy


@pytest.mark.parametrize("options", [{"nodes": "1"}, {"min_nodes": "1"}])
def test_restricted_pod_security_admits_jobs_without_the_init_container(
    server: KubernetesServer, tmp_path: Path, options: dict[str, str]
) -> None:
    put(CORE, "metadata", "labels", value={"pod-security.kubernetes.io/enforce": "restricted"})(server)
    settings = read_settings(overrides={"image": "a/b:1", "nodes": "2", **options})
    assert table(server, settings)["pod security"].state is State.OK


@pytest.mark.parametrize(
    ("spec", "counts"),
    [
        ({"scopes": ["BestEffort"]}, False),
        ({"scopes": ["NotTerminating"]}, True),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["batch"]}]}}, True),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}, False),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}}, False),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "Terminating", "operator": "Exists"}]}}, False),
    ],
)
def test_a_quota_counts_only_the_pods_of_its_scope(
    server: KubernetesServer, settings: JobSettings, spec: dict[str, Any], counts: bool
) -> None:
    server.objects[QUOTA].update(spec=spec, status={"hard": {"pods": "1"}, "used": {}})
    rows = table(server, settings)
    assert ("quota all" in rows) is counts
    assert exit_code(rows.values()) == (2 if counts else 0)


@pytest.mark.parametrize(
    ("image", "state"),
    [
        ("", State.MISSING),
        ("registry.example:5000/dino4cells", State.WARNING),
        ("registry.example/dino4cells:latest", State.WARNING),
        ("registry.example:5000/dino4cells:0.1.0", State.OK),
        (f"registry.example/dino4cells@sha256:{'0' * 64}", State.OK),
    ],
)
def test_an_image_must_be_given_and_stay_the_same(image: str, state: State) -> None:
    rows = {
        row.what: row for row in examine(Visit(read_settings(overrides={"image": image} if image else {}), absent="none is configured"))
    }
    assert rows["image"].state is state
    assert rows["settings"].state is State.OK


# The object store


@pytest.fixture
def pods_store(server: KubernetesServer, s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket that the secret of the pods opens, while this machine knows nothing of it."""
    bucket = s3()
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    server.objects[f"{CORE}/secrets/store"] = {"data": encoded(accesskey="testing", secretkey="testing", endpoint=endpoint)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        yield bucket


def listed(bucket: str, endpoint: str) -> list[str]:
    import boto3

    found = boto3.client("s3", endpoint_url=endpoint).list_objects_v2(Bucket=bucket.removeprefix("s3://"))
    return [item["Key"] for item in found.get("Contents", ())]


def test_the_store_is_tried_as_the_pods_reach_it_and_left_as_it_was(
    server: KubernetesServer, settings: JobSettings, pods_store: str
) -> None:
    before = dict(os.environ)
    row = table(server, settings, f"{pods_store}/model")["object store"]
    endpoint = base64.b64decode(server.objects[f"{CORE}/secrets/store"]["data"]["endpoint"]).decode()
    assert row.state is State.OK, row.finding
    assert f"at {endpoint}, with the credentials of secret store, as the pods" in row.finding
    assert "pods may see another network" in row.finding
    assert dict(os.environ) == before
    assert listed(pods_store, endpoint) == []


@pytest.mark.parametrize("kind", ["configmaps", "secrets"])
def test_the_authority_of_the_pods_is_trusted_for_a_look_at_their_store(
    kind: str, server: KubernetesServer, settings: JobSettings, pods_store: str, tmp_path: Path
) -> None:
    own, before = authority(tmp_path, "own"), dict(os.environ)
    secret = server.objects[f"{CORE}/secrets/store"]["data"]
    with faulty_proxy(base64.b64decode(secret["endpoint"]).decode(), certificate_of_server(tmp_path, own)) as tls:
        secret["endpoint"] = base64.b64encode(tls.url.encode()).decode()
        row = table(server, settings, f"{pods_store}/model")["object store"]
        assert row.state is State.MISSING
        assert "is not trusted" in row.finding

        named = Authority("store-ca") if kind == "configmaps" else Authority(secret="store-ca")
        trusting = replace(settings, authority=named)
        assert (
            table(server, trusting, f"{pods_store}/model")[f"{'config map' if kind == 'configmaps' else 'secret'} store-ca"].state
            is State.MISSING
        )
        content = own.file.read_text()
        server.objects[f"{CORE}/{kind}/store-ca"] = {
            "data": {"ca.crt": content} if kind == "configmaps" else encoded(**{"ca.crt": content})
        }
        rows = table(server, trusting, f"{pods_store}/model")
    assert rows["object store"].state is State.OK, rows["object store"].finding
    assert dict(os.environ) == before


def test_a_bucket_that_is_not_there_is_missing(server: KubernetesServer, settings: JobSettings, pods_store: str) -> None:
    row = table(server, settings, "s3://nobody-made-this/model")["object store"]
    assert row.state is State.MISSING
    assert "the bucket does not exist" in row.finding


def test_where_the_secret_may_not_be_read_this_machines_own_access_is_tried(
    server: KubernetesServer, settings: JobSettings, s3: Callable[[], str]
) -> None:
    server.forbidden.add(("get", "secrets"))
    row = table(server, settings, f"{s3()}/model")["object store"]
    assert row.state is State.OK
    assert "with the credentials of this machine" in row.finding


def test_a_store_that_does_not_answer_from_here_is_doubtful_and_not_missing(
    server: KubernetesServer, settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dino4cells.storage_retry.REQUEST_ATTEMPTS", 1)
    row = table(server, settings, "s3://lab/model")["object store"]
    assert row.state is State.WARNING
    assert "http://127.0.0.1:9 does not answer" in row.finding
    assert "run doctor in a pod" in row.remedy


def test_a_place_of_this_machine_is_no_output_of_a_job(settings: JobSettings, tmp_path: Path) -> None:
    rows = {row.what: row for row in examine(Visit(settings, str(tmp_path), absent="none is configured"))}
    assert rows["object store"].state is State.MISSING
    assert rows["nodes"].finding == "needs the cluster"


# The command


def test_the_command_prints_the_table_and_no_value_of_a_secret(
    server: KubernetesServer, settings: JobSettings, dino4cells: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kubeconfig(tmp_path, monkeypatch, server.url, server.token)
    healthy = dino4cells("doctor", "--settings", tmp_path / "job.yaml")
    assert healthy.code == 0, healthy.out
    assert healthy.out.splitlines()[0].split() == ["what", "state", "found"]
    assert "0 warning, 0 missing, 1 not checked" in healthy.out

    gone(KUEUE)(server)
    broken = dino4cells("doctor", "--settings", tmp_path / "job.yaml", "--json")
    answer = json.loads(broken.out)
    assert (broken.code, answer["exit_code"]) == (2, 2)
    assert [row["what"] for row in answer["rows"] if row["state"] == "missing"] == ["queue biology"]
    for secret in ("AKIA-the-key", "the-secret-value", server.token, *encoded(a="AKIA-the-key", b="the-secret-value").values()):
        assert secret not in healthy.out + healthy.err + broken.out + broken.err


def test_without_a_cluster_the_rest_is_checked(dino4cells: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    done = dino4cells("doctor", "--image", "registry.example/dino4cells:0.1.0", "--json")
    rows = {row["what"]: row for row in json.loads(done.out)["rows"]}
    assert done.code == 2
    assert rows["image"]["state"] == "ok"
    assert (rows["cluster"]["state"], rows["cluster"]["remedy"]) == ("missing", "set KUBECONFIG, or give --context")
    assert (rows["nodes"]["state"], rows["nodes"]["remedy"]) == ("not checked", "set KUBECONFIG, or give --context")
    assert dino4cells("doctor", "--nodez", "2").err.startswith("error: option nodez: is no key here; did you mean nodes?")
