"""The cache before an object store that counts what it is asked, and reads of many objects at once."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.slow_store import SlowStore, slow_store
from dino4cells import steps, storage
from dino4cells.cache import Cache
from dino4cells.config import Config
from dino4cells.data.block_order import BlockOrder
from dino4cells.data.dataset import CellImages
from dino4cells.data.loading import load_batches
from dino4cells.data.metadata import read_metadata, read_table
from dino4cells.data.packing import pack
from dino4cells.data.source import image_source
from dino4cells.data.strata import sample_order
from dino4cells.features.parts import Batches, Rows

SECONDS = 0.02  # each answer is late by

DATA = "s3://bucket/cells"

TinyConfig = Callable[..., Config]


@pytest.fixture
def store(cells: str, tmp_path: Path) -> Iterator[SlowStore]:
    """Serves the tiny cells as `s3://bucket/cells`."""
    shutil.copytree(cells, tmp_path / "served" / "bucket" / "cells")
    with slow_store(tmp_path / "served", SECONDS) as server:
        yield server


def images_of(config: Config, data: str = DATA) -> CellImages:
    return CellImages(image_source(read_table(config, data), config.model), cache_bytes=0)


def requests_for_the_table(store: SlowStore) -> int:
    """What a run asks for besides images: the table and the names of the channels, which are read anew each time."""
    before = store.requests()
    read_metadata(DATA)
    return store.requests() - before


def read_epoch(images: CellImages) -> dict[int, torch.Tensor]:
    stream = Batches([Rows(number=0, start=0, stop=len(images))], batch_size=8)
    batches = load_batches(images, stream, workers=0)
    return {index: image for batch in batches for index, image in zip(batch.index_B.tolist(), batch.images_BCHW, strict=True)}


def test_objects_are_asked_for_at_once(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    for number in range(40):
        (tmp_path / "bucket" / f"{number}").write_bytes(bytes([number]))
    # Late enough for all to be asked for before the first is answered, also where cores are shared.
    with slow_store(tmp_path, seconds=1) as late:
        read = storage.read_many([f"s3://bucket/{number}" for number in range(40)])
        assert read == [bytes([number]) for number in range(40)]
        assert late.counts() == {"requests": 40, "now": 0, "most_at_once": 40}


def test_a_second_epoch_asks_the_store_for_nothing(store: SlowStore, cells: str, tiny_config: TinyConfig, tmp_path: Path) -> None:
    table = requests_for_the_table(store)
    before = store.requests()
    images = images_of(tiny_config(cache_dir=str(tmp_path / "cache")))
    elsewhere = pickle.loads(pickle.dumps(images))  # as processes that read get it
    epochs = [read_epoch(images), read_epoch(elsewhere)]
    assert store.requests() - before == table + 24
    local = read_epoch(images_of(tiny_config(), cells))
    for epoch in epochs:
        assert epoch.keys() == local.keys()
        assert all(torch.equal(epoch[index], local[index]) for index in local)


def test_without_a_cache_each_epoch_asks_again(store: SlowStore, tiny_config: TinyConfig) -> None:
    images = images_of(tiny_config())
    before = store.requests()
    read_epoch(images)
    read_epoch(images)
    assert store.requests() - before == 48


def test_training_and_extraction_share_a_cache_that_outlives_them(
    store: SlowStore, cells: str, tiny_config: TinyConfig, tmp_path: Path
) -> None:
    """And what is learnt is what local files teach."""
    config = tiny_config(cache_dir=str(tmp_path / "cache"), epochs=1)
    card = steps.train(config, data=DATA, output=str(tmp_path / "model"))
    table = requests_for_the_table(store)
    asked = store.requests()
    steps.extract(str(tmp_path / "model"), data=DATA, output=str(tmp_path / "features"))
    steps.train(config, data=DATA, output=str(tmp_path / "again"))
    assert store.requests() - asked == 2 * table
    local = steps.train(tiny_config(epochs=1), data=cells, output=str(tmp_path / "local"))
    assert local.training.loss_end == card.training.loss_end


READ_ALL = """
import sys, pathlib
from dino4cells import storage
from dino4cells.cache import Cache
print("ready", flush=True)
sys.stdin.readline()
urls = [f"s3://bucket/{number}" for number in range(40)]
for first in range(0, 40, 10):
    assert storage.read_many(urls[first : first + 10], Cache(pathlib.Path(sys.argv[1]), 10**9)) == [
        bytes([number]) * 50_000 for number in range(first, first + 10)
    ]
"""


def test_blocks_of_packed_images_are_kept_too(store: SlowStore, cells: str, tiny_config: TinyConfig, tmp_path: Path) -> None:
    pack(read_metadata(cells), None, str(tmp_path / "served" / "bucket" / "packed"), processes=1)
    config = tiny_config(cache_dir=str(tmp_path / "cache"))
    metadata = read_table(config, "s3://bucket/packed")
    order, source = sample_order(metadata, config), image_source(metadata, config.model)
    assert isinstance(order, BlockOrder)
    first = read_epoch(CellImages(source.buffered(order, 1), cache_bytes=0))
    before = store.requests()
    second = read_epoch(CellImages(source.buffered(order, 1), cache_bytes=0))
    assert store.requests() == before
    local = read_epoch(images_of(tiny_config(), cells))
    assert all(torch.equal(first[index], local[index]) and torch.equal(second[index], local[index]) for index in local)


def test_two_processes_fill_one_cache_at_once(store: SlowStore, tmp_path: Path) -> None:
    contents = [bytes([number]) * 50_000 for number in range(40)]
    for number, content in enumerate(contents):
        (tmp_path / "served" / "bucket" / f"{number}").write_bytes(content)
    cache = Cache(tmp_path / "cache", 10**9)
    command = [sys.executable, "-c", READ_ALL, str(cache.directory)]
    readers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for reader in readers:
        assert reader.stdout is not None
        reader.stdout.readline()
    for reader in readers:
        reader.communicate("go\n")
    assert [reader.returncode for reader in readers] == [0, 0]
    asked = store.requests()
    assert 40 <= asked <= 80
    assert storage.read_many([f"s3://bucket/{number}" for number in range(40)], cache) == contents
    assert store.requests() == asked
    assert len([path for path in cache.directory.glob("*/*") if path.is_file()]) == 40


def test_a_cut_entry_is_read_from_the_store_again(store: SlowStore, tmp_path: Path) -> None:
    url, cache = "s3://bucket/cells/images/000.png", Cache(tmp_path / "cache", 10**9)
    (whole,) = storage.read_many([url], cache)
    (entry,) = cache.directory.glob("*/*")
    entry.write_bytes(entry.read_bytes()[:-100])
    assert storage.read_many([url], cache) == [whole]
    assert storage.read_many([url], cache) == [whole]
    assert store.requests() == 2


def test_what_cannot_be_read_is_not_kept(store: SlowStore, tmp_path: Path) -> None:
    url, cache = "s3://bucket/later", Cache(tmp_path / "cache", 10**9)
    (missing,) = storage.read_many([url], cache)
    assert isinstance(missing, storage.StorageError)
    (tmp_path / "served" / "bucket" / "later").write_bytes(b"1")
    assert storage.read_many([url], cache) == [b"1"]


def test_ranges_of_an_object_and_objects_of_another_store_are_other_entries(
    s3: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, cache = s3(), Cache(tmp_path / "cache", 10**9)
    storage.write_bytes(f"{bucket}/a", b"0123")
    for _ in range(2):
        assert storage.read_ranges([(f"{bucket}/a", 0, 2), (f"{bucket}/a", 1, 3), (f"{bucket}/a", None, None)], cache) == [
            b"01",
            b"12",
            b"0123",
        ]
    elsewhere = tmp_path / "served" / bucket.removeprefix("s3://")
    elsewhere.mkdir(parents=True)
    (elsewhere / "a").write_bytes(b"other")
    with slow_store(tmp_path / "served", 0):
        assert storage.read_many([f"{bucket}/a"], cache) == [b"other"]
    # Kubeflow's word for the same store.
    assert storage.read_many([f"{bucket}/a".replace("s3://", "minio://")], cache) == [b"0123"]


def test_training_goes_on_where_nothing_can_be_kept(
    store: SlowStore, tiny_config: TinyConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    images = images_of(tiny_config(cache_dir=f"{tmp_path}/file/cache"))
    assert len(read_epoch(images)) == 24
    assert [record.message for record in caplog.records if record.name == "dino4cells.cache"] == [
        f"{tmp_path}/file/cache: cannot be written (Not a directory); images that are not in this cache are read from their store."
    ]


def test_files_of_this_machine_are_not_kept(cells: str, tiny_config: TinyConfig, tmp_path: Path) -> None:
    assert len(read_epoch(images_of(tiny_config(cache_dir=str(tmp_path / "cache")), cells))) == 24
    assert not (tmp_path / "cache").exists()


def test_a_table_without_a_configuration_has_no_cache(cells: str) -> None:
    assert read_metadata(cells).cache is None
