"""The launcher of PyTorchJobs against an API server over HTTP: what a person reads in the step's log, and what is left on the cluster."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes_server import NAMESPACE, KubernetesServer, Time, kubernetes_server

from dino4cells.cluster.api import ClusterError, ClusterUnreachable, connect
from dino4cells.cluster.failures import ClusterJobFailed, exit_code, own_words
from dino4cells.cluster.job import JobSpec, Placement, Processes
from dino4cells.cluster.launcher import LauncherPod, LauncherSettings, PyTorchJobLauncher
from dino4cells.cluster.names import job_name
from dino4cells.cluster.objects import Ended
from dino4cells.cluster.sign import ABANDONED
from dino4cells.cluster.states import Limits
from dino4cells.cluster.variables import LAUNCHER_SIGN
from dino4cells.errors import ConfigError, JobFailed

IMAGE = "registry.example/dino4cells:0.1.0"
JOB = JobSpec("train", "dino4cells.training", ("--output", "s3://bucket/model"), image=IMAGE)
TWO = dataclasses.replace(JOB, nodes=2)
QUEUED = dataclasses.replace(JOB, placement=Placement(queue="biology"))
ELASTIC = dataclasses.replace(JOB, nodes=3, min_nodes=2)
SETTINGS = LauncherSettings(NAMESPACE, run="run-1")
TORCHRUN = """E0101 12:00:09.000000 7 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: {code}) local_rank: 0
Traceback (most recent call last):
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
Root Cause (first observed failure):
[0]:
  rank      : 0 (local_rank: 0)
  exitcode  : {code} (pid: 12)
  error_file: <N/A>"""


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def server(time: Time) -> Iterator[KubernetesServer]:
    with kubernetes_server(time) as running:
        yield running


def launcher(server: KubernetesServer, settings: LauncherSettings = SETTINGS, **limits: float) -> PyTorchJobLauncher:
    settings = dataclasses.replace(settings, limits=dataclasses.replace(settings.limits, **limits))
    return PyTorchJobLauncher(settings, server.connect, server.time.clock, server.time.sleep, lambda: 1.0)


def succeeds(server: KubernetesServer) -> None:
    server.ends(0)
    server.condition("Succeeded", replaces="Running")


def runs_through(server: KubernetesServer, *lines: str, begin: float = 0) -> None:
    """Have the job start and succeed, with these lines in its log."""
    server.time.at(begin + 2, server.create_pods)
    server.time.at(begin + 6, server.all_run)
    for number, line in enumerate(lines):
        server.time.at(begin + 8 + 3 * number, lambda line=line: server.writes(line))  # type: ignore[misc]
    server.time.at(begin + 10 + 3 * len(lines), lambda: succeeds(server))


def failure_of(call: Callable[[], None]) -> ClusterJobFailed:
    with pytest.raises(ClusterJobFailed) as failed:
        call()
    return failed.value


def said(output: str, job: JobSpec = JOB) -> list[str]:
    """What the launcher itself said, without the job's name."""
    begin = f"{job_name(job, 'run-1')}: "
    return [line.removeprefix(begin) for line in output.splitlines() if line.startswith(begin)]


def logged(output: str, job: JobSpec = JOB) -> list[str]:
    """The lines of the job's log."""
    return [line for line in output.splitlines() if not line.startswith(f"{job_name(job, 'run-1')}: ")]


# Success


def test_a_job_is_submitted_followed_to_its_success_and_left_to_be_looked_at(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    runs_through(server, "epoch 1 · loss 7.1", "epoch 2 · loss 6.8")
    launcher(server).run(JOB)
    output = capsys.readouterr().out
    assert said(output) == [
        "submitted to namespace lab",
        "scheduling (0 of 1 pod up)",
        "running (1 pod)",
        "succeeded",
    ]
    assert logged(output) == ["epoch 1 · loss 7.1", "epoch 2 · loss 6.8"]
    assert not server.deleted
    assert server.job["metadata"]["namespace"] == NAMESPACE


def test_the_log_is_passed_on_while_the_job_runs(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []
    runs_through(server, "epoch 1", "epoch 2")
    server.time.at(10.5, lambda: seen.append(capsys.readouterr().out))
    launcher(server).run(JOB)
    assert logged(seen[0]) == ["epoch 1"]


def test_a_step_starts_its_processes_by_it(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    template = dataclasses.replace(JOB, tolerated_failures=1, environment={"REGION": "eu"})
    settings = dataclasses.replace(SETTINGS, template=template)
    processes = Processes(launcher(server, settings), nodes=2, per_node=3)
    runs_through(server)
    server.time.at(14, lambda: server.delete_pod("worker"))
    processes.launcher.run(JobSpec("extract", "dino4cells.features", ("--x",), processes.nodes, processes.per_node))
    spec = server.job["spec"]
    container = spec["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
    assert spec["nprocPerNode"] == "3"
    assert container["image"] == IMAGE
    assert container["command"] == ["torchrun", "-m", "dino4cells.features"]
    assert {"name": "REGION", "value": "eu"} in container["env"]


def test_the_workers_of_a_job_that_succeeded_end_before_the_step_does(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server)
    server.time.at(25, lambda: server.delete_pod("worker"))
    launcher(server).run(TWO)
    assert server.time.now >= 25
    assert not server.deleted


def test_a_job_whose_pods_do_not_end_after_its_success_is_deleted(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server)
    launcher(server, ended=60).run(TWO)
    assert not server.jobs
    assert not server.pods
    name = job_name(TWO, "run-1")
    assert said(capsys.readouterr().out, TWO)[-1] == (f"deleted; pods of it have still not ended after 1 minute ({name}-worker-0 on gpu-3)")


def test_the_log_of_an_elastic_job_is_that_of_its_first_worker(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.time.at(2, server.create_pods)
    server.time.at(4, lambda: server.runs("worker", 0), lambda: server.runs("worker", 2))
    server.time.at(6, lambda: server.writes("epoch 1", role="worker", index=0), lambda: server.writes("no", role="worker", index=2))
    server.time.at(9, lambda: server.ends(0, "worker", 0), lambda: server.ends(0, "worker", 2))
    server.time.at(9, lambda: server.delete_pod("worker", 1), lambda: server.condition("Succeeded"))
    launcher(server).run(ELASTIC)
    output = capsys.readouterr().out
    assert logged(output, ELASTIC) == ["epoch 1"]
    assert "running (2 pods)" in said(output, ELASTIC)


def test_a_queued_job_waits_for_its_queue_and_not_for_a_node(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.time.at(2, lambda: server.condition("Suspended"))
    server.time.at(600, lambda: server.suspend(False), lambda: server.condition("Created", replaces="Suspended"))
    runs_through(server, "epoch 1", begin=600)
    launcher(server, scheduling=60, queued=700).run(QUEUED)
    assert said(capsys.readouterr().out, QUEUED)[1:] == [
        "queued (in queue biology)",
        "scheduling (0 of 1 pod up)",
        "running (1 pod)",
        "succeeded",
    ]


# The log


def test_a_log_that_is_cut_off_in_the_middle_of_a_line_is_read_on_without_loss_or_repetition(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"epoch {number} · loss {number / 7:.3f} – µ" for number in range(1, 30)]
    runs_through(server, *lines)
    for when in range(10, 70, 4):
        server.time.at(when, lambda: server.drop("get", "pods/log", after=57))
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == lines


def test_equal_lines_at_equal_times_are_as_many_as_were_written(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server)
    server.time.at(7, lambda: server.writes("warning", "warning", nanoseconds=5))
    server.time.at(7, lambda: server.drop("get", "pods/log", 2, after=60))
    server.time.at(8.2, lambda: server.writes("warning", "other", nanoseconds=5, ago=1.2))
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["warning", "warning", "warning", "other"]


def test_a_line_that_comes_late_with_an_earlier_time_is_not_lost(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server)
    server.time.at(7, lambda: server.writes("first", nanoseconds=10))
    server.time.at(8.5, lambda: server.writes("late", nanoseconds=900_000_000, ago=2.5))
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["first", "late"]


def test_the_clock_of_a_node_may_be_set_to_its_own_zone(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server)
    for when in (6.5, 7.5, 8.5, 9.5):
        server.time.at(when, lambda when=when: server.writes(f"at {when}", zone="+05:30"))  # type: ignore[misc]
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["at 6.5", "at 7.5", "at 8.5", "at 9.5"]
    asked = [query["sinceTime"] for verb, resource, query in server.requests if resource == "pods/log" and "sinceTime" in query]
    assert asked[-1] == "2026-01-01T12:00:08Z"


def test_only_what_is_new_is_asked_for(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server, *["x" * 100] * 50)
    launcher(server).run(JOB)
    asked = [query.get("sinceTime") for verb, resource, query in server.requests if resource == "pods/log"]
    assert None not in asked[5:]


def test_the_log_of_a_restarted_process_follows_the_whole_log_of_the_one_before(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.time.at(2, server.create_pods)
    server.time.at(4, server.all_run)
    server.time.at(6, lambda: server.writes("epoch 1"))
    # Between two looks it writes on, crashes, and begins anew.
    server.time.at(8.1, lambda: server.writes("epoch 2"), lambda: server.ends(1), server.runs, lambda: server.writes("resumed at epoch 2"))
    server.time.at(12, lambda: server.writes("epoch 3"))
    server.time.at(14, lambda: succeeds(server))
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["epoch 1", "epoch 2", "resumed at epoch 2", "epoch 3"]


def test_a_crash_is_shown_as_restarting_until_the_process_runs_again(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.time.at(2, server.create_pods)
    server.time.at(4, server.all_run)
    server.time.at(6, lambda: server.writes("epoch 1"), lambda: server.ends(1, "worker", again="CrashLoopBackOff"))
    server.time.at(20, lambda: server.runs("worker"))
    server.time.at(24, lambda: succeeds(server), lambda: server.ends(0, "worker"))
    launcher(server).run(TWO)
    output = capsys.readouterr().out
    assert said(output, TWO)[1:] == [
        "scheduling (0 of 2 pods up)",
        "running (2 pods)",
        f"restarting ({job_name(TWO, 'run-1')}-worker-0: exit code 1)",
        "running (2 pods)",
        "succeeded",
    ]
    assert logged(output, TWO) == ["epoch 1"]


def test_a_pod_that_is_made_anew_is_followed_from_its_beginning(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.time.at(2, server.create_pods)
    server.time.at(4, server.all_run)
    server.time.at(6, lambda: server.writes("epoch 1"))
    server.time.at(10, server.delete_pod, lambda: server.create_pod("master"))
    server.time.at(14, server.runs, lambda: server.writes("epoch 1"))
    server.time.at(18, lambda: succeeds(server))
    launcher(server).run(JOB)
    output = capsys.readouterr().out
    assert logged(output) == ["epoch 1", "epoch 1"]
    assert "restarting (0 of 1 pod up)" in said(output)


def test_a_log_that_begins_anew_while_it_is_read_is_not_taken_for_the_old_one(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.time.at(2, server.create_pods)
    server.time.at(4, server.all_run)
    server.time.at(6, lambda: server.writes("epoch 1"))

    def anew() -> None:
        server.delete_pod()
        server.create_pod("master")
        server.runs()
        server.writes("epoch 1 again", "epoch 2 again")

    server.time.at(9, lambda: server.just_before("get", "pods/log", anew))
    server.time.at(20, lambda: succeeds(server))
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["epoch 1", "epoch 1 again", "epoch 2 again"]


def test_a_log_that_cannot_be_read_for_a_while_neither_stops_nor_stalls_the_job(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    runs_through(server, *[f"line {number}" for number in range(40)])
    server.time.at(12, lambda: server.fail("get", "pods/log", 30, 502, "dial tcp 10.0.0.7:10250: i/o timeout"))
    launcher(server, stalled=20).run(JOB)
    output = capsys.readouterr().out
    assert logged(output) == [f"line {number}" for number in range(40)]
    pod = f"{job_name(JOB, 'run-1')}-master-0"
    problem = "502 dial tcp 10.0.0.7:10250: i/o timeout"
    assert [line for line in said(output) if "log" in line] == [f"the log of {pod} cannot be read just now ({problem}); the job goes on"]


def test_a_worker_does_not_speak_for_a_master_that_is_not_there_yet(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.time.at(2, server.create_pods, server.delete_pod)
    server.time.at(4, lambda: server.runs("worker"), lambda: server.writes("from the worker", role="worker"))
    server.time.at(8, lambda: server.create_pod("master"), server.runs, lambda: server.writes("from the master"))
    server.time.at(12, lambda: succeeds(server), lambda: server.ends(0, "worker"))
    launcher(server).run(TWO)
    assert logged(capsys.readouterr().out, TWO) == ["from the master"]


# Failures of the job


def running_for(server: KubernetesServer, *lines: str) -> None:
    """Have the job run from second 4 on and write lines at second 6."""
    server.time.at(2, server.create_pods)
    server.time.at(4, server.all_run)
    server.time.at(6, lambda: server.writes(*lines))


def test_what_a_user_can_mend_fails_at_once_with_the_sentence_of_the_process(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    running_for(server, "reading s3://bucket/cells.csv")
    sentence = "s3://bucket/cells.csv: the table has no rows; it needs one row a cell."
    server.time.at(8, lambda: server.ends(1, "worker", message=f"error: {sentence}\n", again="CrashLoopBackOff"))
    failed = failure_of(lambda: launcher(server).run(TWO))
    assert str(failed) == sentence
    assert failed.failure.pod == f"{job_name(TWO, 'run-1')}-worker-0"
    assert failed.failure.exit_code == 2
    assert server.time.now < 20
    assert not server.jobs
    assert not server.pods
    assert "reading s3://bucket/cells.csv" in capsys.readouterr().out


def test_the_sentence_of_the_process_stands_even_where_the_operator_was_quicker(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    running_for(server, "epoch 1")

    def all_at_once() -> None:
        server.ends(1, "worker", message="error: cells.csv: has no rows; add some.", again="CrashLoopBackOff")
        server.delete_pod("worker")
        server.ends(1, message="connection reset", phase="Failed")
        server.condition("Failed", "reached the specified backoff limit", replaces="Running")

    server.time.at(9, lambda: server.just_before("get", "pytorchjobs", all_at_once))
    failed = failure_of(lambda: launcher(server).run(TWO))
    assert str(failed) == "cells.csv: has no rows; add some."


def test_exit_code_2_of_a_process_fails_at_once_even_without_a_sentence(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    running_for(server, "usage: dino4cells.training", "error: unrecognized arguments: --bacth")
    summary = TORCHRUN.format(code=2)
    server.time.at(8, lambda: server.writes(*summary.splitlines()), lambda: server.ends(1, message=summary), server.runs)
    failed = failure_of(lambda: launcher(server).run(JOB))
    assert failed.failure.exit_code == 2
    assert str(failed).splitlines()[1:] == [
        f"The last lines of {failed.failure.pod}:",
        "  usage: dino4cells.training",
        "  error: unrecognized arguments: --bacth",
    ]
    assert not server.jobs


def test_a_real_torchrun_names_the_exit_code_of_its_process_and_passes_on_another(tmp_path: Path) -> None:
    script = tmp_path / "process.py"
    script.write_text("import sys\nprint('its last words', flush=True)\nsys.exit(2)\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", str(script)]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    end = Ended(run.returncode, "Error", run.stdout[-2048:], "", "")  # as much as Kubernetes takes from a log
    assert (run.returncode, exit_code(end)) == (1, 2)
    assert own_words(run.stdout.splitlines(), 20)[-1] == "its last words"


def test_a_job_that_failed_too_often_shows_the_last_words_of_the_pod_that_failed_first(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    running_for(server, "epoch 1")
    words = ["Traceback (most recent call last):", "ValueError: bad batch"]
    summary = TORCHRUN.format(code=1).splitlines()
    server.time.at(8, lambda: server.writes(*words, *summary, role="worker"))
    server.time.at(8, lambda: server.ends(1, "worker", message="\n".join(summary), phase="Failed"))
    server.time.at(10, lambda: server.ends(1, message="connection reset by peer", phase="Failed"))
    server.time.at(10, lambda: server.condition("Failed", "reached the specified backoff limit", replaces="Running"))
    failed = failure_of(lambda: launcher(server).run(TWO))
    worker = f"{job_name(TWO, 'run-1')}-worker-0"
    assert str(failed) == (
        f"{worker}: a process ended with exit code 1; its last lines say why.\n"
        f"The last lines of {worker}:\n  Traceback (most recent call last):\n  ValueError: bad batch"
    )
    assert not server.deleted, "a job that has failed can be looked at"


def test_the_reason_outlives_the_pods_that_the_operator_deletes_with_the_failure(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    running_for(server, "epoch 1")

    def all_at_once() -> None:
        server.ends(139, message="Segmentation fault", reason="Error")
        server.runs()
        server.delete_pod()
        server.condition("Failed", "reached the specified backoff limit", replaces="Running")

    server.time.at(9, all_at_once)
    failed = failure_of(lambda: launcher(server).run(JOB))
    assert failed.failure.exit_code == 139
    assert "ended by SIGSEGV (exit code 139) after 1 restart" in str(failed)
    assert str(failed).endswith("\n  epoch 1")


def test_an_out_of_memory_kill_says_so_and_what_to_do(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")
    server.time.at(8, lambda: server.ends(1, message="connection closed by peer", phase="Failed"))
    server.time.at(9, lambda: server.ends(137, "worker", reason="OOMKilled", phase="Failed"))
    server.time.at(10, lambda: server.condition("Failed", "reached the specified backoff limit", replaces="Running"))
    failed = failure_of(lambda: launcher(server).run(TWO))
    assert (failed.failure.reason, failed.failure.exit_code) == ("OOMKilled", 137)
    assert "worker-0: was killed for using more memory than its limit (OOMKilled, exit code 137); raise the memory" in str(failed)


def test_an_eviction_names_the_node_and_what_was_short(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")
    server.time.at(8, lambda: server.evicted("The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi."))
    server.time.at(10, lambda: server.condition("Failed", "a pod failed", replaces="Running"))
    failed = failure_of(lambda: launcher(server).run(JOB))
    assert failed.failure.reason == "Evicted"
    assert "was evicted from node gpu-3: The node was low on resource: ephemeral-storage" in str(failed)


@pytest.mark.parametrize(("reason", "seconds"), [("ImagePullBackOff", 180), ("ErrImagePull", 180), ("InvalidImageName", 0)])
def test_an_image_that_cannot_be_pulled_is_named_with_the_words_of_the_registry(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str], reason: str, seconds: float
) -> None:
    server.time.at(2, server.create_pods)
    words = 'Back-off pulling image "registry.example/dino4cells:0.1.0": not found'
    server.time.at(4, lambda: server.waits(reason, words))
    failed = failure_of(lambda: launcher(server).run(JOB))
    assert failed.failure.reason == reason
    assert f"the image {IMAGE} cannot be pulled ({reason}: {words}); correct its name" in str(failed)
    assert seconds <= server.time.now < seconds + 30
    assert f"scheduling ({failed.failure.pod}: {reason})" in said(capsys.readouterr().out) or not seconds
    assert not server.jobs


def test_an_image_that_is_there_after_a_second_try_is_no_failure(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.time.at(2, server.create_pods)
    server.time.at(4, lambda: server.waits("ErrImagePull", "i/o timeout"))
    server.time.at(150, lambda: server.waits("ContainerCreating"))
    server.time.at(200, lambda: server.waits("ErrImagePull", "i/o timeout"))
    server.time.at(300, server.all_run)
    server.time.at(310, lambda: succeeds(server))
    launcher(server).run(JOB)


def test_the_image_that_prepares_a_worker_may_be_the_one_that_is_missing(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.time.at(2, server.create_pods)
    server.time.at(4, server.runs, lambda: server.waits("ImagePullBackOff", "no such host", "worker", container="init-pytorch"))
    failed = failure_of(lambda: launcher(server).run(TWO))
    assert "worker-0: the image alpine:3.10 cannot be pulled (ImagePullBackOff: no such host)" in str(failed)


def test_a_missing_secret_is_named(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.time.at(2, server.create_pods)
    server.time.at(4, lambda: server.waits("CreateContainerConfigError", 'secret "store" not found'))
    failed = failure_of(lambda: launcher(server).run(JOB))
    assert 'cannot start (CreateContainerConfigError: secret "store" not found); create what is missing' in str(failed)


def test_a_job_without_room_fails_with_the_words_of_the_scheduler(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    words = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    server.time.at(2, server.create_pods)
    server.time.at(4, lambda: server.unschedulable(words))
    failed = failure_of(lambda: launcher(server, scheduling=600).run(JOB))
    assert failed.failure.reason == "Unschedulable"
    assert "found no node within 10 minutes (0/3 nodes are available: 3 Insufficient nvidia.com/gpu); ask for less" in str(failed)
    assert 600 <= server.time.now < 620
    assert f"scheduling ({words})" in said(capsys.readouterr().out)
    assert not server.jobs


def test_pods_that_may_not_be_created_are_explained_by_the_events(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    name = job_name(JOB, "run-1")
    server.time.at(2, lambda: server.condition("Created"))
    server.warns("of another job", f"{name}x")
    server.time.at(5, lambda: server.warns('pods "x" is forbidden: exceeded quota: gpus', name))
    server.time.at(7, lambda: server.warns("0/3 nodes are available, as it was", f"{name}-master-0", "FailedScheduling"))
    failed = failure_of(lambda: launcher(server, scheduling=300).run(JOB))
    assert "0 of 1 pods ran within 5 minutes" in str(failed)
    assert "exceeded quota: gpus" in str(failed)
    assert 'scheduling (pods "x" is forbidden: exceeded quota: gpus)' in said(capsys.readouterr().out)


def test_events_that_may_not_be_read_are_done_without(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.forbidden.add(("list", "events"))
    server.time.at(2, server.create_pods)
    server.time.at(100, server.all_run)
    server.time.at(110, lambda: succeeds(server))
    launcher(server).run(JOB)


def test_a_job_that_someone_deletes_is_a_failure(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")
    server.time.at(9, lambda: server._delete_job(server.job))
    failed = failure_of(lambda: launcher(server).run(JOB))
    assert "was deleted by someone else" in str(failed)


def test_a_job_that_someone_replaces_is_a_failure_and_the_new_one_is_left_alone(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    running_for(server, "epoch 1")
    server.time.at(9, lambda: server.job["metadata"].update(uid="uid-of-another"))
    failed = failure_of(lambda: launcher(server, ended=10).run(JOB))
    assert "was deleted by someone else" in str(failed)
    assert server.job["metadata"]["uid"] == "uid-of-another"
    assert "could not be cleaned up" not in capsys.readouterr().out


# Limits of time


def test_a_job_that_no_operator_takes_notice_of_fails_after_about_a_minute(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = failure_of(lambda: launcher(server).run(JOB))
    assert str(failed) == (
        f"{job_name(JOB, 'run-1')}: no operator took notice of the job within 90 seconds; install the Training Operator (v1), "
        "or let it watch the namespace lab."
    )
    assert 60 <= server.time.now <= 120
    assert not server.jobs


def test_a_job_that_no_queue_admits_fails(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.time.at(2, lambda: server.condition("Suspended"))
    failed = failure_of(lambda: launcher(server, queued=600).run(QUEUED))
    assert "did not start within 10 minutes, since the queue biology has not admitted it" in str(failed)
    assert not server.jobs


def test_a_job_that_runs_for_too_long_fails(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")
    failed = failure_of(lambda: launcher(server, running=300).run(JOB))
    assert "ran for longer than 5 minutes" in str(failed)
    assert not server.pods


def test_a_job_that_does_not_come_up_again_fails_with_the_reason_of_the_crash(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    running_for(server, "epoch 1", "CUDA error: device-side assert")
    server.time.at(8, lambda: server.ends(1, again="CrashLoopBackOff"))
    failed = failure_of(lambda: launcher(server, restarting=240).run(JOB))
    assert "a process ended with exit code 1 (CrashLoopBackOff); its last lines say why." in str(failed)
    assert failed.failure.reason == "CrashLoopBackOff"
    assert str(failed).endswith("\n  epoch 1\n  CUDA error: device-side assert")
    assert server.time.now < 290
    assert not server.pods


def test_a_job_that_runs_and_says_nothing_fails(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")
    for when in range(20, 200, 50):
        server.time.at(when, lambda: server.writes("step"))
    failed = failure_of(lambda: launcher(server, stalled=120).run(JOB))
    assert failed.failure.reason == "Stalled"
    assert "has said nothing for 2 minutes although it runs" in str(failed)
    assert "\n  epoch 1\n  step" in str(failed)
    assert 290 <= server.time.now <= 296
    assert not server.pods


# The API


def test_errors_of_the_api_are_outlived(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server, "epoch 1", "epoch 2", "epoch 3", begin=10)
    for verb, resource in [("create", "pytorchjobs"), ("list", "pods"), ("get", "pytorchjobs"), ("get", "pods/log")]:
        server.fail(verb, resource, 2, 503)
    server.time.at(19, lambda: server.fail("watch", "pods", 3, 500), lambda: server.drop("get", "pytorchjobs", 2))
    server.time.at(22, lambda: server.fail("get", "pods", 2, 504), lambda: server.drop("watch", "pods", after=100))
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["epoch 1", "epoch 2", "epoch 3"]
    assert not server.faults


def test_a_lost_answer_to_the_request_that_creates_the_job_does_not_create_two(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.drop("create", "pytorchjobs")
    runs_through(server, "epoch 1")
    launcher(server).run(JOB)
    assert len(server.jobs) == 1
    assert server.asked("create", "pytorchjobs") == 2


def test_a_cluster_that_asks_to_wait_is_not_pressed(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server, begin=40)
    server.fail("create", "pytorchjobs", 1, 429, Retry_After="25")
    launcher(server).run(JOB)
    assert server.asked("create", "pytorchjobs") == 2
    assert server.job["metadata"]["creationTimestamp"] == "2026-01-01T12:00:25Z"
    assert "the cluster's API does not answer" not in capsys.readouterr().out


def test_a_watch_that_has_expired_begins_anew(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server, *[f"line {number}" for number in range(10)])
    for when in range(3, 40, 6):
        server.time.at(when, server.forget)
    launcher(server).run(JOB)
    assert server.asked("list", "pods") > 4
    assert logged(capsys.readouterr().out) == [f"line {number}" for number in range(10)]


def test_a_watch_that_ends_with_an_error_begins_anew(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server, "epoch 1")
    server.time.at(5, lambda: server.breaks_watch(410, "too old resource version"))
    server.time.at(9, lambda: server.breaks_watch(500, "etcdserver: request timed out"))
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["epoch 1"]


def test_a_cluster_that_stays_away_fails_the_step_and_says_that_the_job_may_run_on(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    running_for(server, "epoch 1")
    server.time.at(10, lambda: server.fail("*", "*", 1000, 503, "apiserver is shutting down"))
    with pytest.raises(ClusterUnreachable, match=r"did not answer for .* seconds"):
        launcher(server, unreachable=300).run(JOB)
    assert 290 <= server.time.now <= 400
    assert len(server.requests) < 60, "pauses grow"
    output = capsys.readouterr().out
    assert "the cluster's API does not answer (503" in output
    assert f"kubectl delete pytorchjob {job_name(JOB, 'run-1')} -n lab does it" in output


def test_a_cluster_that_is_not_there_is_said_to_refuse_connections(time: Time, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = KubernetesServer(time)
        nowhere.url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ClusterUnreachable, match=r"create pytorchjobs.kubeflow.org: .*refused"):
            launcher(nowhere, unreachable=60).run(JOB)


def test_the_kubeconfig_of_a_machine_leads_to_the_cluster(
    server: KubernetesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config"
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    with pytest.raises(ConfigError, match=r"none is configured .*; set KUBECONFIG, or run inside a cluster"):
        connect()
    file.write_text(
        f"""
current-context: lab
clusters: [{{name: lab, cluster: {{server: "{server.url}"}}}}]
users: [{{name: me, user: {{token: {server.token}}}}}]
contexts: [{{name: lab, context: {{cluster: lab, user: me}}}}]
"""
    )
    runs_through(server, "epoch 1")
    dataclasses.replace(launcher(server), connect=connect).run(JOB)
    assert logged(capsys.readouterr().out) == ["epoch 1"]


def test_a_token_that_has_changed_is_read_again(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server, "epoch 1", "epoch 2")
    server.time.at(9, lambda: setattr(server, "token", "second"))
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["epoch 1", "epoch 2"]


def test_a_token_that_the_cluster_does_not_know_is_no_reason_to_wait(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.fail("create", "pytorchjobs", 5, 401, "Unauthorized")
    with pytest.raises(ClusterError, match="does not know who asks"):
        launcher(server).run(JOB)
    assert server.time.now == 0


@pytest.mark.parametrize(
    ("verb", "resource", "named"),
    [
        ("create", "pytorchjobs", "create pytorchjobs.kubeflow.org"),
        ("list", "pods", "list pods"),
        ("watch", "pods", "watch pods"),
        ("get", "pods/log", "get pods/log"),
    ],
)
def test_a_missing_right_is_named_and_nothing_is_left_behind(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str], verb: str, resource: str, named: str
) -> None:
    running_for(server, "epoch 1")
    server.forbidden.add((verb, resource))
    with pytest.raises(ClusterError, match=f"this account may not {named} .*pipeline-runner.*kubectl auth can-i {named} -n lab"):
        launcher(server).run(JOB)
    assert not server.jobs


def test_a_cluster_without_the_operator_is_told_from_one_without_the_job(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.knows_jobs = False
    with pytest.raises(ClusterError, match=r"knows no pytorchjobs.kubeflow.org; install the Training Operator"):
        launcher(server).run(JOB)


def test_the_words_of_the_webhook_are_passed_on(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.refuses = "spec.pytorchReplicaSpecs[Master].replicas: must be 1"
    with pytest.raises(
        ClusterError, match=r"refuses to create .*denied the request: spec.pytorchReplicaSpecs\[Master\].replicas: must be 1"
    ):
        launcher(server).run(JOB)


# A job that is there already


def killed(server: KubernetesServer, when: float, settings: LauncherSettings = SETTINGS) -> None:
    """Run a launcher that is killed without a chance to clean up."""

    class Kill(BaseException): ...

    def kill() -> None:
        server.faults.clear()
        server.forbidden.update({("delete", "pytorchjobs")})
        raise Kill

    server.time.at(when, kill)
    with pytest.raises(Kill):
        launcher(server, settings).run(JOB)
    server.forbidden.clear()


def test_a_step_that_is_tried_again_takes_its_job_over(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server, "epoch 1", "epoch 2", "epoch 3", "epoch 4")
    killed(server, 13, dataclasses.replace(SETTINGS, pod=LauncherPod("step-1", "uid-of-step-1")))
    uid = server.job["metadata"]["uid"]
    capsys.readouterr()
    launcher(server, dataclasses.replace(SETTINGS, pod=LauncherPod("step-2", "uid-of-step-2"))).run(JOB)
    output = capsys.readouterr().out
    assert said(output)[:2] == ["is there already with the same specification; taken over", "its log follows from the beginning"]
    assert logged(output) == ["epoch 1", "epoch 2", "epoch 3", "epoch 4"]
    assert server.job["metadata"]["uid"] == uid
    assert [owner["name"] for owner in server.job["metadata"]["ownerReferences"]] == ["step-2"]


def test_a_job_that_succeeded_meanwhile_is_taken_over_as_well(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    runs_through(server, "epoch 1")
    killed(server, 9)
    server.time.sleep(100)
    capsys.readouterr()
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["epoch 1"]
    assert not server.deleted


def test_a_job_that_failed_before_is_replaced(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")
    server.time.at(8, lambda: server.ends(1, phase="Failed"), lambda: server.condition("Failed", replaces="Running"))
    failure_of(lambda: launcher(server).run(JOB))
    uid = server.job["metadata"]["uid"]
    runs_through(server, "resumed", begin=server.time.now + 2)
    capsys.readouterr()
    launcher(server).run(JOB)
    assert server.job["metadata"]["uid"] != uid
    assert logged(capsys.readouterr().out) == ["resumed"]


def test_the_pods_that_an_earlier_job_left_behind_do_not_count(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.slow_to_collect = True
    running_for(server, "old")
    server.time.at(8, lambda: server.ends(1, message="error: old: a mistake; mend it.", phase="Failed"))
    failure_of(lambda: launcher(server, ended=10).run(JOB))
    assert server.pods
    server.time.at(server.time.now + 6, server.collect_garbage)
    runs_through(server, "new", begin=server.time.now + 8)
    capsys.readouterr()
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["new"]


def test_outside_of_a_run_a_job_that_succeeded_is_run_again(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    alone = dataclasses.replace(SETTINGS, run="")
    runs_through(server, "first")
    launcher(server, alone).run(JOB)
    runs_through(server, "second", begin=server.time.now + 2)
    launcher(server, alone).run(JOB)
    assert len(server.deleted) == 1
    assert capsys.readouterr().out.count("second") == 1


def test_another_job_of_the_same_name_is_refused_and_left_alone(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    killed(server, 1)
    server.job["metadata"]["annotations"]["dino4cells.org/specification"] = "0" * 64
    name = job_name(JOB, "run-1")
    with pytest.raises(ConfigError) as refused:
        launcher(server).run(JOB)
    assert str(refused.value) == (
        f"job {name}: namespace lab has another job of this name; delete it (kubectl delete pytorchjob {name} -n lab) "
        "or give this one another name."
    )
    assert server.jobs


def test_a_job_that_is_being_deleted_is_waited_for(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    killed(server, 1)
    server.job["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    server.time.at(10, server.jobs.clear)
    runs_through(server, "anew", begin=20)
    launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["anew"]


def test_another_run_has_a_job_of_its_own(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    killed(server, 1)
    server.jobs.clear()
    other = dataclasses.replace(SETTINGS, run="run-2")
    runs_through(server, begin=4)
    launcher(server, other).run(JOB)
    assert list(server.jobs) == [job_name(JOB, "run-2")]
    assert job_name(JOB, "run-2") != job_name(JOB, "run-1")


# Cleaning up


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_launcher_that_is_asked_to_stop_deletes_the_job_by_its_next_request(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    asked: list[int] = []
    running_for(server, "epoch 1")
    server.time.at(9.5, lambda: asked.append(len(server.requests)), lambda: os.kill(os.getpid(), number))
    with pytest.raises(JobFailed, match=f"was stopped by {number.name} and deleted"):
        launcher(server).run(JOB)
    assert not server.jobs
    assert not server.pods
    assert server.requests[asked[0]][:2] == ("delete", "pytorchjobs")
    assert signal.getsignal(number) is before


def test_the_end_of_the_log_is_read_after_that_where_pods_still_answer(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.slow_to_collect = True
    running_for(server, "epoch 1")
    server.time.at(9.5, lambda: server.writes("epoch 2"), lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(JobFailed, match="was stopped by SIGTERM and deleted"):
        launcher(server).run(JOB)
    assert server.deleted
    assert logged(capsys.readouterr().out) == ["epoch 1", "epoch 2"]


def test_a_launcher_that_fails_reads_the_log_before_it_deletes_the_job(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    running_for(server, "epoch 1")
    server.time.at(9.5, lambda: server.writes("epoch 2"), lambda: server.forbidden.add(("watch", "pods")))
    with pytest.raises(ClusterError, match="may not watch pods"):
        launcher(server).run(JOB)
    assert logged(capsys.readouterr().out) == ["epoch 1", "epoch 2"]
    assert server.requests[-1][:2] == ("delete", "pytorchjobs")


def test_a_second_signal_does_not_interrupt_the_cleaning_up(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")
    server.time.at(9.5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    server.time.at(9, lambda: server.fail("delete", "pytorchjobs", 2, 503))
    server.time.at(10, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(JobFailed, match="was stopped by SIGTERM"):
        launcher(server).run(JOB)
    assert not server.jobs


def test_a_signal_while_the_job_is_being_created_leaves_none(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.drop("create", "pytorchjobs")
    server.time.at(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(JobFailed, match="was stopped by SIGTERM"):
        launcher(server).run(JOB)
    assert server.deleted


def test_a_bug_leaves_no_job(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")

    def bug() -> None:
        raise ZeroDivisionError

    server.time.at(9, bug)
    with pytest.raises(ZeroDivisionError):
        launcher(server).run(JOB)
    assert not server.jobs


def test_the_job_goes_with_the_pod_of_its_launcher(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")
    killed(server, 9, dataclasses.replace(SETTINGS, pod=LauncherPod("step", "uid-of-step")))
    assert server.job["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Pod", "name": "step", "uid": "uid-of-step"}]
    server.delete_owner("uid-of-step")
    assert not server.pods


def test_a_failed_clean_up_is_said_with_the_command_that_does_it(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> None:
    running_for(server, "epoch 1")
    server.forbidden.add(("delete", "pytorchjobs"))
    failure_of(lambda: launcher(server, running=60).run(JOB))
    name = job_name(JOB, "run-1")
    assert "could not be cleaned up (namespace lab: this account may not delete pytorchjobs.kubeflow.org" in capsys.readouterr().out
    assert name in server.jobs


# The sign of life


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints-of-model" / "launcher"


def signed(place: Path) -> LauncherSettings:
    return dataclasses.replace(SETTINGS, sign=str(place))


def seen_at(server: KubernetesServer, place: Path, *when: float) -> list[str]:
    """What the sign says at these times, from when they come."""
    seen: list[str] = []
    for moment in when:
        server.time.at(moment, lambda: seen.append(place.read_text()))
    return seen


def test_a_launcher_gives_a_sign_once_a_minute_and_takes_it_away_at_the_end(
    server: KubernetesServer, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.parent.mkdir()
    place.write_text(ABANDONED)  # by the job of a launcher before
    seen = seen_at(server, place, 1, 50, 70, 130)
    runs_through(server, *[f"epoch {number}" for number in range(50)])
    launcher(server, signed(place)).run(JOB)
    assert ABANDONED not in seen
    assert seen[0] == seen[1]
    assert len(set(seen)) == 3
    assert not place.exists()
    (container,) = server.job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"]
    assert {"name": LAUNCHER_SIGN, "value": str(place)} in container["env"]


def test_a_launcher_that_waits_for_the_clusters_api_goes_on_giving_it(
    server: KubernetesServer, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running_for(server, "epoch 1")
    server.time.at(10, lambda: server.fail("*", "*", 1000, 503, "apiserver is shutting down"))
    seen = seen_at(server, place, *range(20, 800, 120))
    with pytest.raises(ClusterUnreachable):
        launcher(server, signed(place)).run(JOB)
    assert len(set(seen)) == len(seen) == 7
    assert place.exists(), "the job, which could not be deleted, finds that it has ended"


def test_the_next_launcher_takes_the_job_over_with_its_sign(
    server: KubernetesServer, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs_through(server, "epoch 1", "epoch 2", "epoch 3", "epoch 4")
    killed(server, 13, signed(place))
    place.write_text(ABANDONED)
    uid, seen = server.job["metadata"]["uid"], seen_at(server, place, server.time.now + 1)
    launcher(server, signed(place)).run(JOB)
    assert server.job["metadata"]["uid"] == uid
    assert seen != [ABANDONED]
    assert not place.exists()


@pytest.mark.parametrize("deleted", [True, False])
def test_a_stopped_launcher_leaves_its_sign_to_a_job_that_it_could_not_delete(
    server: KubernetesServer, place: Path, capsys: pytest.CaptureFixture[str], deleted: bool
) -> None:
    running_for(server, "epoch 1")
    if not deleted:
        server.forbidden.add(("delete", "pytorchjobs"))
    server.time.at(9.5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(JobFailed):
        launcher(server, signed(place)).run(JOB)
    assert place.exists() is not deleted


def test_a_sign_that_cannot_be_written_is_said_once_and_fails_nothing(
    server: KubernetesServer, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.parent.touch()
    runs_through(server, *[f"epoch {number}" for number in range(50)])
    launcher(server, signed(place)).run(JOB)
    output = capsys.readouterr().out
    assert output.count("cannot give the job a sign of life") == 1
    assert output.endswith("succeeded\n")


def test_a_job_that_nobody_follows_looks_for_no_sign(server: KubernetesServer, place: Path) -> None:
    launcher(server, signed(place)).submit(JOB)
    assert LAUNCHER_SIGN not in str(server.job)
    assert not place.exists()


def test_the_limits_are_named_for_every_state() -> None:
    assert all(limit > 0 for limit in dataclasses.astuple(Limits()))
