"""How fast a run goes, what it waits for, and the memory it takes."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from dino4cells.training.distributed import ProcessGroup, max_over_ranks

_STATUS = Path("/proc/self/status")
WORTH_SAYING = 0.03  # share of waiting below which nobody can gain anything by better reading


@dataclass(frozen=True)
class Throughput:
    """Over a stretch of a run, all processes together.

    Attributes:
        images_per_second: over all processes, everything between two steps counted.
        step_seconds: mean time from one step to the next.
        data_wait: share of that time, 0 to 1, for which the process that waited longest had no batch to compute on.
        memory_gib: the most that a process has held so far: on the GPU where it computes on one, else resident in main memory.
    """

    images_per_second: float
    step_seconds: float
    data_wait: float
    memory_gib: float

    def record(self) -> dict[str, float]:
        """As in log.jsonl and model.json."""
        return asdict(self)

    def __str__(self) -> str:
        waiting = f"{self.data_wait:.0%} waiting for data · " if self.data_wait >= WORTH_SAYING else ""
        return f"{waiting}{self.memory_gib:.1f} GiB"


class _Reading(NamedTuple):
    clock: float
    seen: int
    waited: float


class Stopwatch:
    """Measures a run's throughput over laps and as a whole. It looks at clocks alone: a GPU is not waited for.

    Args:
        group: the processes; all of them must ask at the same steps.
        batch_size: images of a step over all processes.
        seen: images seen before.
    """

    def __init__(self, group: ProcessGroup, batch_size: int, seen: int) -> None:
        self._group, self._batch_size = group, batch_size
        self._start = self._before = self._now = _Reading(time.monotonic(), seen, 0.0)

    @property
    def seconds(self) -> float:
        """From the start to the last lap."""
        return self._now.clock - self._start.clock

    def lap(self, seen: int, waited: float) -> Throughput:
        """Throughput since the last lap. Where the steps' results were just read, their computation is counted too.

        Args:
            seen: images seen by now.
            waited: seconds that this process has waited for batches since the start.
        """
        self._before, self._now = self._now, _Reading(time.monotonic(), seen, waited)
        return self._between(self._before, self._now)

    def whole(self) -> Throughput:
        """Throughput from the start to the last lap."""
        return self._between(self._start, self._now)

    def _between(self, before: _Reading, now: _Reading) -> Throughput:
        seconds, images = max(now.clock - before.clock, 1e-9), now.seen - before.seen
        device = self._group.device
        here = torch.tensor([(now.waited - before.waited) / seconds, peak_memory_gib(device)], dtype=torch.float64, device=device)
        data_wait, memory_gib = max_over_ranks(here).tolist()
        return Throughput(images / seconds, seconds * self._batch_size / max(images, 1), min(data_wait, 1.0), memory_gib)


def peak_memory_gib(device: torch.device) -> float:
    """The most memory in GiB that tensors have held on a GPU, or that this process has held in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if _STATUS.exists():  # Linux; there `ru_maxrss` begins with what the process held that started this one
        most = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(most.split()[1]) / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
