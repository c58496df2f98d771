"""How many cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path


def available_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Those that it may run on, and no more than its container's share of their time comes to (Kubernetes' `limits.cpu`).

    More threads than that would stand still for most of the time, each waiting for the others.

    Args:
        cgroup: where Linux says the limits of the container.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(allowed, _share(cgroup)))


def _share(cgroup: Path) -> float:
    """Seconds of work by all cores together that a container is given in a second; infinite where nobody says."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # of cgroups of version 2, and 1
        try:
            quota, period = (int(number) for file in files for number in (cgroup / file).read_text().split())
        except (OSError, ValueError):  # not there, or `max`
            continue
        if quota > 0 and period > 0:
            return quota / period
    return math.inf
