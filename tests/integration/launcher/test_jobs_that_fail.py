"""What a person reads when a job fails: the sentence, the pod, the reason, the last lines."""

from __future__ import annotations

import pytest
from kubernetes_server import KubernetesServer
from launched import IMAGE, JOB, TWO, failure_of, launcher, running_for, said, succeeds

from dino4cells.cluster.names import job_name

TORCHRUN = """E0101 12:00:09.000000 7 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: {code}) local_rank: 0
Traceback (most recent call last):
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
Root Cause (first observed failure):
[0]:
  rank      : 0 (local_rank: 0)
  exitcode  : {code} (pid: 12)
  error_file: <N/A>"""


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
