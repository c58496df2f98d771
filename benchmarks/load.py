"""Large numbers: what stays flat, and what ends in time.

Usage: python -m benchmarks.load extraction|table|rows|soak [--seconds 600]

extraction: peak memory of extracting 10,000 and 100,000 tiny images, each in a fresh process, beside the modules and the model.
table: seconds and memory of `dino4cells data validate --no-images` on a table of 1,000,000 rows with as many files.
rows: CPU seconds and memory of reading a table of 10,000,000 rows.
soak: the loader for some minutes, by a thread and by processes, of files and of shards: memory, open files and threads must not grow.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measuring import apart
from benchmarks.reference.images import write_images
from benchmarks.works.extraction import memory_of_an_extraction, write_table
from dino4cells.config import load_config
from dino4cells.data.dataset import CellImages
from dino4cells.data.loading import BatchLoader, load_batches
from dino4cells.data.metadata import read_metadata
from dino4cells.data.packing import pack
from dino4cells.data.sampler import SampleOrder, SampleStream
from dino4cells.data.source import image_source

FEW, MANY, ROWS, MOST_ROWS = 10_000, 100_000, 1_000_000, 10_000_000
IMAGES, SIDE, CHANNELS, BATCH = 512, 32, 4, 16
MOST_GROWTH = 8.0
"""MiB, in which the memory of three processes varies."""


@dataclass(frozen=True)
class Held:
    """What this process and those that it started hold at a moment.

    Attributes:
        memory: MiB, of all processes together.
        files: open in this process.
        threads: of this process.
    """

    memory: float
    files: int
    threads: int

    @classmethod
    def now(cls) -> Held:
        own = [os.getpid(), *_descendants(os.getpid())]
        return cls(sum(_private_mib(process) for process in own), len(os.listdir("/proc/self/fd")), threading.active_count())


def _descendants(process: int) -> Iterator[int]:
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in children.read_text().split():
            yield int(child)
            yield from _descendants(int(child))


def _private_mib(process: int) -> float:
    """Memory that a process shares with no file: pages of libraries come and go as the machine likes."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return 0.0
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")) / 1024


def soak(seconds: float, *, workers: int = 2, least: int = 8) -> list[Held]:
    """Pass over images again and again, in rounds: of files by a thread, of files by processes, of shards by processes.

    Args:
        seconds: in all.
        workers: processes that read.
        least: rounds.

    Returns:
        What was held after every round.
    """
    held: list[Held] = []
    with tempfile.TemporaryDirectory() as directory:
        loaders = list(_loaders(directory, workers))
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(held) < least:
            for loader in loaders:
                with iter(loader) as batches:
                    assert sum(len(batch) for batch in batches) == IMAGES
            held.append(Held.now())
        del loader, loaders
        gc.collect()  # ends the processes that read
    return held


def _loaders(directory: str, workers: int) -> Iterator[BatchLoader]:
    paths = write_images(Path(directory, "cells", "images"), IMAGES, SIDE, CHANNELS)
    write_table(f"{directory}/cells", [f"images/{path.name}" for path in paths])
    files = read_metadata(f"{directory}/cells")
    pack(files, None, f"{directory}/packed", shard_mb=1, processes=1)
    stream = SampleStream(SampleOrder.of_rows(IMAGES), 1, BATCH)
    for metadata, processes in ((files, 0), (files, workers), (read_metadata(f"{directory}/packed"), workers)):
        # Nothing is kept, so that every pass reads and decodes.
        yield load_batches(CellImages(image_source(metadata, load_config().model), cache_bytes=0), stream, processes)


def grown(held: list[Held]) -> Held:
    """By how much the last quarter of the rounds holds more than the second: medians of memory, and most files and threads."""
    quarter = len(held) // 4
    early, late = held[quarter : 2 * quarter], held[-quarter:]
    memory = float(np.median([one.memory for one in late]) - np.median([one.memory for one in early]))
    most = [[max(getattr(one, name) for one in some) for some in (early, late)] for name in ("files", "threads")]
    return Held(memory, *(after - before for before, after in most))


def _write_rows(directory: str, rows: int) -> Iterator[Path]:
    """Write the table, and give the path of each row's file, which is not written."""
    with Path(directory, "metadata.csv").open("w") as table:
        table.write("file,ID,protein_location,cell_type,plate,well\n")
        for row in range(rows):
            name = f"{row // 1000:03d}/{row:07d}.png"
            table.write(f"{name},field-{row // 12},class {row % 35},line {row % 17},plate{row % 60},A{row % 24:02d}\n")
            yield Path(directory, name)


def read_rows(directory: str) -> tuple[int, float, float]:
    """Rows of a table, CPU seconds of reading it, and the process's peak memory in MiB; to be called in a process of its own."""
    begun = time.process_time()
    rows = len(read_metadata(directory))
    return rows, time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def validate_million() -> tuple[float, float]:
    """Seconds and MiB of validating a table of `ROWS` rows and as many files, by the command, its start included."""
    with tempfile.TemporaryDirectory() as directory:
        for row, path in enumerate(_write_rows(directory, ROWS)):
            if row % 1000 == 0:
                path.parent.mkdir()
            path.touch()
        command = [sys.executable, "-m", "dino4cells.cli", "data", "validate", "--no-images", "--data", directory]
        begun = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - begun
        return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["extraction", "table", "rows", "soak"])
    parser.add_argument("--seconds", type=float, default=600.0, help="of the soak")
    arguments = parser.parse_args()
    if arguments.work == "extraction":
        for cells in (FEW, MANY):
            begun = time.monotonic()
            memory = apart(memory_of_an_extraction, cells)
            print(f"{cells:,} images of {SIDE} px: {memory:,.0f} MiB beside the modules, {time.monotonic() - begun:,.0f} s", flush=True)
    elif arguments.work == "table":
        seconds, memory = validate_million()
        print(f"{ROWS:,} rows and files: {seconds:.1f} s, {memory:,.0f} MiB")
    elif arguments.work == "rows":
        with tempfile.TemporaryDirectory() as directory:
            for _ in _write_rows(directory, MOST_ROWS):
                pass
            rows, seconds, memory = apart(read_rows, directory)
        print(f"{rows:,} rows read: {seconds:.1f} CPU s, {memory:,.0f} MiB at the peak")
    else:
        held = soak(arguments.seconds)
        for name, one in (("first round", held[0]), ("after a quarter", held[len(held) // 4]), ("last round", held[-1])):
            print(f"{name}: {one.memory:,.1f} MiB in all processes, {one.files} open files, {one.threads} threads")
        growth = grown(held)
        print(
            f"{len(held)} rounds of {3 * IMAGES:,} images in {arguments.seconds:.0f} s; from the second quarter to the last: "
            f"{growth.memory:+.1f} MiB, {growth.files:+d} open files, {growth.threads:+d} threads"
        )
        raise SystemExit(growth.memory > MOST_GROWTH or growth.files > 0 or growth.threads > 0)


if __name__ == "__main__":
    main()
