"""In which state a job is and why it fails: a table of jobs and pods as a cluster shows them."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dino4cells.cluster import entry
from dino4cells.cluster.failures import crash_of, duration, mistake_of, obstacle_of, of_failed_job, out_of_time, own_words, stalled
from dino4cells.cluster.job import JobSpec, Placement
from dino4cells.cluster.logs import LogCursor
from dino4cells.cluster.objects import Job, Pod, job_from, pod_from, rank_zero
from dino4cells.cluster.pytorchjob import render
from dino4cells.cluster.reason import REASON_FILE
from dino4cells.cluster.states import Limits, State, observe
from dino4cells.errors import DataError, StoreUnavailable

Object = dict[str, Any]
SPEC = JobSpec("train", "dino4cells.training", image="registry.example/dino4cells:0.1.0", nodes=2)
IMAGE = SPEC.image
ROOT_CAUSE = "Root Cause (first observed failure):\n[0]:\n  rank      : 1 (local_rank: 1)\n  exitcode  : {} (pid: 9)\n  error_file: <N/A>"


def job(*conditions: str, spec: JobSpec = SPEC, suspend: bool = False, message: str = "") -> Job:
    """A job whose last condition holds, and those before it that it does not end."""
    manifest = render(spec, "lab", name="train-1")
    manifest["metadata"]["uid"] = "uid-job"
    manifest["spec"]["runPolicy"]["suspend"] = suspend
    ended = {"Running": "Restarting", "Restarting": "Running", "Succeeded": "Running", "Failed": "Running"}
    holds = {kind: "True" for kind in conditions}
    if conditions and conditions[-1] in ended and ended[conditions[-1]] in holds:
        holds[ended[conditions[-1]]] = "False"
    status = [{"type": kind, "status": value, "reason": f"PyTorchJob{kind}", "message": message} for kind, value in holds.items()]
    return job_from({**manifest, "status": {"conditions": status}} if status else manifest)


def pod(role: str, index: int = 0, phase: str = "Running", *, deleting: bool = False, init: Object | None = None, **status: Any) -> Pod:
    labels = {
        "training.kubeflow.org/job-name": "train-1",
        "training.kubeflow.org/replica-type": role,
        "training.kubeflow.org/replica-index": str(index),
    }
    metadata = {"name": f"train-1-{role}-{index}", "uid": f"uid-{role}-{index}", "labels": labels}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    spec = {
        "nodeName": "gpu-3",
        "containers": [{"name": "pytorch", "image": IMAGE}],
        "initContainers": [{"name": "init-pytorch", "image": "alpine:3.10"}],
    }
    if init:
        status["initContainerStatuses"] = [init]
    return pod_from({"metadata": metadata, "spec": spec, "status": {"phase": phase, **status}})


def container(name: str = "pytorch", restarts: int = 0, last: Object | None = None, **state: Any) -> Object:
    identifier = {"containerID": f"containerd://{name}-{restarts}"} if "waiting" not in state else {}
    last_state = {"terminated": last} if last else {}
    return {"name": name, "restartCount": restarts, "state": state, "lastState": last_state, **identifier}


def ended(code: int, reason: str = "", message: str = "", at: str = "12:00:00", number: int = 0) -> Object:
    return {
        "exitCode": code,
        "reason": reason or ("Completed" if code == 0 else "Error"),
        "message": message,
        "finishedAt": f"2026-01-01T{at}Z",
        "containerID": f"containerd://pytorch-{number}",
    }


def up(role: str, index: int = 0, **options: Any) -> Pod:
    return pod(role, index, containerStatuses=[container(running={"startedAt": "2026-01-01T12:00:00Z"}, **options)])


def waits(role: str, reason: str, message: str = "", index: int = 0, **options: Any) -> Pod:
    status = container(waiting={"reason": reason, "message": message}, **options)
    return pod(role, index, "Running" if options else "Pending", containerStatuses=[status])


def crashed(role: str, code: int, reason: str = "", message: str = "", at: str = "12:00:00", **options: Any) -> Pod:
    return pod(role, phase="Failed", containerStatuses=[container(terminated=ended(code, reason, message, at))], **options)


WORDS = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
NO_ROOM = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": WORDS}
QUEUED = dataclasses.replace(SPEC, placement=Placement(queue="biology"))
ELASTIC = dataclasses.replace(SPEC, nodes=4, min_nodes=2)
NEW, RAN = State.SUBMITTED, State.RUNNING

STATES = {
    "just created": (job(), [], NEW, State.SUBMITTED, ""),
    "suspended, but by nobody seen": (job(spec=QUEUED, suspend=True), [], NEW, State.SUBMITTED, ""),
    "in a queue": (job("Created", "Suspended", spec=QUEUED, suspend=True), [], NEW, State.QUEUED, "in queue biology"),
    "suspended by hand": (job("Created", suspend=True), [up("master")], RAN, State.QUEUED, "suspended"),
    "no pods yet": (job("Created"), [], NEW, State.SCHEDULING, "0 of 2 pods up"),
    "no room": (job("Created"), [pod("master", phase="Pending", conditions=[NO_ROOM])], NEW, State.SCHEDULING, WORDS),
    "image of the master": (
        job("Created"),
        [waits("master", "ImagePullBackOff"), pod("worker", phase="Pending")],
        NEW,
        State.SCHEDULING,
        "train-1-master-0: ImagePullBackOff",
    ),
    "image of the worker's first container": (
        job("Created", "Running"),
        [up("master"), pod("worker", phase="Pending", init=container("init-pytorch", waiting={"reason": "ErrImagePull"}))],
        NEW,
        State.SCHEDULING,
        "train-1-worker-0: ErrImagePull",
    ),
    "master alone": (
        job("Created", "Running"),
        [up("master"), waits("worker", "PodInitializing")],
        NEW,
        State.SCHEDULING,
        "1 of 2 pods up",
    ),
    "all run": (job("Created", "Running"), [up("master"), up("worker")], NEW, State.RUNNING, "2 pods"),
    "a worker is done before the master": (
        job("Created", "Running"),
        [up("master"), pod("worker", phase="Succeeded", containerStatuses=[container(terminated=ended(0))])],
        RAN,
        State.RUNNING,
        "2 pods",
    ),
    "worker in a crash loop, the job itself is called running": (
        job("Created", "Running"),
        [up("master"), waits("worker", "CrashLoopBackOff", last=ended(1))],
        RAN,
        State.RESTARTING,
        "train-1-worker-0: exit code 1",
    ),
    "killed for its memory": (
        job("Created", "Restarting"),
        [waits("master", "CrashLoopBackOff", last=ended(137, "OOMKilled")), up("worker")],
        RAN,
        State.RESTARTING,
        "train-1-master-0: OOMKilled with exit code 137",
    ),
    "evicted": (
        job("Created", "Running"),
        [pod("master", phase="Failed", reason="Evicted", message="low on memory"), up("worker")],
        RAN,
        State.RESTARTING,
        "train-1-master-0: Evicted",
    ),
    "runs again after a crash": (
        job("Created", "Running"),
        [up("master", restarts=1, last=ended(1)), up("worker")],
        RAN,
        State.RUNNING,
        "2 pods",
    ),
    "operator has not noticed yet that it runs again": (
        job("Created", "Restarting"),
        [up("master", restarts=1, last=ended(1)), up("worker")],
        State.RESTARTING,
        State.RUNNING,
        "2 pods",
    ),
    "a pod was deleted and is made anew": (
        job("Created", "Running"),
        [up("master"), waits("worker", "ContainerCreating")],
        RAN,
        State.RESTARTING,
        "1 of 2 pods up",
    ),
    "a pod is being deleted": (
        job("Created", "Running"),
        [up("master"), dataclasses.replace(up("worker"), deleting=True)],
        RAN,
        State.RESTARTING,
        "1 of 2 pods up",
    ),
    "elastic with as few as it may": (
        job("Created", "Running", spec=ELASTIC),
        [up("worker", 0), up("worker", 2), pod("worker", 1, "Pending")],
        NEW,
        State.RUNNING,
        "2 pods",
    ),
    "elastic with too few": (job("Created", "Running", spec=ELASTIC), [up("worker", 0)], NEW, State.SCHEDULING, "1 of 2 pods up"),
    "succeeded": (job("Created", "Running", "Succeeded"), [up("worker")], RAN, State.SUCCEEDED, ""),
    "failed": (job("Created", "Running", "Failed", message="reached the limit"), [], RAN, State.FAILED, "reached the limit"),
}


@pytest.mark.parametrize(("seen", "pods", "before", "state", "detail"), STATES.values(), ids=STATES)
def test_a_job_is_in_the_state_that_a_person_would_say(seen: Job, pods: list[Pod], before: State, state: State, detail: str) -> None:
    observation = observe(seen, pods, before)
    assert (observation.state, observation.detail) == (state, detail)


OWN = "error: cells.csv, row 3: the file a.tif is missing; correct the path.\n"
AWAY = "unavailable: s3://lab/a.tif: http://store:9000 does not answer (EndpointConnectionError); check the network and AWS_ENDPOINT_URL."
CRASHES = {
    "a store that was away": (
        [up("master", restarts=3, last=ended(1, message=AWAY)), up("worker")],
        ("train-1-master-0", "StoreUnavailable", 75),
        f"its store was away after 3 restarts: {AWAY.removeprefix('unavailable: ')}",
    ),
    "the first of two": (
        [crashed("master", 1, message="connection reset", at="12:00:09"), crashed("worker", 1, message="ValueError", at="12:00:05")],
        ("train-1-worker-0", "Error", 1),
        "a process ended with exit code 1; its last lines say why.",
    ),
    "out of memory, though another one ended before it": (
        [crashed("master", 1, at="12:00:01"), crashed("worker", 137, "OOMKilled", at="12:00:05")],
        ("train-1-worker-0", "OOMKilled", 137),
        "was killed for using more memory than its limit (OOMKilled, exit code 137); raise the memory",
    ),
    "one process of several was killed": (
        [crashed("master", 1, message=ROOT_CAUSE.format(-9))],
        ("train-1-master-0", "Error", -9),
        "a process was killed (exit code -9), most often for want of memory",
    ),
    "a signal": (
        [crashed("master", 1, message=ROOT_CAUSE.format(-11))],
        ("train-1-master-0", "Error", -11),
        "a process ended by SIGSEGV (exit code -11)",
    ),
    "a pod that the cluster stopped is not the one that failed": (
        [crashed("master", 143, at="12:00:01", deleting=True), crashed("worker", 3, at="12:00:05")],
        ("train-1-worker-0", "Error", 3),
        "a process ended with exit code 3",
    ),
    "a crash loop": (
        [waits("master", "CrashLoopBackOff", restarts=4, last=ended(1)), up("worker")],
        ("train-1-master-0", "CrashLoopBackOff", 1),
        "with exit code 1 after 4 restarts (CrashLoopBackOff)",
    ),
    "crashed before and runs again": (
        [up("master", restarts=1, last=ended(7)), up("worker")],
        ("train-1-master-0", "Error", 7),
        "with exit code 7 after 1 restart",
    ),
    "evicted": (
        [pod("worker", phase="Failed", reason="Evicted", message="The node was low on resource: memory. ")],
        ("train-1-worker-0", "Evicted", None),
        "was evicted from node gpu-3: The node was low on resource: memory; run it again",
    ),
    "a broken device": (
        [pod("worker", phase="Failed", reason="UnexpectedAdmissionError", message="no healthy devices present")],
        ("train-1-worker-0", "UnexpectedAdmissionError", None),
        "was ended (UnexpectedAdmissionError) from node gpu-3: no healthy devices present",
    ),
}


@pytest.mark.parametrize(("pods", "facts", "sentence"), CRASHES.values(), ids=CRASHES)
def test_the_pod_that_failed_first_is_named_with_its_reason(pods: list[Pod], facts: tuple[str, str, int | None], sentence: str) -> None:
    failure = crash_of(pods)
    assert failure is not None
    assert (failure.pod, failure.reason, failure.exit_code) == facts
    assert sentence in failure.sentence
    assert failure.sentence.startswith(f"{failure.pod}: ")


def test_pods_that_run_have_not_crashed() -> None:
    assert crash_of([up("master"), pod("worker", phase="Pending")]) is None


def test_a_job_that_left_no_pod_fails_with_the_words_of_the_operator() -> None:
    failure = of_failed_job(job("Created", "Failed", message="it has reached the specified backoff limit"), [])
    assert "(it has reached the specified backoff limit)" in failure.sentence


@pytest.mark.parametrize(
    ("pods", "sentence", "code"),
    [
        ([up("master"), crashed("worker", 1, message=OWN)], OWN.removeprefix("error: ").strip(), 2),
        ([up("master", restarts=1, last=ended(1, message=OWN))], OWN.removeprefix("error: ").strip(), 2),
        ([crashed("master", 2, message="usage: torchrun")], "ended with exit code 2", 2),
        ([crashed("master", 1, message=f"unrecognized arguments\n{ROOT_CAUSE.format(2)}")], "ended with exit code 2", 2),
    ],
)
def test_a_mistake_is_known_by_the_sentence_or_the_exit_code_of_the_process(pods: list[Pod], sentence: str, code: int) -> None:
    failure = mistake_of(pods)
    assert failure is not None
    assert sentence in str(failure)
    assert failure.exit_code == code


def test_the_sentence_is_that_which_a_process_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "termination-log"
    file.touch()
    monkeypatch.setattr(entry, "TERMINATION_LOG", file)
    monkeypatch.delenv(REASON_FILE, raising=False)
    with pytest.raises(SystemExit), entry.process_of_a_job():
        raise DataError("cells.csv: the table has no rows; it needs one row a cell.")
    failure = mistake_of([crashed("master", 1, message=file.read_text())])
    assert str(failure) == "cells.csv: the table has no rows; it needs one row a cell."


def test_an_outage_of_the_store_is_no_mistake_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "termination-log"
    file.touch()
    monkeypatch.setattr(entry, "TERMINATION_LOG", file)
    monkeypatch.delenv(REASON_FILE, raising=False)
    with pytest.raises(SystemExit) as stop, entry.process_of_a_job():
        raise StoreUnavailable("s3://lab/a.tif: http://store:9000 does not answer (ReadTimeoutError); check the network and its address.")
    assert stop.value.code == os.EX_TEMPFAIL
    pods = [crashed("master", 1, message=file.read_text())]
    assert mistake_of(pods) is None
    failure = crash_of(pods)
    assert failure is not None
    assert "its store was away: s3://lab/a.tif: http://store:9000 does not answer" in str(failure)


@pytest.mark.parametrize(
    "pods",
    [
        [up("master"), crashed("worker", 1, message="error: of the log\nTraceback (most recent call last):\n")],
        [crashed("worker", 1, message=ROOT_CAUSE.format(1))],
        [crashed("worker", 137, "OOMKilled")],
        [crashed("worker", 0, message=OWN)],
        [pod("worker", phase="Pending")],
    ],
)
def test_anything_else_is_tried_again(pods: list[Pod]) -> None:
    assert mistake_of(pods) is None


def test_an_obstacle_is_the_image_or_what_the_container_needs() -> None:
    for reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"):
        failure = obstacle_of([up("master"), waits("worker", reason, "not there")])
        assert failure is not None
        assert failure.reason == reason
        assert "not there" in failure.sentence
    for reason in ("ContainerCreating", "PodInitializing", "CrashLoopBackOff"):
        assert obstacle_of([waits("master", reason)]) is None


TIMES = {
    State.SUBMITTED: (job(), [], "no operator took notice of the job within 90 seconds"),
    State.QUEUED: (job("Suspended", spec=QUEUED), [], "did not start within 7 days, since the queue biology has not admitted it"),
    State.SCHEDULING: (job("Created"), [pod("master", phase="Pending", conditions=[NO_ROOM])], f"within 1 hour ({WORDS.rstrip('.')})"),
    State.RUNNING: (job("Running"), [up("master")], "ran for longer than 14 days"),
    State.RESTARTING: (job("Restarting"), [crashed("master", 1)], "a process ended with exit code 1"),
}


@pytest.mark.parametrize("state", TIMES)
def test_a_state_that_lasts_too_long_is_explained(state: State) -> None:
    seen, pods, sentence = TIMES[state]
    assert sentence in str(out_of_time(state, seen, pods, Limits(), "lab"))


def test_a_job_that_is_not_scheduled_in_time_names_the_image_rather_than_the_time() -> None:
    failure = out_of_time(State.SCHEDULING, job("Created"), [waits("master", "ErrImagePull", "i/o timeout")], Limits(), "lab")
    assert failure.reason == "ErrImagePull"


def test_pods_that_do_not_come_up_again_are_counted() -> None:
    failure = out_of_time(State.RESTARTING, job("Running"), [up("master"), pod("worker", phase="Pending")], Limits(), "lab", "FailedMount")
    assert "only 1 of 2 pods ran within 30 minutes (FailedMount)" in failure.sentence
    assert failure.pod == "train-1-worker-0"


def test_each_state_has_its_own_limit() -> None:
    limits = Limits(1, 2, 3, 4, 5, ended=math.inf)
    assert [limits.of(state) for state in State] == [1, 2, 3, 4, 5, math.inf, math.inf]


def test_a_stalled_job_shows_the_last_lines() -> None:
    assert str(stalled(job("Running"), up("master"), Limits(stalled=90), ["epoch 1"])).endswith("train-1-master-0:\n  epoch 1")


def test_only_a_job_without_a_master_is_led_by_a_worker() -> None:
    assert rank_zero(job("Created"), [up("worker")]) is None
    assert rank_zero(job("Created"), [up("worker"), up("master")]) == up("master")
    assert rank_zero(job("Created", spec=ELASTIC), [up("worker", 1), up("worker", 0)]) == up("worker", 0)


def test_a_process_has_its_own_last_words_and_not_those_of_torchrun() -> None:
    warning = "W0101 12:00:00.000000 7 torch/distributed/run.py:774] a warning"
    account = ["E0101 12:00:09.000000 7 torch/distributed/elastic/multiprocessing/api.py:9] failed", "Traceback", "ChildFailedError"]
    assert own_words(["one", warning, "two", "three", *account], 2) == ("two", "three")
    assert own_words(account, 2) == ("Traceback", "ChildFailedError")
    assert own_words([], 2) == ()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "1 second"),
        (60, "1 minute"),
        (90, "90 seconds"),
        (1800, "30 minutes"),
        (5400, "90 minutes"),
        (86400, "1 day"),
        (604800, "7 days"),
    ],
)
def test_times_are_said_in_a_unit_that_suits_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.data())
def test_whatever_is_cut_off_and_asked_for_again_each_line_is_taken_once(data: st.DataObject) -> None:
    """Lines with equal times and texts, some a little out of order; answers that begin at whole seconds and end anywhere."""
    steps = data.draw(st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 900), st.sampled_from("ab")), max_size=25))
    now, log = 1_000_000, []
    for step, late, text in steps:
        now += step
        moment = now - late
        log.append((moment, f"1970-01-01T00:{moment // 60_000:02d}:{moment // 1000 % 60:02d}.{moment % 1000:03d}000000Z {text}"))
    cursor, taken, written = LogCursor(), [], 0
    for last in [False] * data.draw(st.integers(0, 8)) + [True]:
        written = len(log) if last else data.draw(st.integers(written, len(log)))
        since = cursor.since
        begin = int(since[14:16]) * 60 + int(since[17:19]) if since else 0
        answer = [line for moment, line in log[:written] if moment // 1000 >= begin]
        taken += cursor.take(answer if last else answer[: data.draw(st.integers(0, len(answer)))])
    assert taken == [line.rpartition(" ")[2] for _, line in log]


def test_an_answer_that_begins_earlier_than_asked_repeats_nothing() -> None:
    lines = [f"2026-01-01T12:00:{second:02d}.5Z line {second}" for second in range(20)]
    cursor = LogCursor()
    assert len(cursor.take(lines[:10])) == 10
    assert cursor.take(lines) == [f"line {second}" for second in range(10, 20)]


def test_what_the_cluster_says_into_a_log_is_shown_once() -> None:
    cursor = LogCursor()
    problem = "unable to retrieve container logs for containerd://x"
    assert cursor.take(["2026-01-01T12:00:00.5Z one", problem]) == ["one", problem]
    assert cursor.take(["2026-01-01T12:00:09.5+00:00 two", problem]) == ["two"]
    assert cursor.since == "2026-01-01T12:00:08Z"
