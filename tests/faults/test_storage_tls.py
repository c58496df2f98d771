"""S3 over TLS: with an authority of one's own, which has to be named, and never without a look at the certificate."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dino4cells import storage
from dino4cells.cluster.doctor.rows import State
from dino4cells.cluster.doctor.store import check_store
from dino4cells.cluster.doctor.visit import Visit
from dino4cells.cluster.settings import JobSettings
from dino4cells.errors import StorageError, StoreRefused
from tests.faults.certificates import authority, certificate_of_server
from tests.faults.faulty_proxy import faulty_proxy
from tests.tally import Tally


@pytest.fixture
def bucket(s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    return s3()


ASKS: tuple[Callable[[str], object], ...] = (
    storage.read_bytes,
    storage.list_files,
    lambda url: storage.read_many([url]),
    lambda url: storage.write_bytes(url, b""),
)


def use(url: str, path: Path) -> bool:
    """Whatever goes to a store, by every kind of request."""
    storage.check_writable(url)
    storage.write_bytes(f"{url}/a", b"cell")
    storage.download(f"{url}/a", path)
    found = storage.list_files(url) == ["a"] and storage.exists(f"{url}/a")
    return found and path.read_bytes() == b"cell" and storage.read_many([f"{url}/a"] * 3) == [b"cell"] * 3


def test_a_private_authority_is_trusted_when_it_is_named_and_only_then(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    tally.what = "store: TLS with a private authority, named or not"
    own, other = authority(tmp_path, "own"), authority(tmp_path, "other")
    with faulty_proxy(os.environ["AWS_ENDPOINT_URL"], certificate_of_server(tmp_path, own)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        for trusted in (None, other.file):
            if trusted:
                monkeypatch.setenv("AWS_CA_BUNDLE", str(trusted))
            for ask in ASKS:
                with pytest.raises(StoreRefused) as raised:
                    ask(f"{bucket}/a")
                why = "unable to get local issuer certificate"
                said = f"{bucket}/a: the certificate of {server.url} is not trusted ({why}); set AWS_CA_BUNDLE to a PEM file"
                tally.count(str(raised.value).startswith(said))
        assert not server.seen, "no request before the certificate was looked at"
        monkeypatch.setenv("AWS_CA_BUNDLE", str(own.file))
        tally.count(use(bucket, tmp_path / "file"))


@pytest.mark.parametrize(
    ("address", "days", "reason"), [("127.0.0.2", 1, "IP address mismatch"), ("127.0.0.1", -1, "certificate has expired")]
)
def test_a_certificate_that_is_not_that_of_the_server_is_refused(
    address: str, days: int, reason: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    tally.what = "store: TLS with a certificate of another server, or an old one"
    own = authority(tmp_path, "own")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(own.file))
    with faulty_proxy(os.environ["AWS_ENDPOINT_URL"], certificate_of_server(tmp_path, own, address, days)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        with pytest.raises(StoreRefused, match=rf"is not trusted \({reason}"):
            storage.read_bytes(f"{bucket}/a")
        tally.count(not server.seen)


def test_an_authority_whose_file_is_missing_is_named(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(StorageError, match=rf"^AWS_CA_BUNDLE: there is no file {tmp_path}/none.pem; set it to a PEM file"):
        storage.read_bytes(f"{bucket}/a")


def test_doctor_says_which_variable_to_set(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = authority(tmp_path, "own")
    with faulty_proxy(os.environ["AWS_ENDPOINT_URL"], certificate_of_server(tmp_path, own)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        row = check_store(Visit(JobSettings(), f"{bucket}/model"))
        assert row.state is State.MISSING
        assert "set AWS_CA_BUNDLE to a PEM file" in row.finding
        monkeypatch.setenv("AWS_CA_BUNDLE", str(own.file))
        assert check_store(Visit(JobSettings(), f"{bucket}/model")).state is State.OK
