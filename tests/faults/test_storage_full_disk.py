"""A disk that is full, by a real one of 4 MiB: what was there stays, and one sentence says what to do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tally import Tally


def may_mount() -> bool:
    command = shutil.which("unshare")
    mounts = [command, "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return command is not None and subprocess.run(mounts, capture_output=True, check=False).returncode == 0  # type: ignore[arg-type]


@pytest.mark.skipif(not may_mount(), reason="this machine lets nobody mount a disk of its own (unshare -Urm)")
def test_a_full_disk_leaves_what_was_there(cells: str, tiny_yaml: str, tmp_path: Path, tally: Tally) -> None:
    tally.what = "a full disk: files, artifacts, the cache, extraction"
    program = [sys.executable, "-m", "tests.faults.full_disk", cells, tiny_yaml, str(tmp_path)]
    done = subprocess.run(["unshare", "-Urm", *program], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    tried = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(tried) == 7, done.stderr
    for one in tried:
        print(one)
        tally.count(one["held"])
