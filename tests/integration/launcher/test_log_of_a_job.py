"""The job's log in the log of its launcher: all of it, once, in order, while it runs."""

from __future__ import annotations

import pytest
from kubernetes_server import KubernetesServer
from launched import JOB, TWO, launcher, logged, runs_through, said, succeeds

from dino4cells.cluster.names import job_name


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
