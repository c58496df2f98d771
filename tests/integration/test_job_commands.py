"""`dino4cells job submit|status|logs|delete` against an API server over HTTP, found through a kubeconfig as on a person's machine."""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from healthy_cluster import write_kubeconfig
from kubernetes_server import NAMESPACE, KubernetesServer, Time, kubernetes_server
from played_cluster import BEGIN

from dino4cells.cluster import launcher
from dino4cells.cluster.api import Api
from dino4cells.cluster.client import Cluster
from dino4cells.cluster.context import namespace_of
from dino4cells.cluster.status import JobStatus, show_log, status_of
from dino4cells.errors import ConfigError
from dino4cells.events import line_of

Command = Callable[..., Any]  # the fixture `dino4cells` of conftest
WORDS = ("--image", "registry.example/dino4cells:0.1.0", "--data", "s3://lab/cells", "--output", "s3://lab/model", "--preset", "small")
PROGRESS = line_of(
    "progress",
    **{"step": "train", "done": 500, "total": 1000, "unit": "images", "images_per_second": 40, "seconds_left": 12, "note": "loss 4.2"},
)
BAR = "train    ████████████░░░░░░░░░░░░  50% · 500/1,000 images · 40 images/s · 0:12 left · loss 4.2"


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def server(time: Time, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesServer]:
    with kubernetes_server(time) as running:
        write_kubeconfig(tmp_path, monkeypatch, running.url, running.token)
        yield running


@pytest.fixture
def cluster(server: KubernetesServer) -> Cluster:
    return Cluster(Api(NAMESPACE, server.connect, 0, server.time.clock, server.time.sleep))


@pytest.fixture
def name(server: KubernetesServer, dino4cells: Command) -> str:
    """A job of two pods that was submitted."""
    done = dino4cells("job", "submit", *WORDS, "--nodes", "2")
    assert done.code == 0, done.err
    return str(server.job["metadata"]["name"])


def now(server: KubernetesServer) -> datetime.datetime:
    return BEGIN + datetime.timedelta(seconds=server.time.now)


def status(server: KubernetesServer, cluster: Cluster) -> JobStatus:
    return status_of(cluster, server.job["metadata"]["name"], now(server))


# submit


def test_submit_returns_when_the_cluster_has_the_job_and_says_how_to_follow_it(server: KubernetesServer, dino4cells: Command) -> None:
    done = dino4cells("job", "submit", *WORDS, "--nodes", "2")
    name = server.job["metadata"]["name"]
    assert done.code == 0
    assert done.out.splitlines()[0] == f"{name}: submitted to namespace lab"
    assert [line.partition("dino4cells ")[2] for line in done.out.splitlines()[1:]] == [
        f"job status {name} -n lab",
        f"job logs {name} -n lab --follow",
        f"job delete {name} -n lab",
    ]


def test_submit_sends_what_render_writes(server: KubernetesServer, dino4cells: Command) -> None:
    rendered = yaml.safe_load(dino4cells("job", "render", *WORDS, "--namespace", NAMESPACE).out)
    dino4cells("job", "submit", *WORDS)
    assert server.job["spec"] == rendered["spec"]
    for key in ("name", "namespace", "labels", "annotations"):
        assert server.job["metadata"][key] == rendered["metadata"][key]


def test_an_equal_job_is_taken_over_and_another_of_its_name_refused(server: KubernetesServer, dino4cells: Command) -> None:
    first = dino4cells("job", "submit", *WORDS, "--name", "monday")
    again = dino4cells("job", "submit", *WORDS, "--name", "monday")
    other = dino4cells("job", "submit", *WORDS, "--name", "monday", "--nodes", "3")
    assert (first.code, again.code, other.code) == (0, 0, 2)
    assert again.out.startswith("monday: is there already with the same specification; taken over\n")
    assert "monday: namespace lab has another job of this name; delete it" in other.err
    assert list(server.jobs) == ["monday"]


@pytest.mark.parametrize(("ending", "code", "words"), [("Succeeded", 0, "succeeded"), ("Failed", 1, "failed and left no pod")])
def test_with_wait_the_exit_code_says_how_the_job_ended(
    server: KubernetesServer, dino4cells: Command, monkeypatch: pytest.MonkeyPatch, ending: str, code: int, words: str
) -> None:
    patient = functools.partial(launcher.PyTorchJobLauncher, clock=server.time.clock, sleep=server.time.sleep)
    monkeypatch.setattr(launcher, "PyTorchJobLauncher", patient)
    server.time.at(2, server.create_pods)
    server.time.at(4, server.all_run)
    server.time.at(6, lambda: server.writes("epoch 1"))
    server.time.at(9, lambda: server.delete_pod() if code else server.ends(0), lambda: server.condition(ending, "why", replaces="Running"))
    done = dino4cells("job", "submit", *WORDS, "--wait")
    assert done.code == code
    assert "epoch 1" in done.out.splitlines()
    assert words in done.out + done.err


def test_what_cannot_be_sent_is_an_exit_code_of_its_own(server: KubernetesServer, dino4cells: Command) -> None:
    server.refuses = "spec.pytorchReplicaSpecs[Master].replicas: Forbidden: must be 1"
    for wait in ((), ("--wait",)):
        done = dino4cells("job", "submit", *WORDS, *wait)
        assert done.code == 2
        assert "refuses to create pytorchjobs.kubeflow.org (400: admission webhook" in done.err


# Where


def test_the_namespace_is_that_which_is_given_else_that_of_the_context(server: KubernetesServer) -> None:
    assert [namespace_of(), namespace_of(context="elsewhere"), namespace_of(context="bare")] == [NAMESPACE, "other", "default"]
    assert namespace_of("given", "elsewhere") == "given"
    with pytest.raises(ConfigError, match=r"^--context: the kubeconfig has no context 'nowhere'; it has here, elsewhere, bare\.$"):
        namespace_of(context="nowhere")


def test_a_pod_asks_about_the_namespace_that_it_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "namespace").write_text("lab\n")
    monkeypatch.setattr("dino4cells.cluster.context.OWN_NAMESPACE", tmp_path / "namespace")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert namespace_of() == "lab"


COMMANDS = [("submit", *WORDS), ("status", "gone"), ("logs", "gone"), ("delete", "gone")]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_without_a_cluster_every_command_says_what_to_set(
    words: tuple[str, ...], dino4cells: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    done = dino4cells("job", *words)
    assert done.code == 2
    assert re.fullmatch(r"error: cluster: none is configured \([^\n]*\); set KUBECONFIG, or run inside a cluster\.\n", done.err)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_kubeconfig_that_is_no_yaml_is_named(
    words: tuple[str, ...], server: KubernetesServer, dino4cells: Command, tmp_path: Path
) -> None:
    (tmp_path / "kubeconfig").write_text("clusters: [{")
    done = dino4cells("job", *words)
    assert done.code == 2
    assert done.err.startswith("error: kubeconfig: cannot be read")


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_cluster_that_does_not_answer_is_not_waited_for_long(
    words: tuple[str, ...], dino4cells: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_kubeconfig(tmp_path, monkeypatch, "http://127.0.0.1:9", "t")
    monkeypatch.setattr("dino4cells.cli.job.PATIENCE_SECONDS", 0.0)
    done = dino4cells("job", *words)
    assert done.code == 2
    assert "cluster: its API did not answer" in done.err


@pytest.mark.parametrize(
    ("words", "verb"), list(zip(COMMANDS, ("create", "get", "get", "get"), strict=True)), ids=["submit", "status", "logs", "delete"]
)
def test_a_refused_verb_is_named_with_its_test(words: tuple[str, ...], verb: str, server: KubernetesServer, dino4cells: Command) -> None:
    server.forbidden.add((verb, "pytorchjobs"))
    done = dino4cells("job", *words)
    assert done.code == 2
    assert f"this account may not {verb} pytorchjobs.kubeflow.org" in done.err
    assert f"kubectl auth can-i {verb} pytorchjobs.kubeflow.org -n lab" in done.err


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_cluster_without_the_operator_is_told_apart_from_a_missing_job(
    words: tuple[str, ...], server: KubernetesServer, dino4cells: Command
) -> None:
    server.knows_jobs = False
    done = dino4cells("job", *words)
    assert (done.code, done.err) == (
        2,
        "error: cluster: knows no pytorchjobs.kubeflow.org; install the Training Operator (v1), whose jobs these are.\n",
    )


@pytest.mark.parametrize("command", ["status", "logs", "delete"])
def test_a_job_that_is_not_there_is_one_sentence(command: str, server: KubernetesServer, dino4cells: Command) -> None:
    done = dino4cells("job", command, "gone")
    assert done.code == 2
    assert done.err.startswith("error: job gone: namespace lab has no job of this name; ")


# status


def test_the_status_shows_state_time_pods_and_progress(server: KubernetesServer, cluster: Cluster, name: str, dino4cells: Command) -> None:
    server.create_pods()
    server.time.sleep(4)
    server.all_run()
    server.writes("reading cells", PROGRESS, line_of("warning", message="an image is missing"))
    server.time.sleep(120)
    found = status(server, cluster)
    assert (found.state, found.detail, found.since, found.progress) == ("running", "2 pods", "2026-01-01T12:00:04Z", BAR)
    assert found.lasted(now(server)) == "2 minutes"
    assert [(pod.place, pod.state, pod.node) for pod in found.pods] == [("master-0", "running", "gpu-3"), ("worker-0", "running", "gpu-3")]

    shown = dino4cells("job", "status", name)
    assert shown.code == 0
    for words in (f"{name} in namespace lab", "running (2 pods)", BAR[:40], "master-0", "gpu-3"):
        assert words in shown.out
    read = json.loads(dino4cells("job", "status", name, "--json").out)
    assert (read["state"], read["pods"][1]["place"], read["reason"]) == ("running", "worker-0", "")


def test_a_job_that_nobody_takes_notice_of_names_the_operator(server: KubernetesServer, cluster: Cluster, name: str) -> None:
    server.time.sleep(30)
    assert status(server, cluster).reason == ""
    server.time.sleep(90)
    found = status(server, cluster)
    assert (found.state, found.since) == ("submitted", "2026-01-01T12:00:00Z")
    assert "install the Training Operator" in found.reason


def test_a_pod_says_why_it_does_not_run(server: KubernetesServer, cluster: Cluster, name: str) -> None:
    server.create_pods()
    server.unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    server.waits("ImagePullBackOff", "Back-off pulling image", role="worker")
    found = status(server, cluster)
    assert found.state == "scheduling"
    assert [pod.reason for pod in found.pods] == [
        "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        "ImagePullBackOff; Back-off pulling image",
    ]
    assert "cannot be pulled (ImagePullBackOff: Back-off pulling image)" in found.reason
    assert found.progress == ""


def test_a_crash_is_explained_while_the_job_goes_on(server: KubernetesServer, cluster: Cluster, name: str) -> None:
    server.create_pods()
    server.all_run()
    server.time.sleep(60)
    server.ends(137, "worker", reason="OOMKilled", again="CrashLoopBackOff")
    found = status(server, cluster)
    assert (found.state, found.since) == ("restarting", "2026-01-01T12:01:00Z")
    assert "killed for using more memory than its limit (OOMKilled, exit code 137)" in found.reason
    assert found.pods[1].state == "restarting"
    assert "OOMKilled with exit code 137" in found.pods[1].reason


def test_a_failed_job_gives_the_sentence_of_its_process(server: KubernetesServer, cluster: Cluster, name: str) -> None:
    server.create_pods()
    server.all_run()
    server.ends(1, message="error: s3://lab/cells: there is no metadata.csv; put one there.\n", phase="Failed")
    server.time.sleep(30)
    server.condition("Failed", "PyTorchJob failed because 1 replica failed", replaces="Running")
    found = status(server, cluster)
    assert found.since == "2026-01-01T12:00:30Z"
    assert (found.state, found.reason) == ("failed", "s3://lab/cells: there is no metadata.csv; put one there.")
    assert found.pods[0].state == "failed"


def test_a_queued_job_names_its_queue(server: KubernetesServer, cluster: Cluster, dino4cells: Command) -> None:
    dino4cells("job", "submit", *WORDS, "--placement.queue", "biology")
    server.condition("Suspended")
    found = status(server, cluster)
    assert (found.state, found.detail, found.pods) == ("queued", "in queue biology", ())


def test_a_log_that_may_not_be_read_does_not_hide_the_status(server: KubernetesServer, cluster: Cluster, name: str) -> None:
    server.create_pods()
    server.all_run()
    server.forbidden.add(("get", "pods/log"))
    found = status(server, cluster)
    assert found.state == "running"
    assert found.progress.startswith("(the log cannot be read: namespace lab: this account may not get pods/log")


# logs


def test_the_log_so_far_is_shown_and_nothing_is_waited_for(server: KubernetesServer, dino4cells: Command, name: str) -> None:
    early = dino4cells("job", "logs", name)
    assert (early.code, early.out, early.err) == (0, "", f"{name}: has no log (submitted)\n")
    server.create_pods()
    server.all_run()
    server.writes("epoch 1", "epoch 2")
    server.writes("of the worker", role="worker")
    assert dino4cells("job", "logs", name).out == "epoch 1\nepoch 2\n"
    assert dino4cells("job", "logs", name, "--pod", "worker-0").out == "of the worker\n"
    missing = dino4cells("job", "logs", name, "--pod", "worker-7")
    assert (missing.code, missing.err) == (2, f"error: --pod: {name} has no pod worker-7; it has master-0, worker-0.\n")


def followed(server: KubernetesServer, cluster: Cluster, name: str, **options: Any) -> tuple[list[str], list[str]]:
    shown: list[str] = []
    said: list[str] = []
    show_log(cluster, name, shown.append, said.append, follow=True, sleep=server.time.sleep, **options)
    return shown, said


@pytest.mark.parametrize("ending", ["Succeeded", "Failed"])
def test_a_log_is_followed_over_a_restart_to_the_end_of_the_job(server: KubernetesServer, cluster: Cluster, name: str, ending: str) -> None:
    server.time.at(2, server.create_pods)
    server.time.at(4, server.all_run)
    server.time.at(6, lambda: server.writes("epoch 1"))
    server.time.at(8.5, lambda: server.writes("epoch 2"), lambda: server.ends(1), server.runs, lambda: server.writes("resumed"))
    server.time.at(12.5, lambda: server.writes("the end"), lambda: server.ends(0), lambda: server.condition(ending, replaces="Running"))
    shown, said = followed(server, cluster, name)
    assert shown == ["epoch 1", "epoch 2", "resumed", "the end"]
    assert said == [f"{name}: {ending.lower()}"]
    assert not server.deleted


def test_following_ends_with_a_job_that_is_deleted(server: KubernetesServer, cluster: Cluster, name: str) -> None:
    server.time.at(2, server.create_pods)
    server.time.at(4, server.all_run, lambda: server.writes("of the worker", role="worker"))
    server.time.at(9, server.jobs.clear)
    assert followed(server, cluster, name, place="worker-0") == (["of the worker"], [f"{name}: was deleted"])


def test_a_log_that_breaks_off_is_an_error_and_not_the_whole_log(server: KubernetesServer, cluster: Cluster, name: str) -> None:
    server.create_pods()
    server.all_run()
    server.writes("epoch 1", "epoch 2")
    server.drop("get", "pods/log", after=45)
    with pytest.raises(Exception, match=r"its log cannot be read to its end \(the answer was cut short\); run it again\."):
        show_log(cluster, name, print, print)


# delete


def test_delete_takes_the_pods_along(server: KubernetesServer, dino4cells: Command, name: str) -> None:
    server.create_pods()
    done = dino4cells("job", "delete", name)
    assert (done.code, done.out) == (0, f"{name}: deleted from namespace lab; its pods end within half a minute\n")
    assert not server.jobs
    assert not server.pods


def test_a_job_of_somebody_else_is_not_deleted(server: KubernetesServer, dino4cells: Command, name: str) -> None:
    del server.job["metadata"]["annotations"]
    done = dino4cells("job", "delete", name)
    assert done.code == 2
    assert "was not made by dino4cells; delete it by kubectl delete pytorchjob" in done.err
    assert server.jobs
