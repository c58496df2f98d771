"""Where a process computes: on a GPU of its own, or on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dino4cells.errors import ConfigError
from dino4cells.training.distributed import device_of

CPU = torch.device("cpu")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


def test_each_process_has_a_gpu_of_its_own(gpus: Callable[[int], None]) -> None:
    gpus(4)
    assert device_of("auto", 0, 1) == torch.device("cuda", 0)
    assert [device_of("cuda", rank, 4) for rank in range(4)] == [torch.device("cuda", rank) for rank in range(4)]
    assert device_of("cpu", 0, 1) == CPU


def test_without_a_gpu_the_cpu_computes_silently(gpus: Callable[[int], None], caplog: pytest.LogCaptureFixture) -> None:
    gpus(0)
    assert device_of("auto", 1, 2) == CPU
    assert caplog.messages == []


def test_more_processes_than_gpus_compute_on_the_cpu_and_say_so_once(gpus: Callable[[int], None], caplog: pytest.LogCaptureFixture) -> None:
    gpus(1)
    assert [device_of("auto", rank, 2) for rank in range(2)] == [CPU, CPU]
    assert caplog.messages == ["2 processes cannot share 1 GPU and compute on the CPU; --processes 1 uses it."]


def test_gpus_that_were_asked_for_must_be_there(gpus: Callable[[int], None]) -> None:
    gpus(0)
    with pytest.raises(ConfigError, match="PyTorch finds 0 GPUs for 1 processes on this machine; start as many"):
        device_of("cuda", 0, 1)
