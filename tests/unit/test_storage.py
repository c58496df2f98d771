from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from botocore.exceptions import NoCredentialsError
from hypothesis import given
from hypothesis import strategies as st

from dino4cells import storage, storage_asking
from dino4cells.errors import StorageError


@pytest.fixture(params=["path", "file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"path": str(tmp_path), "file": f"file://{tmp_path}", "memory": f"memory://{uuid.uuid4().hex}"}[request.param]


def test_what_is_written_is_read_again(root: str) -> None:
    storage.write_bytes(f"{root}/deep/er/a.bin", b"\x00\xff")
    storage.write_text(f"{root}/µ.txt", "5 µm\r\n")
    assert storage.read_bytes(f"{root}/deep/er/a.bin") == b"\x00\xff"
    assert storage.read_text(f"{root}/µ.txt") == "5 µm\r\n"
    assert storage.list_files(root) == ["deep/er/a.bin", "µ.txt"]
    assert storage.list_sizes(root) == {"deep/er/a.bin": 2, "µ.txt": 7}


def test_writing_again_replaces_the_content(root: str) -> None:
    storage.write_text(f"{root}/a", "a long first version")
    storage.write_text(f"{root}/a", "second")
    assert storage.read_text(f"{root}/a") == "second"
    assert storage.list_files(root) == ["a"]


def test_upload_and_download_copy_a_file(root: str, tmp_path: Path) -> None:
    source = tmp_path / "elsewhere" / "source"
    source.parent.mkdir()
    source.write_bytes(b"12345")
    storage.upload(source, f"{root}/data/copy")
    storage.download(f"{root}/data/copy", tmp_path / "back" / "again")
    assert (tmp_path / "back" / "again").read_bytes() == b"12345"
    assert source.exists()


def test_removing_takes_files_and_directories_and_accepts_what_is_not_there(root: str) -> None:
    for name in ("run/a", "run/b/c", "run2/a"):
        storage.write_bytes(f"{root}/{name}", b"")
    storage.remove(f"{root}/run/a")
    assert storage.list_files(root) == ["run/b/c", "run2/a"]
    storage.remove(f"{root}/run")
    storage.remove(f"{root}/run")
    assert storage.list_files(root) == ["run2/a"]
    assert not storage.exists(f"{root}/run")
    assert storage.exists(f"{root}/run2")


def test_a_directory_is_removed_where_it_is_empty_but_for_what_a_killed_writer_left(root: str, tmp_path: Path) -> None:
    storage.remove_empty(f"{root}/none")
    for name in ("run/a", "other/b/c"):
        storage.write_bytes(f"{root}/{name}", b"")
    for name in ("run", "run/a", "other"):
        storage.remove_empty(f"{root}/{name}")
    assert storage.list_files(root) == ["other/b/c", "run/a"]
    storage.remove(f"{root}/run/a")
    if storage.is_local(root):
        (tmp_path / "run" / f".0123456789ab{storage.PARTIAL}").touch()
        (tmp_path / "linked").symlink_to(tmp_path / "run")
        storage.remove_empty(f"{root}/linked")
        assert (tmp_path / "run").exists()
    storage.remove_empty(f"{root}/run")
    assert not storage.exists(f"{root}/run")


def test_removing_a_linked_directory_keeps_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    (tmp_path / "link").symlink_to(tmp_path / "images")
    storage.remove(str(tmp_path / "link"))
    assert (tmp_path / "images" / "a.png").exists()


def test_a_directory_that_is_not_there_lists_as_empty(root: str) -> None:
    assert storage.list_files(f"{root}/nothing") == []


def test_linked_directories_are_listed(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "disk" / "a.png"), b"")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images").symlink_to(tmp_path / "disk")
    (tmp_path / "data" / "gone.png").symlink_to(tmp_path / "nowhere")
    assert storage.list_files(str(tmp_path / "data")) == ["images/a.png"]


def test_reading_many_gives_each_failure_at_its_place(root: str) -> None:
    storage.write_bytes(f"{root}/a", b"1")
    storage.write_bytes(f"{root}/b", b"2")
    first, missing, second, again, unknown = storage.read_many([f"{root}/{name}" for name in ("a", "none", "b", "a")] + ["nowhere://x"])
    assert (first, second, again) == (b"1", b"2", b"1")
    assert isinstance(missing, StorageError)
    assert str(missing) == f"{root}/none: no such file or directory; check the path."
    assert isinstance(unknown, StorageError)
    assert storage.read_many([]) == []


def test_reading_many_takes_several_storages_at_once(tmp_path: Path) -> None:
    urls = [str(tmp_path / "a"), f"memory://{uuid.uuid4().hex}/b", f"file://{tmp_path}/c"]
    for number, url in enumerate(urls):
        storage.write_bytes(url, bytes([number]))
    assert storage.read_many(urls[::-1]) == [b"\2", b"\1", b"\0"]


def test_ranges_of_files_are_read_at_once_and_each_failure_stands_at_its_place(root: str) -> None:
    storage.write_bytes(f"{root}/a", b"0123456789")
    storage.write_bytes(f"{root}/b", b"abc")
    ranges = [(f"{root}/a", 2, 5), (f"{root}/none", 0, 1), (f"{root}/b", None, None), (f"{root}/a", 8, None)]
    second, missing, whole, last = storage.read_ranges(ranges)
    assert (second, whole, last) == (b"234", b"abc", b"89")
    assert isinstance(missing, StorageError)


@pytest.mark.parametrize("name", ["cell[1].png", "a*.png", "what?.png", "100%.png", "a b.png", "#1.png"])
def test_a_file_name_is_never_taken_for_a_pattern(root: str, name: str) -> None:
    storage.write_bytes(f"{root}/{name}", b"this")
    storage.write_bytes(f"{root}/cell1.png", b"other")
    assert storage.read_many([f"{root}/{name}"]) == [b"this"]
    storage.remove(f"{root}/{name}")
    assert storage.list_files(root) == ["cell1.png"]


def test_relative_paths_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage.write_text("a.txt", "1")
    storage.write_text("runs/b.txt", "2")
    assert storage.list_files(".") == ["a.txt", "runs/b.txt"]
    assert storage.read_many(["a.txt", "./runs/../runs/b.txt"]) == [b"1", b"2"]
    assert storage.absolute("runs") == str(tmp_path / "runs")
    assert storage.name(".") == tmp_path.name


def test_the_home_directory_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    storage.write_text("~/a.txt", "1")
    assert (tmp_path / "a.txt").exists()
    assert storage.read_text("~/a.txt") == "1"


# Atomic writes


def test_a_failing_write_keeps_the_old_content_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a"
    storage.write_text(str(target), "old")
    whole = Path.write_bytes

    def disk_full(path: Path, data: bytes) -> int:
        whole(path, data[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(StorageError, match="the disk is full"):
        storage.write_text(str(target), "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_process_killed_while_it_writes_leaves_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "a"
    storage.write_text(str(target), "old")
    program = (
        "import os, signal, sys\n"
        "from dino4cells import storage\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "storage.write_text(sys.argv[1], 'new')\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(target)], check=False).returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert storage.list_files(str(tmp_path)) == ["a"]


def test_a_failing_download_leaves_no_file(root: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        storage.download(f"{root}/none", tmp_path / "to" / "here")
    assert list((tmp_path / "to").iterdir()) == []


def test_files_get_the_usual_rights(tmp_path: Path) -> None:
    (tmp_path / "by_hand").touch()
    storage.write_text(str(tmp_path / "written"), "")
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "by_hand").stat().st_mode


# Errors


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("gs://bucket/a", "gs://bucket/a: such an address wants a package that is not installed (Please install gcsfs"),
        ("nowhere://bucket/a", "nowhere://bucket/a: this address cannot be opened (Protocol not known: nowhere); use a path, s3://…"),
        ("none/a.csv", "none/a.csv: no such file or directory; check the path."),
    ],
)
def test_errors_say_what_where_and_what_to_do(url: str, sentence: str) -> None:
    with pytest.raises(StorageError) as caught:
        storage.read_bytes(url)
    assert str(caught.value).startswith(sentence)


def test_a_directory_is_not_read_as_a_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="Is a directory"):
        storage.read_bytes(str(tmp_path))


def test_a_file_in_the_place_of_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/a: .*; check the path"):
        storage.write_bytes(str(tmp_path / "file" / "a"), b"")
    with pytest.raises(StorageError, match="Not a directory"):
        storage.list_files(str(tmp_path / "file"))


def test_a_place_that_can_be_written_is_left_as_it_was(root: str) -> None:
    storage.check_writable(storage.join(root, "a/b"))
    assert storage.list_files(root) == []
    assert not storage.exists(storage.join(root, "a"))


def test_a_place_that_cannot_be_written_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("1")
    with pytest.raises(StorageError, match=r"file/a/b: cannot be read or written \(.*/file is a file\); check the path"):
        storage.check_writable(str(tmp_path / "file" / "a" / "b"))
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(StorageError, match=r"new: access is denied \(.*\); change the permissions"):
        storage.check_writable(str(tmp_path / "new"))


def test_denied_access_is_not_taken_for_absence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", denied)
    with pytest.raises(StorageError, match=r"access is denied .*; change the permissions"):
        storage.exists(str(tmp_path / "a"))


def test_missing_credentials_of_any_store_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_credentials(*_: object) -> None:
        raise NoCredentialsError

    monkeypatch.setattr(storage_asking, "open_store", no_credentials)
    with pytest.raises(StorageError, match="no credentials for this store; set AWS_ACCESS_KEY_ID"):
        storage.read_bytes("s3://bucket/a")


def test_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_bytes("5 µm".encode("latin-1"))
    with pytest.raises(StorageError, match=r"not a UTF-8 text .* at byte 2.*save it as UTF-8"):
        storage.read_text(str(tmp_path / "metadata.csv"))


# Names


@pytest.mark.parametrize(
    ("url", "parts", "joined"),
    [
        ("s3://bucket", ("a", "b.png"), "s3://bucket/a/b.png"),
        ("s3://bucket/data/", ("../images/a.png",), "s3://bucket/images/a.png"),
        ("s3://bucket/data", ("s3://other/a.png",), "s3://other/a.png"),
        ("s3://bucket/data", ("/mnt/a.png",), "/mnt/a.png"),
        ("memory://", ("a",), "memory://a"),
        ("/", ("a",), "/a"),
        ("", ("a",), "a"),
        ("data", ("../a",), "data/../a"),
        ("data", (), "data"),
    ],
)
def test_joining(url: str, parts: tuple[str, ...], joined: str) -> None:
    assert storage.join(url, *parts) == joined


@pytest.mark.parametrize(
    ("url", "parent", "name"),
    [
        ("s3://bucket/a/b.png", "s3://bucket/a", "b.png"),
        ("s3://bucket/a/", "s3://bucket", "a"),
        ("data/metadata.csv", "data", "metadata.csv"),
        ("metadata.csv", ".", "metadata.csv"),
        ("/metadata.csv", "/", "metadata.csv"),
        ("file:///metadata.csv", "file:///", "metadata.csv"),
    ],
)
def test_parent_and_name(url: str, parent: str, name: str) -> None:
    assert storage.parent(url) == parent
    assert storage.name(url) == name


@given(
    base=st.sampled_from(["s3://bucket", "memory://x", "/data", "data", "file:///data"]),
    part=st.text(alphabet=st.characters(exclude_characters="/:\0~"), min_size=1, max_size=20).filter(lambda part: part not in (".", "..")),
)
def test_parent_undoes_join(base: str, part: str) -> None:
    joined = storage.join(base, "images", part)
    assert storage.parent(joined) == storage.join(base, "images")
    assert storage.name(joined) == part


def test_locality() -> None:
    assert [storage.is_local(url) for url in ("a/b", "/a", "file:///a", "s3://a", "memory://a")] == [True, True, True, False, False]
    assert storage.absolute("s3://bucket/a") == "s3://bucket/a"
    assert storage.absolute("file:///a/../b") == "/b"
