"""A store on bad days: what passes is waited out and counted, what does not is named, and half an object is never taken for a whole one."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest

from dino4cells import storage, storage_retry
from dino4cells.cache import Cache
from dino4cells.errors import MissingFileError, StorageError, StoreRefused, StoreUnavailable
from dino4cells.storage_retry import counted_repeats
from tests.faults.faulty_proxy import OF_A_BODY, TRANSIENT, Fault, FaultyProxy, faulty_proxy
from tests.tally import Tally

MIB = 2**20


@pytest.fixture
def bucket(s3: Callable[[], str]) -> str:
    return s3()


@pytest.fixture
def proxy(s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """In front of the server, with pauses and limits of a moment."""
    monkeypatch.setattr(storage_retry, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(storage_retry, "OBJECT_SECONDS", 0.6)
    monkeypatch.setattr(storage_retry, "UNKNOWN_SECONDS", 5)
    monkeypatch.setattr("dino4cells.storage_s3.READ_SECONDS", 0.4)
    with faulty_proxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def content_of(size: int = 20_000, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


# What passes

Operation = Callable[[str, Path], object]


def reads(url: str, path: Path) -> object:
    return storage.read_bytes(f"{url}/a")


def reads_many(url: str, path: Path) -> object:
    return storage.read_many([f"{url}/{name}" for name in ("a", "b", "a", "none")])[:3] == [content_of(), b"b" * 100, content_of()]


def reads_a_range(url: str, path: Path) -> object:
    return storage.read_ranges([(f"{url}/a", 100, 5_000)]) == [content_of()[100:5_000]]


def downloads(url: str, path: Path) -> object:
    storage.download(f"{url}/a", path)
    return path.read_bytes() == content_of()


def writes(url: str, path: Path) -> object:
    storage.write_bytes(f"{url}/new", content_of(seed=1))
    return storage.read_bytes(f"{url}/new") == content_of(seed=1)


def uploads_in_parts(url: str, path: Path) -> object:
    path.write_bytes(content_of(11 * MIB))
    storage.upload(path, f"{url}/large")
    return storage.read_bytes(f"{url}/large") == content_of(11 * MIB)


def renames(url: str, path: Path) -> object:
    storage.write_bytes(f"{url}/old", b"1")
    storage.rename(f"{url}/old", f"{url}/renamed")
    return not storage.exists(f"{url}/old") and storage.read_bytes(f"{url}/renamed") == b"1"


def lists_and_removes(url: str, path: Path) -> object:
    storage.write_bytes(f"{url}/folder/x", b"1")
    found = storage.list_files(f"{url}/folder")
    storage.remove(f"{url}/folder")
    return found == ["x"] and not storage.exists(f"{url}/folder")


OPERATIONS: tuple[Operation, ...] = (
    lambda url, path: reads(url, path) == content_of(),
    *(reads_many, reads_a_range, downloads, writes, uploads_in_parts, renames, lists_and_removes),
)
READS = OPERATIONS[:4]
OF_AN_UPLOAD = (Fault.CUT_UPLOAD, Fault.LOST_ANSWER)


@pytest.mark.parametrize("fault", TRANSIENT, ids=[fault.name for fault in TRANSIENT])
def test_a_passing_fault_costs_nothing_but_time(
    fault: Fault, proxy: FaultyProxy, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    tally.what = f"store: {fault.value}"
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda size, chunksize=None, max_parts=None: 5 * MIB)
    storage.write_bytes(f"{bucket}/a", content_of())
    storage.write_bytes(f"{bucket}/b", b"b" * 100)
    if fault in OF_A_BODY:
        proxy.wants = lambda request: request.brings_object and "none" not in request.key
    elif fault is Fault.CUT_UPLOAD:
        proxy.wants = lambda request: request.size > 0
    for operation in READS if fault in OF_A_BODY else OPERATIONS:
        if (fault is Fault.CUT_UPLOAD and operation in READS) or (operation is uploads_in_parts and fault not in OF_AN_UPLOAD):
            continue
        with counted_repeats() as repeats:
            proxy.next.extend([fault])
            is_right = bool(operation(bucket, tmp_path / "file"))
        assert not proxy.next, "the fault was not made"
        tally.count(is_right)
        # Where a kept connection is gone, the HTTP client opens another by itself.
        assert repeats.total() > 0 or fault in (Fault.RESET, Fault.LOST_ANSWER, Fault.CUT_UPLOAD)


def test_a_store_is_not_asked_before_it_wants_to_be(proxy: FaultyProxy, bucket: str) -> None:
    storage.write_bytes(f"{bucket}/a", b"1")
    proxy.retry_after = 1
    proxy.next.extend([Fault.BUSY_503])
    begin = time.monotonic()
    assert storage.read_bytes(f"{bucket}/a") == b"1"
    assert time.monotonic() - begin > 1


def test_an_outage_that_ends_in_time_is_waited_out(
    proxy: FaultyProxy, bucket: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_bytes(f"{bucket}/a", content_of())
    caplog.set_level("INFO", "dino4cells")
    # A busy machine may take longer for an answer than the limits of a moment.
    monkeypatch.setattr(storage_retry, "OBJECT_SECONDS", 60)
    monkeypatch.setattr("dino4cells.storage_s3.READ_SECONDS", 60)
    end = time.monotonic() + 1.5
    proxy.choose = lambda request: Fault.BUSY_503 if time.monotonic() < end else None
    with counted_repeats() as repeats:
        assert storage.read_many([f"{bucket}/a"] * 20) == [content_of()] * 20
    assert set(repeats) == {"503"}
    assert caplog.messages[-1] == f"{repeats.total()} requests to the store had to be repeated (503: {repeats['503']})."


@pytest.mark.parametrize("fault", [Fault.ERROR_500, Fault.BUSY_503, Fault.RESET, Fault.CUT, Fault.ANNOUNCES_MORE, Fault.TRICKLE])
def test_files_over_plain_http_have_the_same_patience(
    fault: Fault, proxy: FaultyProxy, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    tally.what = "store: a fault that passes, of a store that is not S3 (http)"
    monkeypatch.setattr(storage_retry, "UNKNOWN_SECONDS", 1)
    boto3.client("s3").put_object(Bucket=bucket.removeprefix("s3://"), Key="a", Body=content_of(), ACL="public-read")
    url = f"{proxy.url}/{bucket.removeprefix('s3://')}/a"
    proxy.wants = lambda request: request.method == "GET"
    for _ in range(2):
        proxy.next.extend([fault])
        tally.count(storage.read_many([url]) == [content_of()] and not proxy.next)
        proxy.next.extend([fault])
        storage.download(url, tmp_path / "a")
        tally.count((tmp_path / "a").read_bytes() == content_of() and not proxy.next)
    proxy.wants = lambda request: True
    proxy.next.extend([fault] * 2)
    tally.count(storage.exists(url))


# What does not


@pytest.mark.parametrize("fault", [Fault.ERROR_500, Fault.RESET, Fault.CUT, Fault.STALL, Fault.TRICKLE, Fault.ANNOUNCES_MORE])
def test_nothing_is_waited_for_without_an_end(
    fault: Fault, proxy: FaultyProxy, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    tally.what = "store: a fault that does not pass, by its operation"
    monkeypatch.setattr(storage_retry, "SECONDS", 0.5)
    monkeypatch.setattr(storage_retry, "OBJECT_SECONDS", 0.2)
    monkeypatch.setattr(storage_retry, "UNKNOWN_SECONDS", 0.5)
    storage.write_bytes(f"{bucket}/a", content_of())
    proxy.choose = lambda request: fault if request.brings_object else None
    for operation in (reads_many, downloads):
        begin = time.monotonic()
        with pytest.raises(StoreUnavailable) as raised:
            operation(bucket, tmp_path / "file")
        said = str(raised.value)
        lasted = time.monotonic() - begin
        tally.count(lasted < 30 and said.startswith(f"{bucket}/a: {proxy.url} "))
    assert not (tmp_path / "file").exists()


def test_what_is_wrong_with_one_object_leaves_the_others(proxy: FaultyProxy, bucket: str, tally: Tally) -> None:
    tally.what = "store: one object of 30 that is missing or forbidden"
    urls = [f"{bucket}/{number}" for number in range(30)]
    for url in urls:
        storage.write_bytes(url, url.encode())
    faults = {f"{urls[7][5:]}": Fault.MISSING_404, f"{urls[20][5:]}": Fault.FORBIDDEN_403}
    proxy.choose = lambda request: faults.get(request.key)
    contents = storage.read_many(urls)
    missing, forbidden = contents[7], contents[20]
    assert [content for number, content in enumerate(contents) if number not in (7, 20)] == [
        url.encode() for number, url in enumerate(urls) if number not in (7, 20)
    ]
    tally.count(isinstance(missing, MissingFileError) and str(missing) == f"{urls[7]}: no such file or directory; check the path.")
    tally.count(isinstance(forbidden, StorageError) and str(forbidden).startswith(f"{urls[20]}: access is denied (as the test asked)"))
    assert len(proxy.seen) == 60, "neither is asked for again"


# Credentials that are changed while a run goes on


def test_rotated_credentials_end_the_run_with_the_objects_name(proxy: FaultyProxy, bucket: str, tally: Tally) -> None:
    tally.what = "store: 403 in mid-run, credentials in variables"
    storage.write_bytes(f"{bucket}/a", b"1")
    proxy.choose = lambda request: Fault.DENIED_403
    for read in (lambda: storage.read_bytes(f"{bucket}/a"), lambda: storage.read_many([f"{bucket}/a"])):
        before = len(proxy.seen)
        with pytest.raises(StoreRefused, match=rf"^{bucket}/a: access is denied \(as the test asked\); .*give the new ones and run again"):
            read()
        tally.count(len(proxy.seen) - before == 1)


def test_credentials_of_a_file_are_read_again_when_they_are_refused(
    proxy: FaultyProxy, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    tally.what = "store: 403 in mid-run, new credentials in their file"
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    valid = ""
    proxy.choose = lambda request: None if request.access_key == valid else Fault.DENIED_403
    for number in range(3):
        valid = f"KEY{number}"
        file.write_text(f"[default]\naws_access_key_id = {valid}\naws_secret_access_key = secret\n")
        if number == 1:
            tally.count(storage.exists(f"{bucket}/0"))
        storage.write_bytes(f"{bucket}/{number}", b"1")
        tally.count(storage.read_many([f"{bucket}/{number}"] * 5) == [b"1"] * 5)
    valid = "another"
    with pytest.raises(StoreRefused, match="access is denied"):
        storage.read_bytes(f"{bucket}/1")


def test_a_role_that_was_given_up_is_taken_again(
    proxy: FaultyProxy, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    tally.what = "store: 403 in mid-run, a role by web identity"
    (tmp_path / "token").write_text("a token of the service account")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/images")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    revoked: set[str] = set()
    proxy.choose = lambda request: Fault.DENIED_403 if request.access_key in revoked else None
    storage.write_bytes(f"{bucket}/a", b"1")
    for _ in range(2):
        revoked |= {request.access_key for request in proxy.seen if request.access_key}
        tally.count(storage.read_bytes(f"{bucket}/a") == b"1")
    assert len({request.access_key for request in proxy.seen} - {""}) == 3


# Half objects


def test_the_cache_keeps_no_half_object(proxy: FaultyProxy, bucket: str, tmp_path: Path, tally: Tally) -> None:
    tally.what = "store: a half object on its way into the cache"
    cache = Cache(tmp_path / "cache", 10 * MIB)
    storage.write_bytes(f"{bucket}/a", content_of())
    for fault in (Fault.CUT, Fault.ANNOUNCES_MORE, Fault.ANNOUNCES_LESS, Fault.STALL):
        (kept,) = [f"{bucket}/{fault.name}"]
        storage.write_bytes(kept, content_of(seed=2))
        proxy.wants = lambda request: request.brings_object
        proxy.next.extend([fault])
        first = storage.read_many([kept], cache)
        asked = len(proxy.seen)
        tally.count(first == storage.read_many([kept], cache) == [content_of(seed=2)] and len(proxy.seen) == asked)


def test_an_upload_that_breaks_off_for_good_leaves_what_was_there(
    proxy: FaultyProxy, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    tally.what = "store: an upload, whole or in parts, that breaks off for good"
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda size, chunksize=None, max_parts=None: 5 * MIB)
    monkeypatch.setattr(storage_retry, "SECONDS", 0.5)
    storage.write_bytes(f"{bucket}/a", b"old")
    proxy.choose = lambda request: Fault.CUT_UPLOAD if request.size > 1000 and request.method == "PUT" else None
    for size in (50_000, 11 * MIB):
        (tmp_path / "new").write_bytes(content_of(size))
        with pytest.raises(StoreUnavailable, match=f"^{bucket}/a: "):
            storage.upload(tmp_path / "new", f"{bucket}/a")
        tally.count(storage.read_bytes(f"{bucket}/a") == b"old" and storage.list_files(bucket) == ["a"])


def test_an_etag_that_is_no_digest_is_believed_when_the_content_comes_again(proxy: FaultyProxy, bucket: str) -> None:
    storage.write_bytes(f"{bucket}/a", content_of())
    storage.write_bytes(f"{bucket}/b", content_of(seed=1))
    proxy.etag = '"00000000000000000000000000000000"'
    with counted_repeats() as repeats:
        assert storage.read_many([f"{bucket}/a", f"{bucket}/b"]) == [content_of(), content_of(seed=1)]
        assert storage.read_bytes(f"{bucket}/a") == content_of()
    assert repeats == Counter(cut=2)  # each of the first two; then this store's are known
