"""Extraction, the table and the order of samples, over the number of cells."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.growth.sweep import Sweep, cpu_seconds, one_core
from benchmarks.measuring import apart, peak_memory_mib
from benchmarks.reference.images import write_images
from dino4cells import steps
from dino4cells.config import load_config
from dino4cells.data.metadata import read_metadata
from dino4cells.data.sampler import SampleOrder

EXTRACTED = (1_000, 3_000, 10_000, 30_000, 100_000)
ROWS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
ORDERED = (300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000)
FILES, SIDE = 100, 16
TINY = {
    "model.patch_size": 8,
    "model.image_size": SIDE,
    "model.out_dim": 64,
    "model.head_hidden_dim": 64,
    "model.epochs": 1,
    "model.batch_size": 50,
    "local_crops_number": 0,
    "global_transfo1.RandomResizedCrop.size": SIDE,
    "global_transfo2.RandomResizedCrop.size": SIDE,
    "embedding.batch_size": 256,
    "embedding.baselines": False,
}


def sweeps() -> list[Sweep]:
    """Seconds and memory of the whole, each size in a fresh process."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_images(directory / "images", FILES, SIDE)
        write_table(directory, FILES)
        with redirect_stderr(io.StringIO()):
            steps.train(load_config(overrides=TINY), data=name, output=f"{name}/model")
        extracted = [_apart(extract, directory, rows) for rows in EXTRACTED]
        read = [_apart(read_table, directory, rows) for rows in ROWS]
    ordered = [cpu_seconds(lambda count=count: SampleOrder.of_rows(count).draw(0, 0)) for count in ORDERED]  # type: ignore[misc]
    return [
        Sweep(f"extraction of {SIDE}-px images, start-up included", "cells", "CPU s", EXTRACTED, [taken for taken, _ in extracted]),
        Sweep("memory of that extraction", "cells", "MiB", EXTRACTED, [mib for _, mib in extracted], 0.1, "the table alone grows"),
        Sweep("reading the table", "cells", "CPU s", ROWS, [taken for taken, _ in read]),
        Sweep("memory of the table", "cells", "MiB", ROWS, [mib for _, mib in read]),
        Sweep("drawing the order of an epoch", "cells", "CPU s", ORDERED, ordered, 1.1, "memory is reached at random"),
    ]


def write_table(directory: Path, rows: int) -> None:
    """A table that names the same few images again and again, since files are not what grows here."""
    numbers = np.arange(rows)
    files = np.array([f"images/cell-{number:05d}.png" for number in range(FILES)])
    frame = pd.DataFrame({"file": files[numbers % FILES], "ID": numbers // 5, "cell_type": numbers % 7, "plate": numbers % 16})
    frame.to_csv(directory / "metadata.csv", index=False)


def extract(directory: str) -> None:
    """As `dino4cells extract`."""
    with tempfile.TemporaryDirectory() as output:
        config = steps.configuration_of(f"{directory}/model", {})
        steps.extract(f"{directory}/model", config=config, data=directory, output=f"{output}/features")


def read_table(directory: str) -> None:
    """As every step does first."""
    assert len(read_metadata(directory).urls)


def _apart(work: Callable[[str], None], directory: Path, rows: int) -> tuple[float, float]:
    write_table(directory, rows)
    return apart(_measured, work, str(directory))


def _measured(work: Callable[[str], None], directory: str) -> tuple[float, float]:
    """CPU seconds and the MiB that the work added to this process."""
    with one_core(), redirect_stderr(io.StringIO()):  # no progress within a table
        before, started = peak_memory_mib(), time.process_time()
        work(directory)
        return time.process_time() - started, peak_memory_mib() - before
