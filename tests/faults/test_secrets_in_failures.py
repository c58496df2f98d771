"""Commands that fail with a secret in their hands: none of them says it, whatever is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from healthy_cluster import CORE, HEALTHY, encoded, write_kubeconfig
from kubernetes_server import KubernetesServer, Time, kubernetes_server
from pipelines_server import pipelines_server

from dino4cells.cluster import entry
from dino4cells.errors import Dino4CellsError, StorageError
from dino4cells.events import EventHandler, Style
from tests.faults import planted
from tests.tally import Tally

Command = Callable[..., Any]  # the fixture `dino4cells` of conftest
IMAGE = ("--image", "registry.example/dino4cells:0.1.0")
PLACES = ("--data", "s3://lab/cells", "--output", "s3://lab/model")


@pytest.fixture(autouse=True)
def planting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in planted.VARIABLES.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesServer]:
    """A cluster that lacks nothing, which a kubeconfig with the planted token leads to."""
    with kubernetes_server(Time()) as server:
        server.token = planted.CLUSTER_TOKEN
        server.objects = {**HEALTHY, f"{CORE}/secrets/store": {"data": encoded(accesskey=planted.ACCESS_KEY, secretkey=planted.SECRET_KEY)}}
        write_kubeconfig(tmp_path, monkeypatch, server.url, planted.CLUSTER_TOKEN)
        yield server


def said(done: Any) -> set[str]:
    """The secrets in what a command printed."""
    return planted.in_text(done.out + done.err)


# Addresses with secrets in them are refused wherever an address is taken.

COMMANDS: dict[str, Callable[[str, Path], tuple[object, ...]]] = {
    "train --data": lambda url, here: ("train", "--preset", "small", "--data", url, "--output", here / "model"),
    "train --output": lambda url, here: ("train", "--preset", "small", "--data", here / "cells", "--output", url),
    "train --processes": lambda url, here: ("train", "--preset", "small", "--data", url, "--output", here / "model", "--processes", "2"),
    "train --config": lambda url, here: ("train", "--config", url, "--output", here / "model"),
    "train --model.data_path": lambda url, here: ("train", "--preset", "small", "--model.data_path", url, "--output", here / "model"),
    "train --init": lambda url, here: ("train", "--preset", "small", "--model.init", url, "--data", here / "cells", "--output", here / "m"),
    "config": lambda url, here: ("config", "--preset", "small", "--output_dir", url),
    "extract --model": lambda url, here: ("extract", "--model", url, "--data", here / "cells", "--output", here / "features"),
    "extract --output": lambda url, here: ("extract", "--model", here / "model", "--data", here / "cells", "--output", url),
    "classify --features": lambda url, here: ("classify", "--features", url, "--output", here / "classes"),
    "classify --data": lambda url, here: ("classify", "--features", here / "features", "--data", url, "--output", here / "classes"),
    "predict": lambda url, here: ("predict", url, "--features", here / "features", "--output", here / "predictions"),
    "predict --output": lambda url, here: ("predict", here / "classes", "--features", here / "features", "--output", url),
    "profiles": lambda url, here: ("profiles", url, "--output", here / "profiles"),
    "features export": lambda url, here: ("features", "export", url, "--output", here / "features.h5ad"),
    "export": lambda url, here: ("export", url, "--output", here / "net.onnx"),
    "data validate": lambda url, here: ("data", "validate", "--data", url),
    "data stats": lambda url, here: ("data", "stats", "--data", url),
    "data pack": lambda url, here: ("data", "pack", "--data", here / "cells", "--to", url),
    "simulate": lambda url, here: ("simulate", url, "--cells", "2"),
    "run": lambda url, here: ("run", "--data", url, "--output", here / "runs"),
    "job render --data": lambda url, here: ("job", "render", *IMAGE, *PLACES[2:], "--data", url),
    "job render --output": lambda url, here: ("job", "render", *IMAGE, *PLACES[:2], "--output", url),
    "job render --override": lambda url, here: ("job", "render", *IMAGE, *PLACES[2:], "--override", f"model.data_path={url}"),
    "job render --settings": lambda url, here: ("job", "render", "--settings", url),
    "job render --environment": lambda url, here: ("job", "render", *IMAGE, *PLACES, "--environment.AWS_ENDPOINT_URL", url),
    "job submit": lambda url, here: ("job", "submit", *IMAGE, *PLACES[2:], "--data", url),
    "job submit, a word too many": lambda url, here: ("job", "status", "name", url),
    "pipeline submit data": lambda url, here: ("pipeline", "submit", "--endpoint", "http://127.0.0.1:9", f"data={url}"),
    "pipeline submit config": lambda url, here: (
        *("pipeline", "submit", "--endpoint", "http://127.0.0.1:9"),
        *("data=s3://lab/cells", "data_version=1", "--config", f"model: {{data_path: '{url}'}}"),
    ),
    "pipeline submit --pipeline-root": lambda url, here: (
        "pipeline", "submit", "--endpoint", "http://127.0.0.1:9", "--pipeline-root", url, "data=s3://lab/cells", "data_version=1",
    ),
    "pipeline submit --endpoint": lambda url, here: ("pipeline", "submit", "--endpoint", url),
    "doctor --output": lambda url, here: ("doctor", *IMAGE, "--output", url),
    "doctor --environment": lambda url, here: ("doctor", *IMAGE, "--environment.AWS_ENDPOINT_URL", url),
    "a word that belongs nowhere": lambda url, here: ("train", url),
    "an option that is not known": lambda url, here: ("train", f"--dta={url}"),
}  # fmt: skip


def test_an_address_with_a_secret_is_refused_and_not_said_by_any_command(tmp_path: Path, dino4cells: Command, tally: Tally) -> None:
    tally.what = "addresses with passwords, tokens and signatures, given to every command"
    wrong = []
    for number, (command, words) in enumerate(COMMANDS.items()):
        # Each kind of address is given to twelve commands; what is found in an address is held by tests/unit/test_redaction.py.
        kinds = list(planted.URLS.items())
        for what, url in (kinds[number % len(kinds)], kinds[(number + 3) % len(kinds)]):
            done = dino4cells(*words(url, tmp_path))
            well = done.code == 2 and not said(done)
            tally.count(well)
            wrong += [] if well else [(command, what, done.code, done.out, done.err)]
    assert wrong == []
    assert planted.in_directory(tmp_path) == {}


def test_a_configuration_file_with_a_secret_is_refused_at_its_line(tmp_path: Path, dino4cells: Command) -> None:
    for url in planted.URLS.values():
        (tmp_path / "config.yaml").write_text(f"model:\n  epochs: 1\n  root: '{url}'\n")
        done = dino4cells("train", "--config", tmp_path / "config.yaml", "--data", "cells")
        assert (done.code, said(done)) == (2, set())
        assert "config.yaml, line 3: model.root holds a password, a token or a signature" in done.err


@pytest.mark.parametrize("words", [(), ("--model.files_outside_root", "true")], ids=["as usual", "where URLs are allowed"])
def test_a_table_whose_files_have_secrets_in_their_addresses_is_refused_at_its_line(
    words: tuple[str, ...], tmp_path: Path, dino4cells: Command
) -> None:
    for url in planted.URLS.values():
        (tmp_path / "metadata.csv").write_text(f"file,ID\ncell.png,1\n{url}/cell.png,2\n")
        for command in (("data", "validate"), ("train", "--preset", "small", "--output", tmp_path / "model")):
            done = dino4cells(*command, "--data", tmp_path, *words)
            assert (done.code, said(done)) == (2, set()), done.out + done.err
            assert "metadata.csv, line 3: the file" in done.err
            assert "holds a password, a token or a signature" in done.err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_with_a_password_is_refused(name: str, monkeypatch: pytest.MonkeyPatch, dino4cells: Command) -> None:
    monkeypatch.setenv(name, f"http://user:{planted.PASSWORD}@127.0.0.1:9")
    done = dino4cells("data", "validate", "--data", "s3://lab/cells")
    assert (done.code, said(done)) == (2, set())
    assert "AWS_ENDPOINT_URL: holds a password" in done.err


# Secrets where names of secrets are wanted.

MISPLACED = {
    "values for names": f"secrets: {{AWS_SECRET_ACCESS_KEY: '{planted.SECRET_KEY}'}}",
    "a text": f"secrets: '{planted.ACCESS_KEY}:{planted.SECRET_KEY}'",
    "a list of texts": f"secrets: ['{planted.SECRET_KEY}']",
    "a value beside a name": f"secrets: [{{variable: A, secret: s, key: k, value: '{planted.SECRET_KEY}'}}]",
    "the environment": f"environment: {{AWS_SECRET_ACCESS_KEY: '{planted.SECRET_KEY}'}}",
    "the environment, a list": f"environment: [{{name: HF_TOKEN, value: '{planted.HUB_TOKEN}'}}]",
    "YAML that is none": f"secrets: [{{variable: A, secret: '{planted.SECRET_KEY}'",
}


@pytest.mark.parametrize("mistake", MISPLACED)
def test_a_secret_in_the_settings_of_jobs_is_refused_and_not_said(mistake: str, tmp_path: Path, dino4cells: Command) -> None:
    (tmp_path / "job.yaml").write_text(f"{MISPLACED[mistake]}\n")
    for command in (("job", "render", "--data", "s3://lab/cells"), ("doctor",)):
        done = dino4cells(*command, *IMAGE, "--settings", tmp_path / "job.yaml")
        assert (done.code, said(done)) == (2, set()), done.out + done.err


# A store that refuses, with as many words as it has.


@contextmanager
def refusing_store(code: str) -> Iterator[str]:
    """An S3 server that answers 403 and echoes what it was asked with, as AWS and others do."""
    echo = f"<AWSAccessKeyId>{planted.ACCESS_KEY}</AWSAccessKeyId><Token-0>{planted.SESSION_TOKEN}</Token-0>"
    message = f"The key {planted.ACCESS_KEY} with the token {planted.SESSION_TOKEN} is not known, and {planted.SECRET_KEY} neither."
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message>{echo}</Error>'.encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # without it a client waits before it sends what it has asked leave to send

        def log_message(self, *arguments: object) -> None: ...

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(403)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _answer

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, args=[0.01], daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "AccessDenied", "AllAccessDisabled"])
def test_a_store_that_echoes_what_it_was_given_is_not_echoed(
    code: str, dino4cells: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with refusing_store(code) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for words in (
            ("data", "validate", "--data", "s3://lab/cells"),
            ("train", "--preset", "small", "--data", "s3://lab/cells", "--output", tmp_path / "model"),
            ("simulate", "s3://lab/cells", "--cells", "2"),
            ("doctor", *IMAGE, "--output", "s3://lab/model"),
        ):
            done = dino4cells(*words)
            assert (done.code, said(done)) == (2, set()), done.out + done.err
    assert planted.in_directory(tmp_path) == {}


# A cluster.


def test_the_life_of_a_job_shows_no_secret_to_the_cluster_or_a_person(
    cluster: KubernetesServer, dino4cells: Command, tmp_path: Path
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "accesskey", "AWS_SECRET_ACCESS_KEY": "secretkey"}
    secrets = json.dumps([{"variable": variable, "secret": "store", "key": key} for variable, key in keys.items()])
    words = (*IMAGE, "--preset", "small", "--data", "s3://lab/cells", "--output", "s3://lab/model", "--secrets", secrets)
    rendered = dino4cells("job", "render", *words)
    submitted = dino4cells("job", "submit", *words, "--name", "monday")
    assert (rendered.code, submitted.code) == (0, 0), rendered.err + submitted.err
    cluster.create_pods()
    cluster.all_run()
    cluster.writes("epoch 1")
    sent = json.dumps([*cluster.jobs.values(), *cluster.pods.values(), *cluster.requests])
    looked = [dino4cells("job", command, "monday") for command in ("status", "logs", "delete")]
    doctor = dino4cells("doctor", *IMAGE, "--secrets", secrets, "--json")

    assert [done.code for done in looked] == [0, 0, 0]
    assert "has the keys accesskey, secretkey" in doctor.out
    assert planted.in_text(sent) == set()
    for done in (rendered, submitted, doctor, *looked):
        assert said(done) == set()


def with_token(token: str) -> Callable[[Path, Any], None]:
    def write(path: Path, content: Any) -> None:
        content["users"][0]["user"]["token"] = token
        path.write_text(yaml.safe_dump(content))

    return write


KUBECONFIGS: dict[str, Callable[[Path, Any], object]] = {
    "a token with a line break": with_token(f"{planted.CLUSTER_TOKEN}\n"),
    "a token with a line break inside": with_token(f"{planted.CLUSTER_TOKEN}\r\nX-Other: 1"),
    "a token that the cluster does not know": with_token(f"{planted.CLUSTER_TOKEN}x"),
    "a bracket that is not closed": lambda path, content: path.write_text(f"users: [{{name: u, user: {{token: {planted.CLUSTER_TOKEN}"),
    "a tab": lambda path, content: path.write_text(f"users:\n- name: u\n\tuser: {{token: {planted.CLUSTER_TOKEN}}}\n"),
    "a key too few": lambda path, content: path.write_text(f"users: [{{user: {{token: {planted.CLUSTER_TOKEN}}}}}]\n"),
    "a text for a mapping": lambda path, content: path.write_text(f"users: '{planted.CLUSTER_TOKEN}'\ncurrent-context: here\n"),
    "a text for a user": lambda path, content: path.write_text(
        yaml.safe_dump({**content, "users": [{"name": "u", "user": planted.CLUSTER_TOKEN}]})
    ),
}


@pytest.mark.parametrize("mistake", KUBECONFIGS)
def test_a_kubeconfig_that_cannot_be_used_is_not_said(mistake: str, cluster: KubernetesServer, dino4cells: Command, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    KUBECONFIGS[mistake](path, yaml.safe_load(path.read_text()))
    for words in (("status", "monday"), ("submit", *IMAGE, "--preset", "small", "--data", "s3://lab/cells", "--output", "s3://lab/m")):
        done = dino4cells("job", *words)
        assert (done.code, said(done)) == (2, set()), done.out + done.err
    assert said(dino4cells("doctor", *IMAGE)) == set()


# Kubeflow Pipelines.


ANSWERS: list[Any] = [None, ("/healthz", 401, {"message": "no"}), ("/runs", 500, {"message": "database"}), ("/healthz", 302, {})]


@pytest.mark.parametrize("fault", ANSWERS)
def test_a_run_of_the_pipeline_shows_no_secret(fault: Any, dino4cells: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    with pipelines_server() as server:
        server.token, server.cookie = planted.PIPELINES_TOKEN, planted.PIPELINES_COOKIE
        server.faults = [fault] if fault else []
        done = dino4cells("pipeline", "submit", "--endpoint", server.url, "data=s3://lab/cells", "data_version=1")
        sent = json.dumps([server.runs, server.experiments])
    assert done.code == (2 if fault else 0), done.err
    assert said(done) | planted.in_text(sent) == set()
    assert {file: names for file, names in planted.in_directory(tmp_path).items() if file != "context.json"} == {}


# Where a process leaves its last words.


def test_the_termination_log_of_a_pod_holds_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "termination-log").touch()
    monkeypatch.setattr(entry, "TERMINATION_LOG", tmp_path / "termination-log")
    for url in planted.URLS.values():
        with pytest.raises(SystemExit), entry.process_of_a_job():
            raise StorageError(f"{url}: access is denied ({planted.SECRET_KEY}); check {planted.HUB_TOKEN}.")
        assert "access is denied" in (tmp_path / "termination-log").read_text()
    captured = capsys.readouterr()
    assert planted.in_directory(tmp_path) == {}
    assert planted.in_text(captured.out + captured.err) == set()


BUG = """
import importlib, logging, sys, threading
app = importlib.import_module("dino4cells.cli.app")
def bug(*words, **options):
    thread = threading.Thread(target=lambda: int({secret!r}))
    thread.start()
    thread.join()
    logging.getLogger("botocore").warning("signing with %s", {secret!r})
    raise RuntimeError({url!r} + " with " + {secret!r})
app.app = bug
sys.argv = ["dino4cells", "train"]
app.main()
"""


def test_the_traceback_of_a_bug_and_other_packages_warnings_hold_no_secret() -> None:
    script = BUG.format(secret=planted.SECRET_KEY, url=planted.URLS["a password"])
    # Through its standard input: `test_secrets_of_a_run`, which may run beside it, looks through the arguments of all processes.
    done = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 1
    assert "RuntimeError: s3://***@bucket/cells with ***" in done.stderr
    assert "signing with ***" in done.stderr
    assert "invalid literal for int() with base 10: '***'" in done.stderr
    assert planted.in_text(done.stdout + done.stderr) == set()


def test_without_the_redaction_the_secrets_would_be_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """So that the tests above are shown to be able to fail."""
    monkeypatch.setattr("dino4cells.errors.redacted", lambda text: text)
    monkeypatch.setattr("dino4cells.events.redacted", lambda text: text)
    with pytest.raises(Dino4CellsError) as failed:
        raise StorageError(planted.URLS["keys"])
    assert planted.in_text(str(failed.value)) == {"access key", "secret key"}
    import logging

    EventHandler(Style.JSON).emit(logging.LogRecord("botocore", logging.WARNING, "", 0, planted.SECRET_KEY, None, None))
    assert planted.in_text(capsys.readouterr().err) == {"secret key"}
