"""A training in this process that may be asked to stop, and how its checkpoints are compared, for tests that interrupt and resume."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch

from dino4cells.config import Config
from dino4cells.data.metadata import read_metadata
from dino4cells.training.distributed import ProcessGroup
from dino4cells.training.fit import fit
from dino4cells.training.loop import DINO

ALONE = ProcessGroup(0, 1, 0, torch.device("cpu"))


def run(config: Config, data: str, output: Path, stop_after: int | None = None) -> None:
    """Train; with `stop_after`, SIGTERM arrives during the step after so many records."""
    records = 0

    def count(network: DINO, seen: int, seconds: float) -> None:
        nonlocal records
        records += 1
        if records == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    fit(config, read_metadata(data), str(output), ALONE, resume_directory=f"{output}.checkpoints", on_record=count)


def assert_same_bits(one: object, other: object, where: str = "") -> None:
    """Compare what a checkpoint holds."""
    if isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor)
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert isinstance(other, dict)
        assert list(one) == list(other), where
        for key in one:
            assert_same_bits(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert isinstance(other, (list, tuple))
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same_bits(left, right, f"{where}[{place}]")
    else:
        assert one == other, where
