"""`dino4cells pipeline submit` by the SDK's own client, against Kubeflow Pipelines' API over HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pipelines_server import PipelinesServer, pipelines_server

from dino4cells import storage
from dino4cells.errors import ConfigError, JobFailed
from dino4cells.events import text_of
from dino4cells.pipelines.arguments import data_version, pairs_of, parameters_of
from dino4cells.pipelines.remote import Pipelines, PipelinesError, Run, follow

Command = Callable[..., Any]  # the fixture `dino4cells` of conftest
VARIABLES = ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT", "KF_PIPELINES_TOKEN", "KF_PIPELINES_COOKIE", "KUBERNETES_SERVICE_HOST")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PipelinesServer]:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # The SDK keeps a namespace and cookies of a person's own in a file.
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    with pipelines_server() as running:
        yield running


@pytest.fixture
def submit(server: PipelinesServer, dino4cells: Command) -> Command:
    return lambda *words: dino4cells("pipeline", "submit", "--endpoint", server.url, *words)


# Starting


def test_a_run_is_started_with_its_parameters_and_its_address_printed(server: PipelinesServer, submit: Command) -> None:
    done = submit("--epochs", "20", "group=plate", "baselines=false", "--experiment", "plates", "--run-name", "first")
    assert (done.code, done.out, done.err) == (0, f"run run-1\n{server.url}/#/runs/details/run-1\n", "")
    run = server.runs["run-1"]
    assert run["runtime_config"]["parameters"] == {"epochs": 20, "group": "plate", "baselines": False}
    assert (run["display_name"], run["experiment_id"]) == ("first", server.experiments["plates"]["experiment_id"])
    spec = run["pipeline_spec"].get("pipeline_spec", run["pipeline_spec"])
    assert spec["pipelineInfo"]["name"] == "dino4cells"
    assert {"train", "extract", "classify"} <= set(spec["root"]["dag"]["tasks"])


def test_runs_of_one_experiment_belong_together(server: PipelinesServer, submit: Command) -> None:
    for _ in range(2):
        assert submit().code == 0
    assert list(server.experiments) == ["dino4cells"]
    assert re.fullmatch(r"dino4cells \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", server.runs["run-1"]["display_name"])


@pytest.mark.parametrize(("option", "cached"), [("--caching", {True}), ("--no-caching", {False, None})])
def test_caching_is_switched_for_every_step(server: PipelinesServer, submit: Command, option: str, cached: set[bool | None]) -> None:
    submit(option)
    spec = server.runs["run-1"]["pipeline_spec"]
    tasks = spec.get("pipeline_spec", spec)["root"]["dag"]["tasks"].values()
    assert {task.get("cachingOptions", {}).get("enableCache") for task in tasks} <= cached


def test_account_and_root_are_handed_on(server: PipelinesServer, submit: Command) -> None:
    submit("--service-account", "dino4cells-launcher", "--pipeline-root", "s3://lab/runs")
    run = server.runs["run-1"]
    assert (run["service_account"], run["runtime_config"]["pipeline_root"]) == ("dino4cells-launcher", "s3://lab/runs")


def test_the_address_may_be_that_of_another_ui(server: PipelinesServer, submit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example/pipeline/")
    assert submit().out.splitlines()[1] == "https://kubeflow.example/pipeline/#/runs/details/run-1"


def test_an_installation_of_several_users_needs_a_namespace_and_one_of_a_single_user_none(server: PipelinesServer, submit: Command) -> None:
    assert submit("--namespace", "anybody").code == 0
    server.multi_user = True
    refused = submit()
    assert refused.code == 2
    assert "error: --namespace: is not given, and several users share" in refused.err
    server.experiments.clear()
    assert submit("--namespace", "biology").code == 0
    assert server.experiments["dino4cells"]["namespace"] == "biology"


# Who asks


@pytest.mark.parametrize("way", ["file", "variable"])
def test_a_token_is_handed_over_and_never_shown(
    server: PipelinesServer, submit: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    server.token = "a-very-secret-token"
    refused = submit()
    assert refused.code == 2
    assert "does not let this account in (401" in refused.err
    (tmp_path / "token").write_text("a-very-secret-token\n")
    if way == "variable":
        monkeypatch.setenv("KF_PIPELINES_TOKEN", "a-very-secret-token")
    done = submit(*(("--token-file", tmp_path / "token") if way == "file" else ()))
    assert done.code == 0, done.err
    server.faults.append(("/runs", 403, {"message": "User is not authorized"}))
    forbidden = submit(*(("--token-file", tmp_path / "token") if way == "file" else ()))
    assert "(403: User is not authorized)" in forbidden.err
    assert "a-very-secret-token" not in done.out + done.err + forbidden.out + forbidden.err + repr(Pipelines.found(server.url))


def test_a_page_to_log_in_is_recognized_and_a_cookie_opens_it(
    server: PipelinesServer, submit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cookie = "authservice_session=abc"
    refused = submit()
    assert refused.code == 2
    assert "answers with a page to log in" in refused.err
    monkeypatch.setenv("KF_PIPELINES_COOKIE", "authservice_session=abc")
    assert submit().code == 0


def test_a_pod_knows_the_endpoint_and_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "token").write_text("of the pod")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    found = Pipelines.found()
    assert (found.endpoint, found.token()) == ("http://ml-pipeline.kubeflow.svc.cluster.local:8888", "of the pod")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "--endpoint: is not given; give the URL of Kubeflow Pipelines or set KF_PIPELINES_ENDPOINT"),
        (("--endpoint", "localhost:8080"), "--endpoint: 'localhost:8080' is no URL"),
        (("--endpoint", "http://127.0.0.1:9"), "http://127.0.0.1:9: Kubeflow Pipelines does not answer"),
        (("--endpoint", "http://h", "--token-file", "nowhere"), "--token-file: there is no file nowhere"),
        (("--endpoint", "http://h", "--epoch", "3"), "epoch: is no parameter of the pipeline; did you mean epochs?"),
        (("--endpoint", "http://h", "epochs=three"), "epochs: must be a whole number, not 'three'"),
        (("--endpoint", "http://h", "baselines=perhaps"), "baselines: must be true or false, not 'perhaps'"),
        (("--endpoint", "http://h", "--data", "cells"), "data: cells is a place of this machine"),
        (("--endpoint", "http://h", "plate"), "plate: this word belongs to no parameter"),
        (("--endpoint", "http://h", "--group"), "--group: has no value"),
    ],
)
def test_what_cannot_work_is_one_sentence(server: PipelinesServer, dino4cells: Command, words: tuple[str, ...], sentence: str) -> None:
    done = dino4cells("pipeline", "submit", *words)
    assert done.code == 2
    assert re.fullmatch(r"error: [^\n]*\n", done.err)
    assert sentence in done.err


def test_an_address_without_the_api_says_how_it_ends(server: PipelinesServer, dino4cells: Command) -> None:
    done = dino4cells("pipeline", "submit", "--endpoint", server.url.removesuffix("/pipeline"))
    assert done.code == 2
    assert "behind a Kubeflow dashboard the endpoint ends with /pipeline" in done.err


# Parameters


def test_files_of_this_machine_are_sent_as_text(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("preset: small\n")
    given = pairs_of(["--config", str(tmp_path / "config.yaml"), "--data=s3://lab/cells", "overrides=epochs=3 lr=1e-3"])
    assert parameters_of(given) == {"config": "preset: small\n", "data": "s3://lab/cells", "overrides": "epochs=3 lr=1e-3"}


def test_the_version_of_the_data_changes_with_the_table(server: PipelinesServer, submit: Command) -> None:
    storage.write_text("memory://plates/metadata.csv", "file\na.png\n")
    first = data_version({"data": "memory://plates"})
    storage.write_text("memory://plates/channels.txt", "nucleus\n")
    second = data_version({"data": "memory://plates"})
    storage.write_text("memory://plates/metadata.csv", "file\nb.png\n")
    third = data_version({"data": "memory://plates/metadata.csv"})
    assert len({first, second, third}) == 3
    assert data_version({"data": "memory://plates"}) == third
    assert data_version({}) == ""

    assert submit("--data", "memory://plates").err == ""
    assert server.runs["run-1"]["runtime_config"]["parameters"] == {"data": "memory://plates", "data_version": third}
    own = submit("--data", "memory://plates", "data_version=2024")
    assert (own.code, server.runs["run-1"]["runtime_config"]["parameters"]["data_version"]) == (0, "2024")
    unknown = submit("--data", "memory://nothing")
    assert unknown.code == 0
    assert text_of(unknown.err).startswith("warning: the data cannot be read from here")


# Following


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 86400, "waits without end"


def followed(server: PipelinesServer, time: Time, *states: dict[str, Any]) -> list[str]:
    server.runs["run-1"] = {"run_id": "run-1"}
    server.states = list(states)
    said: list[str] = []
    follow(Pipelines(server.url), Run("run-1", f"{server.url}/#/runs/details/run-1"), said.append, clock=time.clock, sleep=time.sleep)
    return said


def steps(**states: str) -> dict[str, Any]:
    return {"task_details": [{"display_name": name, "state": state} for name, state in states.items()]}


def test_a_run_is_followed_step_by_step_over_lost_answers(server: PipelinesServer) -> None:
    server.faults += [("/runs/run-1", 503, {"message": "upstream"}), ("/runs/run-1", 401, {"message": "expired"})]
    said = followed(
        server,
        Time(),
        {"state": "RUNNING", "run_details": steps(train="RUNNING")},
        {"state": "RUNNING", "run_details": steps(train="SUCCEEDED", extract="RUNNING")},
        {"state": "RUNNING", "run_details": steps(train="SUCCEEDED", extract="RUNNING")},
        {"state": "SUCCEEDED", "run_details": steps(train="SUCCEEDED", extract="SUCCEEDED")},
    )
    assert said == ["train: running", "run: running", "train: succeeded", "extract: running", "extract: succeeded", "run: succeeded"]


@pytest.mark.parametrize("state", ["FAILED", "CANCELED", "SKIPPED"])
def test_a_run_that_did_not_succeed_ends_the_following(server: PipelinesServer, state: str) -> None:
    with pytest.raises(JobFailed, match=rf"^run run-1: ended as {state.lower()} in train \(out of memory\); the step's log is at http"):
        followed(server, Time(), {"state": state, "error": {"code": 2, "message": "out of memory\n"}, "run_details": steps(train="FAILED")})


def test_a_run_that_is_gone_ends_the_following_at_once_and_a_silent_server_after_a_while(server: PipelinesServer) -> None:
    time = Time()
    server.faults.append(("/runs/run-1", 404, {"message": "run not found"}))
    with pytest.raises(PipelinesError, match=r"404: run not found"):
        followed(server, time, {"state": "RUNNING"})
    assert time.now == 0
    server.faults += [("/runs/run-1", 503, {"message": "upstream"})] * 1000
    with pytest.raises(PipelinesError, match=r"503: upstream"):
        followed(server, time, {"state": "RUNNING"})
    assert 900 < time.now < 930


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("FAILED", 1)])
def test_with_wait_the_exit_code_says_how_the_run_ended(server: PipelinesServer, submit: Command, state: str, code: int) -> None:
    server.states = [{"state": state}]
    done = submit("--wait")
    assert done.code == code
    assert f"run: {state.lower()}" in done.out


def test_an_endpoint_must_be_given_outside_of_a_cluster(server: PipelinesServer) -> None:
    with pytest.raises(ConfigError, match="port-forward"):
        Pipelines.found()
