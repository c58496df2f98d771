"""What a run says about its speed, its waiting and its memory."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from dino4cells.training import throughput
from dino4cells.training.distributed import ProcessGroup
from dino4cells.training.throughput import Stopwatch, Throughput, peak_memory_gib

ALONE = ProcessGroup(0, 1, 0, torch.device("cpu"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which a test moves."""
    now = [1000.0]
    monkeypatch.setattr(throughput.time, "monotonic", lambda: now[0])
    return now


def test_a_lap_is_measured_from_the_one_before_and_the_whole_from_the_start(clock: list[float]) -> None:
    watch = Stopwatch(ALONE, batch_size=8, seen=80)  # a resumed run
    clock[0] += 10
    first = watch.lap(seen=80 + 40, waited=5.0)
    clock[0] += 2
    second = watch.lap(seen=80 + 80, waited=5.5)
    assert (first.images_per_second, first.step_seconds, first.data_wait) == (4, 2, 0.5)
    assert (second.images_per_second, second.step_seconds, second.data_wait) == (20, 0.4, 0.25)
    whole = watch.whole()
    assert whole.images_per_second == pytest.approx(80 / 12)
    assert whole.data_wait == pytest.approx(5.5 / 12)
    assert watch.seconds == 12


def test_a_run_that_did_nothing_has_a_speed_of_zero(clock: list[float]) -> None:
    assert Stopwatch(ALONE, batch_size=8, seen=80).whole().images_per_second == 0


def test_waiting_is_mentioned_where_it_costs_something() -> None:
    assert str(Throughput(10, 0.8, 0.01, 1.234)) == "1.2 GiB"
    assert str(Throughput(10, 0.8, 0.24, 1.234)) == "24% waiting for data · 1.2 GiB"


def test_memory_is_at_least_what_is_held_now_and_at_most_what_the_system_ever_counted() -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc to compare with")
    now = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**30
    counted = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert 0.05 < 0.9 * now < peak_memory_gib(torch.device("cpu")) < 1.1 * counted
