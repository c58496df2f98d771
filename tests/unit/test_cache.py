"""The cache of what was read from a store: what it gives back, what it survives, and what stays at the limit."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dino4cells import storage
from dino4cells.cache import HEAD, LEDGER_FILE, PARTIAL, Cache

LARGE = 10**9
ENTRY = 1000  # bytes of the contents below


def content(number: int, size: int = ENTRY) -> bytes:
    return random.Random(number).randbytes(size)


def entries(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("*/*") if not path.name.endswith(PARTIAL))


def bytes_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in entries(directory))


def filled(directory: Path, count: int, limit: int = LARGE) -> Cache:
    cache = Cache(directory, limit)
    for number in range(count):
        cache.put(str(number), content(number))
    return cache


def later(cache: Cache) -> Cache:
    """The cache of a run that begins after all that was done."""
    return Cache(cache.directory, cache.limit, began=time.time() + 60)


def kept(cache: Cache, count: int) -> list[int]:
    found = {number: cache.get(str(number)) for number in range(count)}
    assert all(read in (None, content(number)) for number, read in found.items())
    return [number for number, read in found.items() if read is not None]


def test_what_was_put_is_given_back_to_later_processes_too(tmp_path: Path) -> None:
    cache = filled(tmp_path / "new" / "cache", 5)
    cache.put("empty", b"")
    assert Cache(tmp_path / "new" / "cache", LARGE).get("empty") == b""
    assert kept(pickle.loads(pickle.dumps(cache)), 6) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", "of another kind"])
def test_a_damaged_entry_is_not_given_and_can_be_put_anew(tmp_path: Path, damage: str) -> None:
    cache = filled(tmp_path, 1)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes({"cut": whole[:-1], "emptied": b"", "changed": whole[:-1] + bytes([whole[-1] ^ 1])}.get(damage, b"\x89PNG" * 9))
    assert cache.get("0") is None
    assert entries(tmp_path) == []
    cache.put("0", content(0))
    assert cache.get("0") == content(0)


def test_the_limit_holds_for_all_processes_together(tmp_path: Path) -> None:
    limit = 25 * (ENTRY + HEAD.size)
    program = (
        "import sys, pathlib, random; from dino4cells.cache import Cache\n"
        "cache, first = Cache(pathlib.Path(sys.argv[1]), int(sys.argv[2])), int(sys.argv[3])\n"
        f"for number in range(first, first + 30): cache.put(str(number), random.Random(number).randbytes({ENTRY}))"
    )
    # The second process puts some of the keys of the first.
    writers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(limit), str(first)]) for first in (0, 20)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(kept(Cache(tmp_path, limit), 50)) >= 24
    assert bytes_of(tmp_path) <= limit


def test_an_entry_larger_than_the_limit_pushes_nothing_out(tmp_path: Path) -> None:
    cache = later(filled(tmp_path, 5, limit=6000))
    cache.put("large", content(0, 7000))
    assert cache.get("large") is None
    assert kept(cache, 5) == [0, 1, 2, 3, 4]


def test_epochs_larger_than_the_limit_find_the_same_share_each_time(tmp_path: Path) -> None:
    cache = filled(tmp_path, 40, limit=20 * (ENTRY + HEAD.size))
    first = kept(cache, 40)
    assert len(first) == 20
    for number in random.Random(1).sample(range(40), 40):
        if cache.get(str(number)) is None:
            cache.put(str(number), content(number))
    assert kept(cache, 40) == first


def test_what_no_run_uses_any_more_makes_room_and_what_is_used_stays(tmp_path: Path) -> None:
    limit = 20 * (ENTRY + HEAD.size)
    cache = later(filled(tmp_path, 20, limit))
    for entry in entries(tmp_path):
        os.utime(entry, (0, 0))
    now = Cache(tmp_path, limit)
    used = [number for number in range(5) if now.get(str(number))]
    for number in range(100, 130):
        now.put(str(number), content(number))
    assert used == [0, 1, 2, 3, 4]
    assert [number for number in kept(cache, 20) if number < 5] == used
    assert sum(now.get(str(number)) is not None for number in range(100, 130)) >= 15
    assert bytes_of(tmp_path) <= limit


def test_entries_are_looked_through_once_where_all_are_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, counts = filled(tmp_path, 20, limit=20 * (ENTRY + HEAD.size)), []
    count = Cache._counted
    monkeypatch.setattr(Cache, "_counted", lambda cache: counts.append(1) or count(cache))
    for number in range(20, 40):
        cache.put(str(number), content(number))
    assert len(counts) == 1


def test_filling_goes_on_after_a_kill(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, random; from dino4cells.cache import Cache\n"
        "cache, number = Cache(pathlib.Path(sys.argv[1]), 10**9), 0\n"
        "while True:\n"
        f"    cache.put(str(number), random.Random(number).randbytes({ENTRY})); number += 1\n"
        "    print(number, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        while int(writer.stdout.readline()) < 50:
            pass
        writer.send_signal(signal.SIGKILL)
    cache = Cache(tmp_path, LARGE)
    assert kept(cache, 50) == list(range(50))
    cache.put("next", b"1")
    assert cache.get("next") == b"1"


def test_what_a_killed_process_left_is_deleted_when_room_is_made(tmp_path: Path) -> None:
    cache = filled(tmp_path, 10, limit=10 * (ENTRY + HEAD.size))
    left, growing = (entries(tmp_path)[0].with_name(f".{name}{PARTIAL}") for name in ("left", "growing"))
    for part in (left, growing):
        part.write_bytes(content(0))
    os.utime(left, (0, 0))
    later(cache).put("10", content(10))
    assert growing.exists()
    assert not left.exists()


@pytest.mark.parametrize("lost", ["ledger", "all"])
def test_a_directory_that_was_emptied_by_hand_is_filled_again(tmp_path: Path, lost: str) -> None:
    limit = 10 * (ENTRY + HEAD.size)
    cache = filled(tmp_path, 8, limit)
    if lost == "all":
        for entry in entries(tmp_path):
            entry.unlink()
    (tmp_path / LEDGER_FILE).unlink()
    for number in range(20):
        cache.put(str(number), content(number))
    assert kept(cache, 20) == list(range(10))
    assert bytes_of(tmp_path) <= limit


def test_a_place_that_cannot_be_written_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    cache = filled(tmp_path / "file" / "cache", 3)
    assert cache.get("0") is None
    # Processes that read for this one begin with what it knows.
    pickle.loads(pickle.dumps(cache)).put("3", content(3))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{tmp_path}/file/cache: cannot be written (Not a directory); images that are not in this cache are read" in caplog.text


def test_a_full_disk_is_named_once_for_all_processes_and_read_from_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, other = filled(tmp_path, 5), Cache(tmp_path, LARGE)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        for number in range(5, 10):
            cache.put(str(number), content(number))
    other.put("10", content(10))
    assert kept(cache, 20) == [0, 1, 2, 3, 4]
    assert [path.name for path in tmp_path.rglob(f"*{PARTIAL}")] == []
    assert len(caplog.records) == 1
    assert "(No space left on device)" in caplog.text
    # The next run tries again.
    later(cache).put("10", content(10))
    assert kept(cache, 20) == [0, 1, 2, 3, 4, 10]


def test_a_directory_that_may_only_be_read_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = later(filled(tmp_path, 1))

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "utime", refuse)
    assert cache.get("0") == content(0)


def test_what_lies_on_this_machine_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"1")
    storage.write_bytes("memory://image", b"2")
    cache = Cache(tmp_path / "cache", LARGE)
    urls = [f"{tmp_path}/image", f"file://{tmp_path}/image", "memory://image"]
    assert storage.read_many(urls, cache) == [b"1", b"1", b"2"]
    assert not cache.directory.exists()
