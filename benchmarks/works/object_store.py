"""An object store that answers 50 ms late: 3,000 objects of 100 KB, and training from the cache of their images.

The sequential reader keeps a connection open, asks for an object and waits for it. Ours is `storage.read_many` over s3fs, a batch after
the other in one process. Nothing is decoded there. Training makes tiny views, so that reading and decoding have a large share of a step,
and keeps no decoded images from epoch to epoch, as where data are larger than the memory.
"""

from __future__ import annotations

import http.client
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import torch

from benchmarks.measuring import Machine, Row, alternate, seconds
from benchmarks.reference.images import write_images
from benchmarks.slow_store import SlowStore, slow_store
from dino4cells import storage
from dino4cells.config import Config, load_config
from dino4cells.data.dataset import CellImages
from dino4cells.data.loading import load_batches
from dino4cells.data.metadata import read_table
from dino4cells.data.sampler import SampleStream
from dino4cells.data.source import image_source
from dino4cells.data.strata import sample_order
from dino4cells.training.distributed import ProcessGroup
from dino4cells.training.loop import DINO
from dino4cells.training.schedules import Schedules

LATE_SECONDS = 0.05
OBJECTS, OBJECT_BYTES, BATCH = 3000, 100_000, 64
READ_ONE_BY_ONE = 200  # of the objects; all would take the sequential reader two and a half minutes
IMAGES, SIDE = 256, 216  # a PNG of four channels and 216 px has about 100 KB
DRAWN = 48  # different images among them
TINY_VIEWS = {
    "model.arch": "vit_tiny",
    "model.image_size": 32,
    "model.out_dim": 1024,
    "model.num_workers": 0,
    "model.batch_size": 32,
    "global_transfo1.RandomResizedCrop.size": 32,
    "global_transfo2.RandomResizedCrop.size": 32,
    "local_transfo.RandomResizedCrop.size": 16,
    "local_crops_number": 2,
}


class Training:
    """Epochs of training, each by steps on batches that are read ahead."""

    def __init__(self, config: Config, data: str) -> None:
        metadata = read_table(config, data)
        source = image_source(metadata, config.model)
        self.images = CellImages(source, cache_bytes=0)
        batch = config.model.batch_size or 1
        self.stream = SampleStream(sample_order(metadata, config), epochs=100, batch_size=batch, seed=0)
        schedules = Schedules.from_config(config.model, len(source), self.stream.total, batch)
        self.dino = DINO(config, source.in_channels, schedules, ProcessGroup(0, 1, 0, torch.device("cpu")))
        self.seen = 0

    def __call__(self) -> None:
        epoch = replace(self.stream, start=self.seen, epochs=self.seen // IMAGES + 1)
        with iter(load_batches(self.images, epoch, workers=0)) as batches:
            for batch in batches:
                self.dino.step(batch, self.seen)
                self.seen += len(batch)


def measure(machine: Machine) -> list[Row]:
    """Objects a second, and images a second of training from the warm cache and from local files."""
    with tempfile.TemporaryDirectory() as directory, slow_store(Path(directory), LATE_SECONDS) as store:
        return [_reading(Path(directory, "objects"), store), _training(Path(directory), store)]


def _reading(bucket: Path, store: SlowStore) -> Row:
    bucket.mkdir()
    names = [f"{number:04d}.png" for number in range(OBJECTS)]
    (bucket / names[0]).write_bytes(os.urandom(OBJECT_BYTES))
    for name in names[1:]:
        os.link(bucket / names[0], bucket / name)
    urls = [f"s3://{bucket.name}/{name}" for name in names]
    theirs = seconds(lambda: read_one_by_one(store, names[:READ_ONE_BY_ONE]), rounds=1, warm_up=0) / READ_ONE_BY_ONE
    mine = seconds(lambda: read_in_batches(urls), rounds=2, warm_up=0) / OBJECTS
    note = f"by one process in batches of {BATCH}; the reference reads {READ_ONE_BY_ONE} of them"
    return Row(f"reading {OBJECTS:,} objects of 100 KB, 50 ms late", 1 / theirs, 1 / mine, "objects/s", theirs / mine, target=25, note=note)


def read_one_by_one(store: SlowStore, names: Sequence[str]) -> None:
    """Ask for an object, wait for it, ask for the next."""
    connection = http.client.HTTPConnection(urlsplit(store.endpoint).netloc)
    for name in names:
        connection.request("GET", f"/objects/{name}")
        assert len(connection.getresponse().read()) == OBJECT_BYTES
    connection.close()


def read_in_batches(urls: Sequence[str]) -> None:
    """Ask for a batch, wait for it, ask for the next."""
    for first in range(0, len(urls), BATCH):
        assert all(len(content) == OBJECT_BYTES for content in storage.read_many(urls[first : first + BATCH]) if isinstance(content, bytes))


def _training(directory: Path, store: SlowStore) -> Row:
    local = directory / "cells"
    drawn = write_images(local / "images", DRAWN, SIDE)
    copies = [shutil.copyfile(drawn[number % DRAWN], local / "images" / f"{number}.png") for number in range(IMAGES)]
    (local / "metadata.csv").write_text("file\n" + "".join(f"images/{copy.name}\n" for copy in copies))
    (local / "channels.txt").write_text("microtubules\nprotein\nnucleus\nER\n")
    config = load_config(overrides={**TINY_VIEWS, "model.cache_dir": str(directory / "cache")})
    sides: dict[str, Callable[[], None]] = {"files": Training(config, str(local)), "cache": Training(config, f"s3://{local.name}")}
    sides["cache"]()
    asked = store.requests()
    best = alternate(sides, rounds=6)
    assert store.requests() == asked, "the second epoch asked the store"
    kilobytes = sum(path.stat().st_size for path in drawn) / DRAWN / 1000
    note = f"reference: local files; images of {kilobytes:.0f} KB, tiny views; no request after the first epoch"
    files, cache = best["files"], best["cache"]
    return Row("training from a warm cache of a store", IMAGES / files, IMAGES / cache, "images/s", files / cache, target=0.95, note=note)
