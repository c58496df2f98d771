"""Millions of small images, in small: an epoch over cells of a few KB that are files of their own, and that are packed into shards.

Both sides are this project's own: `ImageSource.contents` of one batch after the other, in the order of training, whole files against
blocks of shards. Nothing is decoded. The store answers 50 ms late; from it the files are read for a part of the epoch.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import Machine, Row
from benchmarks.reference.images import write_images
from benchmarks.slow_store import SlowStore, slow_store
from dino4cells.config import load_config
from dino4cells.data.block_order import BlockOrder
from dino4cells.data.metadata import read_table
from dino4cells.data.packing import pack
from dino4cells.data.sampler import SampleStream
from dino4cells.data.shards import BLOCK_BYTES
from dino4cells.data.source import image_source
from dino4cells.data.strata import sample_order

LATE_SECONDS = 0.05
CELLS, DRAWN, SIDE, BATCH = 20_000, 200, 64, 64
READ_FROM_FILES = 3200  # of the cells, from the store
SHARD_MB = 64


@dataclass(frozen=True)
class Epoch:
    """What reading takes, per image.

    Attributes:
        seconds, cpu_seconds: on the clock, and of this process's processors.
        requests: to the store.
        open_bytes: most that blocks take in memory.
    """

    seconds: float
    cpu_seconds: float
    requests: float
    open_bytes: int


def measure(machine: Machine) -> list[Row]:
    """Images a second from a store and from a disk, CPU time and requests of an image."""
    with tempfile.TemporaryDirectory() as name, slow_store(Path(name), LATE_SECONDS) as store:
        directory = Path(name)
        kilobytes = write_cells(directory / "files")
        started = time.perf_counter()
        settings = load_config()
        pack(read_table(settings, str(directory / "files")), None, str(directory / "packed"), shard_mb=SHARD_MB, processes=1)
        packing = time.perf_counter() - started
        local_files, local_shards = _read(str(directory / "files"), CELLS), _read(str(directory / "packed"), CELLS)
        files, shards = _read("s3://files", READ_FROM_FILES, store), _read("s3://packed", CELLS, store)
    open_mib = f"{shards.open_bytes / 2**20:,.0f} MiB of open blocks"
    late = f"an epoch of {CELLS:,} cells of {kilobytes:.0f} KB"
    return [
        _rates(f"{late}: files, shards; a store 50 ms late", files, shards, f"{open_mib}; from files {READ_FROM_FILES:,} of them"),
        Row("… CPU time of an image", files.cpu_seconds * 1e3, shards.cpu_seconds * 1e3, "ms", files.cpu_seconds / shards.cpu_seconds),
        Row("… requests of an image", files.requests, shards.requests, "requests", files.requests / shards.requests),
        _rates(f"{late}: files, shards; this machine's disk", local_files, local_shards, "both in the system's cache"),
        Row(f"packing {CELLS:,} cells", None, CELLS / packing, "images/s", None, note="one process, on this machine's disk, and read back"),
    ]


def write_cells(directory: Path) -> float:
    """A table of cells, of which some share what they hold; returns kilobytes of one."""
    drawn = write_images(directory / "drawn", DRAWN, SIDE)
    names = [f"{number:05d}.png" for number in range(CELLS)]
    for number, name in enumerate(names):
        os.link(drawn[number % DRAWN], directory / name)
    (directory / "metadata.csv").write_text("file\n" + "".join(f"{name}\n" for name in names))
    (directory / "channels.txt").write_text("microtubules\nprotein\nnucleus\nER\n")
    return sum(path.stat().st_size for path in drawn) / DRAWN / 1000


def _read(data: str, images: int, store: SlowStore | None = None) -> Epoch:
    """So many images of an epoch of training, a batch after the other."""
    config = load_config()
    metadata = read_table(config, data)
    order, source = sample_order(metadata, config), image_source(metadata, config.model)
    open_bytes = 0
    if isinstance(order, BlockOrder):
        source, open_bytes = source.buffered(order, 1), order.open_blocks(1) * BLOCK_BYTES
    asked: Callable[[], int] = store.requests if store else int
    before, started, cpu = asked(), time.perf_counter(), time.process_time()
    read = 0
    for batch in SampleStream(order, epochs=1, batch_size=BATCH):
        read += sum(isinstance(content, bytes) for row in source.contents([row for _, row in batch]) for content in row)
        if read >= images // BATCH * BATCH:
            break
    if read != images // BATCH * BATCH:
        raise RuntimeError(f"{read} of {images} images were read")
    return Epoch((time.perf_counter() - started) / read, (time.process_time() - cpu) / read, (asked() - before) / read, open_bytes)


def _rates(work: str, files: Epoch, shards: Epoch, note: str) -> Row:
    return Row(work, 1 / files.seconds, 1 / shards.seconds, "images/s", files.seconds / shards.seconds, note=note)
