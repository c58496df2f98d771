"""Storage and artifacts over HTTP: a real S3 server (moto), and one that fails on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dino4cells import storage, storage_retry
from dino4cells.artifacts import ArtifactWriter, is_complete, open_artifact
from dino4cells.errors import ArtifactError, StorageError, StoreUnavailable

MIB = 2**20


@pytest.fixture
def bucket(s3: Callable[[], str]) -> str:
    return s3()


def test_what_is_written_is_read_again(bucket: str, tmp_path: Path) -> None:
    storage.write_text(f"{bucket}/data/metadata.csv", "file\n")
    storage.write_bytes(f"{bucket}/data/images/a*[1].png", b"123")
    (tmp_path / "b").write_bytes(b"45")
    storage.upload(tmp_path / "b", f"{bucket}/data2/b")
    assert storage.read_text(f"{bucket}/data/metadata.csv") == "file\n"
    assert storage.list_sizes(bucket) == {"data/images/a*[1].png": 3, "data/metadata.csv": 5, "data2/b": 2}
    assert storage.list_files(f"{bucket}/data") == ["images/a*[1].png", "metadata.csv"]
    storage.download(f"{bucket}/data2/b", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"45"


def test_reading_many_gives_a_missing_object_at_its_place(bucket: str) -> None:
    urls = [f"{bucket}/{number}.png" for number in range(100)]
    for number, url in enumerate(urls):
        if number != 42:
            storage.write_bytes(url, bytes([number]))
    contents = storage.read_many(urls)
    missing = contents.pop(42)
    assert contents == [bytes([number]) for number in range(100) if number != 42]
    assert isinstance(missing, StorageError)
    assert str(missing) == f"{bucket}/42.png: no such file or directory; check the path."


def test_kubeflows_minio_scheme_is_s3(bucket: str) -> None:
    minio = bucket.replace("s3://", "minio://")
    storage.write_text(f"{minio}/a/b", "1")
    assert storage.read_many([f"{bucket}/a/b", f"{minio}/a/b"]) == [b"1", b"1"]
    assert storage.list_files(f"{minio}/a") == ["b"]


def test_directories_exist_as_long_as_they_hold_objects(bucket: str) -> None:
    for name in ("run/a", "run/b/c", "run2/a", "[run]/a"):
        storage.write_bytes(f"{bucket}/{name}", b"")
    assert [storage.exists(f"{bucket}{end}") for end in ("", "/run", "/run/", "/run/a", "/ru", "/run/x")] == [True] * 4 + [False] * 2
    storage.remove(f"{bucket}/run")
    storage.remove(f"{bucket}/[run]")
    storage.remove(f"{bucket}/run")
    assert storage.list_files(bucket) == ["run2/a"]
    assert storage.list_files(f"{bucket}/run") == []


def test_what_another_process_wrote_is_seen_at_once(bucket: str) -> None:
    assert storage.list_files(f"{bucket}/a") == []
    assert not storage.exists(f"{bucket}/a/b")
    program = "import sys; from dino4cells import storage; storage.write_text(sys.argv[1], 'new')"
    subprocess.run([sys.executable, "-c", program, f"{bucket}/a/b"], check=True)
    assert storage.exists(f"{bucket}/a/b")
    assert storage.list_files(f"{bucket}/a") == ["b"]


def test_a_forked_process_opens_its_own_connection(bucket: str) -> None:
    storage.write_text(f"{bucket}/a", "1")
    child = os.fork()
    if child == 0:
        os._exit(0 if storage.read_many([f"{bucket}/a"] * 8) == [b"1"] * 8 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert storage.read_text(f"{bucket}/a") == "1"


def test_a_file_of_several_parts_arrives_whole(bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "checkpoint"
    source.write_bytes(os.urandom(MIB) * 104)
    storage.upload(source, f"{bucket}/checkpoint")
    assert storage.list_sizes(bucket) == {"checkpoint": 104 * MIB}
    storage.download(f"{bucket}/checkpoint", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


# Artifacts


def test_an_artifact_is_written_read_and_its_damage_noticed(bucket: str) -> None:
    url = f"{bucket}/runs/model"
    with ArtifactWriter(url, "model") as writer:
        writer.write_text("log.jsonl", "1")
        writer.publish("log.jsonl")
        assert storage.list_files(url) == ["log.jsonl"]
        assert not is_complete(url)
        writer.path("weights").write_bytes(b"12345")
    artifact = open_artifact(url, "model")
    assert artifact.names == ["log.jsonl", "weights"]
    assert artifact.read_bytes("log.jsonl") == b"1"
    assert artifact.local("weights").read_bytes() == b"12345"

    storage.write_bytes(f"{url}/weights", b"12354")
    with pytest.raises(ArtifactError, match="weights: the file is not the one that was written"):
        open_artifact(url, "model").local("weights")
    storage.write_bytes(f"{url}/weights", b"12")
    with pytest.raises(ArtifactError, match="weights: has 2 bytes where 5 were written"):
        open_artifact(url, "model")
    storage.remove(f"{url}/weights")
    with pytest.raises(ArtifactError, match="weights: the file is missing"):
        open_artifact(url, "model")


def test_an_unfinished_artifact_is_refused(bucket: str) -> None:
    storage.write_text(f"{bucket}/model/log.jsonl", "1")
    with pytest.raises(ArtifactError, match="is no complete model directory"):
        open_artifact(f"{bucket}/model", "model")
    with pytest.raises(ArtifactError, match="there is no model directory here"):
        open_artifact(f"{bucket}/other", "model")


# What a user gets wrong

USES: list[Callable[[str], object]] = [
    storage.read_bytes,
    storage.list_files,
    storage.exists,
    lambda url: storage.write_bytes(url, b"1"),
    lambda url: raise_first(storage.read_many([url])),
]


def raise_first(contents: list[bytes | StorageError]) -> None:
    for content in contents:
        if isinstance(content, StorageError):
            raise content


@pytest.mark.usefixtures("s3")
def test_a_missing_bucket_is_named() -> None:
    for use in USES:
        if use is not storage.exists:
            with pytest.raises(StorageError, match="s3://not-there/a: the bucket does not exist; create it, or correct its name"):
                use("s3://not-there/a")
    assert not storage.exists("s3://not-there/a")


@pytest.mark.usefixtures("s3")
def test_missing_credentials_are_named_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    # The instance metadata service of AWS is asked too, as for any user; it must not hold the sentence back.
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    begin = time.monotonic()
    for use in USES:
        with pytest.raises(StorageError, match="s3://bucket/a: there are no credentials for this store; set AWS_ACCESS_KEY_ID"):
            use("s3://bucket/a")
    assert time.monotonic() - begin < 60


def test_credentials_that_are_set_later_are_used(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setenv("AWS_EC2_METADATA_DISABLED", "true")
        without.delenv("AWS_ACCESS_KEY_ID")
        without.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(StorageError, match="no credentials"):
            storage.write_text(f"{bucket}/a", "1")
    storage.write_text(f"{bucket}/a", "1")


@pytest.mark.usefixtures("s3")
def test_an_unreachable_endpoint_is_named_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    assert storage_retry.CONTACT_SECONDS < 10
    monkeypatch.setattr(storage_retry, "CONTACT_SECONDS", 1.0)
    monkeypatch.setattr(storage_retry, "SECONDS", 600.0)  # the patience with a store that has answered before
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    begin = time.monotonic()
    with pytest.raises(StorageError, match=f"s3://bucket/a: http://127.0.0.1:{port} does not answer .*; check the network and AWS_END"):
        storage.read_bytes("s3://bucket/a")
    assert time.monotonic() - begin < 60


@pytest.mark.usefixtures("s3")
def test_an_endpoint_without_a_scheme_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio-service:9000")
    for use in USES:
        with pytest.raises(StorageError, match=r"\(Invalid endpoint: minio-service:9000\); correct AWS_ENDPOINT_URL"):
            use("s3://bucket/a")


# A server that fails on purpose


class FaultyServer(BaseHTTPRequestHandler):
    """Answers with the faults in `faults`, one a request, and after these with `whole`."""

    faults: list[str]

    def do_GET(self) -> None:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "reset":
            self.close_connection = True
            return
        if fault == "cut":
            self.answer(200, b"who", length=5)
            self.close_connection = True
            return
        if fault:
            self.answer(int(fault.split()[0]), f"<Error><Code>{fault.split()[1]}</Code><Message>as asked</Message></Error>".encode())
            return
        self.answer(200, b"whole")

    def answer(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """A test prints no access log."""


@pytest.fixture
def faults(s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    faults: list[str] = []
    handler = type("Handler", (FaultyServer,), {"faults": faults})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield faults
        server.shutdown()


@pytest.mark.parametrize("fault", ["503 SlowDown", "500 InternalError", "reset", "cut"])
def test_a_passing_fault_is_tried_again(faults: list[str], fault: str) -> None:
    faults.append(fault)
    assert storage.read_bytes("s3://bucket/a") == b"whole"
    faults.append(fault)
    assert storage.read_many(["s3://bucket/a", "s3://bucket/b"]) == [b"whole", b"whole"]


def test_a_lasting_fault_ends_with_an_error(faults: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_retry, "FIRST_PAUSE", 0.01)
    faults.extend(["500 InternalError"] * 100)
    with pytest.raises(StoreUnavailable, match=r"s3://bucket/a: http://.* fails for the moment \(500, as asked, after 10 attempts in"):
        storage.read_bytes("s3://bucket/a")
    assert 100 - len(faults) == storage_retry.ATTEMPTS * storage_retry.REQUEST_ATTEMPTS


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
def test_denied_access_is_not_tried_again_and_is_named(faults: list[str], code: str) -> None:
    faults.extend([f"403 {code}"] * 5)
    with pytest.raises(StorageError, match=r"access is denied \(as asked\); check the credentials and what they allow"):
        storage.read_bytes("s3://bucket/a")
    assert len(faults) == 4


def test_a_download_that_breaks_off_leaves_no_half_file(faults: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_retry, "FIRST_PAUSE", 0.01)
    faults.extend(["cut"] * 100)
    with pytest.raises(StorageError):
        storage.download("s3://bucket/a", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
