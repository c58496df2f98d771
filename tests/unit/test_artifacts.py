from __future__ import annotations

import gc
import hashlib
import json
import os
import uuid
from pathlib import Path

import pytest

from dino4cells import storage
from dino4cells.artifacts import ArtifactWriter, is_complete, open_artifact
from dino4cells.errors import ArtifactError, StorageError
from dino4cells.manifest import MANIFEST, FileEntry


@pytest.fixture(params=["path", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "model") if request.param == "path" else f"memory://{uuid.uuid4().hex}/model"


def write(url: str, **files: str) -> None:
    with ArtifactWriter(url, "model") as writer:
        for name, text in files.items():
            writer.write_text(name, text)


def test_what_is_written_is_read_again(url: str) -> None:
    with ArtifactWriter(url, "model") as writer:
        writer.path("weights.bin").write_bytes(b"123")
        writer.write_bytes("deep/er.bin", b"45")
        writer.write_text("model.json", "{}")
    artifact = open_artifact(url, "model")
    assert artifact.url == url
    assert artifact.names == ["deep/er.bin", "model.json", "weights.bin"]
    assert artifact.read_bytes("weights.bin") == b"123"
    assert artifact.local("deep/er.bin").read_bytes() == b"45"
    assert storage.list_files(url) == ["deep/er.bin", MANIFEST, "model.json", "weights.bin"]


def test_the_manifest_holds_sizes_and_hashes(url: str) -> None:
    write(url, a="12345")
    manifest = json.loads(storage.read_text(storage.join(url, MANIFEST)))
    assert manifest["kind"] == "model"
    assert manifest["files"] == [{"name": "a", "size": 5, "sha256": hashlib.sha256(b"12345").hexdigest()}]
    assert {"version", "created"} < set(manifest)


def test_a_file_can_be_published_before_the_artifact_is_complete(url: str) -> None:
    with ArtifactWriter(url, "model") as writer:
        writer.write_text("log.jsonl", "1\n")
        entry = writer.publish("log.jsonl")
        assert entry.size == 2
        assert storage.list_files(url) == ["log.jsonl"]
        assert not is_complete(url)
        with pytest.raises(ArtifactError, match=r"is no complete model directory \(manifest.json is missing\); wait"):
            open_artifact(url, "model")
    assert open_artifact(url, "model").names == ["log.jsonl"]


def test_a_failure_leaves_no_manifest_and_keeps_what_was_published(url: str) -> None:
    def write_half() -> None:
        with ArtifactWriter(url, "model") as writer:
            writer.write_text("done", "1")
            writer.publish("done")
            writer.write_text("half", "2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert storage.list_files(url) == ["done"]
    assert not is_complete(url)


def test_staging_leaves_nothing_behind(tmp_path: Path) -> None:
    write(str(tmp_path / "model"), a="1")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["a", MANIFEST]


def test_an_older_artifact_stays_until_a_file_of_it_is_replaced(url: str) -> None:
    write(url, a="old")

    def fail_early() -> None:
        with ArtifactWriter(url, "model") as writer:
            writer.write_text("a", "new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_early()
    assert open_artifact(url, "model").read_bytes("a") == b"old"
    with ArtifactWriter(url, "model") as writer:
        writer.write_text("a", "new")
        writer.publish("a")
        assert not is_complete(url)
    assert open_artifact(url, "model").read_bytes("a") == b"new"


def test_several_processes_write_one_artifact(url: str) -> None:
    with ArtifactWriter(url, "features") as first:
        with ArtifactWriter(url, "features", with_manifest=False) as second:
            second.write_text("part-1", "b")
            entry = second.publish("part-1")
        assert not is_complete(url)
        first.write_text("part-0", "a")
        first.adopt(entry)
    artifact = open_artifact(url, "features")
    assert [artifact.read_bytes(name) for name in artifact.names] == [b"a", b"b"]


def test_files_that_only_the_old_artifact_had_are_deleted_when_the_new_one_is_complete(url: str) -> None:
    write(url, a="1", b="2")
    storage.write_text(storage.join(url, "notes.txt"), "a user's own")
    with ArtifactWriter(url, "model") as writer:
        writer.write_text("a", "3")
    assert storage.list_files(url) == ["a", "manifest.json", "notes.txt"]
    assert open_artifact(url, "model").names == ["a"]


def test_another_kind_is_refused(url: str) -> None:
    write(url, a="1")
    with pytest.raises(ArtifactError, match="is a model directory where a features directory is needed"):
        open_artifact(url, "features")


def test_a_url_with_nothing_there_says_so(url: str) -> None:
    assert not is_complete(url)
    with pytest.raises(ArtifactError, match="there is no model directory here; check the path"):
        open_artifact(url, "model")


def test_a_missing_file_is_noticed(url: str) -> None:
    write(url, a="1", b="2")
    storage.remove(storage.join(url, "b"))
    with pytest.raises(ArtifactError, match="b: the file is missing from this model"):
        open_artifact(url, "model")


def test_a_file_of_another_size_is_noticed(url: str) -> None:
    write(url, a="12345")
    storage.write_text(storage.join(url, "a"), "123")
    with pytest.raises(ArtifactError, match="a: has 3 bytes where 5 were written"):
        open_artifact(url, "model")


def test_all_contents_can_be_compared_with_the_manifest(url: str) -> None:
    write(url, a="12345", b="67890")
    artifact = open_artifact(url, "model")
    artifact.verify()
    storage.write_text(storage.join(url, "b"), "67891")
    with pytest.raises(ArtifactError, match=r"/b: the file is not the one that was written"):
        artifact.verify()


def test_a_changed_file_of_the_same_size_is_noticed_when_it_is_read(url: str) -> None:
    write(url, a="12345", b="1")
    storage.write_text(storage.join(url, "a"), "12354")
    artifact = open_artifact(url, "model")
    for read in (artifact.read_bytes, artifact.local):
        with pytest.raises(ArtifactError, match="not the one that was written"):
            read("a")
    assert artifact.read_bytes("b") == b"1"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"kind": "model"}',
        '{"kind": "model", "version": "1", "created": "", "files": [{"name": "../a", "size": 0, "sha256": "%s"}]}' % ("0" * 64),
    ],
)
def test_a_damaged_manifest_is_refused(url: str, content: str) -> None:
    storage.write_text(storage.join(url, MANIFEST), content)
    with pytest.raises(ArtifactError, match="cannot be read as a manifest; make the model again"):
        open_artifact(url, "model")


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/../../b", MANIFEST, "s3://bucket/a"])
def test_a_file_stays_inside_the_artifact(url: str, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a file in an artifact"), ArtifactWriter(url, "model") as writer:
        writer.path(name)
    with pytest.raises(ValueError, match="no name of a file in an artifact"):
        FileEntry(name=name, size=0, sha256="0" * 64)


def test_a_name_that_the_artifact_does_not_hold_is_an_error(url: str) -> None:
    write(url, a="1")
    with pytest.raises(ArtifactError, match="this model has no file 'b'"):
        open_artifact(url, "model").read_bytes("b")


def test_the_fingerprint_follows_names_and_contents_alone(tmp_path: Path) -> None:
    urls = [str(tmp_path / name) for name in "wxyz"]
    for url, files in zip(urls, [{"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "1", "b": "3"}, {"a": "1", "c": "2"}], strict=True):
        write(url, **files)
    first, same, content, name = (open_artifact(url, "model").fingerprint for url in urls)
    assert first == same
    assert len({first, content, name}) == 3


def test_a_local_artifact_is_used_where_it_is_and_a_remote_one_is_downloaded_once(url: str) -> None:
    write(url, a="1")
    artifact = open_artifact(url, "model")
    path = artifact.local("a")
    assert artifact.local("a") == path
    assert (path == Path(url, "a")) == storage.is_local(url)
    del artifact
    gc.collect()
    assert path.exists() == storage.is_local(url)


def test_a_forked_process_does_not_take_the_downloads_with_it() -> None:
    url = f"memory://{uuid.uuid4().hex}"
    write(url, a="1")
    gc.freeze()  # what was there before, which the child would copy to look through it: seconds, at the end of many tests
    artifact = open_artifact(url, "model")
    path = artifact.local("a")
    child = os.fork()
    if child == 0:
        del artifact
        gc.collect()
        os._exit(0)
    gc.unfreeze()
    assert os.waitpid(child, 0)[1] == 0
    assert path.read_text() == "1"


def test_a_place_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="check the path"), ArtifactWriter(str(tmp_path / "file" / "model"), "model"):
        raise AssertionError("the block must not start")
