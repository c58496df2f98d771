"""Cores of a container, by the files in which Linux says its limits."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from dino4cells.cores import available_cores

QUARTER = 0.25  # of what this machine has


@pytest.mark.parametrize("version", [1, 2])
def test_a_share_of_time_counts_as_cores_rounded_up(version: int, tmp_path: Path) -> None:
    ours = available_cores(tmp_path)
    for share, cores in ((QUARTER, 1), (ours - QUARTER, ours), (ours * QUARTER, math.ceil(ours * QUARTER)), (ours + 5, ours)):
        write(tmp_path, version, str(round(100_000 * share)))
        assert available_cores(tmp_path) == cores


@pytest.mark.parametrize(("version", "quota"), [(1, "-1"), (2, "max"), (2, "none"), (2, "")])
def test_without_a_limit_all_cores_count_that_the_process_may_run_on(version: int, quota: str, tmp_path: Path) -> None:
    expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert available_cores(tmp_path / "none") == expected
    write(tmp_path, version, quota)
    assert available_cores(tmp_path) == expected


def write(cgroup: Path, version: int, quota: str) -> None:
    files = (
        {"cpu.max": f"{quota} 100000\n"} if version == 2 else {"cpu/cpu.cfs_quota_us": f"{quota}\n", "cpu/cpu.cfs_period_us": "100000\n"}
    )
    for name, content in files.items():
        (cgroup / name).parent.mkdir(exist_ok=True)
        (cgroup / name).write_text(content)
