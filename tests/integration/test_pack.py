"""Packing on an S3 server over HTTP, killed and continued; and training, extraction and looking at packed images as at files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import boto3
import numpy as np
import pytest
import torch
from training_alone import run

from dino4cells import steps, storage
from dino4cells.artifacts import open_artifact
from dino4cells.config import Config
from dino4cells.data.metadata import read_metadata
from dino4cells.data.packing import pack
from dino4cells.data.shards import KIND
from dino4cells.data.strata import sample_order
from dino4cells.errors import CheckpointError, Interrupted
from dino4cells.features.store import read_features


class Finished(Protocol):
    """How a command ended and what it printed."""

    code: int
    out: str


MakeConfig = Callable[..., Config]
DEADLINE = 120


def written_at(url: str) -> dict[str, str]:
    """When each object below a URL was written, and the hash of its content."""
    place = urlsplit(url)
    listed = boto3.client("s3").list_objects_v2(Bucket=place.netloc, Prefix=place.path.lstrip("/"))
    return {entry["Key"]: f"{entry['LastModified']} {entry['ETag']}" for entry in listed.get("Contents", [])}


def test_a_packing_that_is_killed_goes_on_with_the_shards_that_are_missing(
    s3: Callable[[], str], draw_cells: Callable[..., str], dino4cells: Callable[..., Finished], tmp_path: Path
) -> None:
    bucket, data = s3(), draw_cells(tmp_path / "data", 120, sizes=[(128, 128)])
    for name in storage.list_files(data):
        storage.upload(Path(data, name), f"{bucket}/cells/{name}")
    words = ["data", "pack", "--data", f"{bucket}/cells", "--to", f"{bucket}/packed", "--shard-mb", "1", "--processes"]
    killed = subprocess.Popen([sys.executable, "-m", "dino4cells.cli", *words, "2"], start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + DEADLINE
    while not any("shard-" in name for name in storage.list_files(f"{bucket}/packed.packing")):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.02)  # the server runs in this process
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    names = storage.list_files(f"{bucket}/packed.packing")
    finished = [f"packed/shards/cells-{name[6:12]}.tar" for name in names if name.startswith("shard-")]
    assert not storage.exists(f"{bucket}/packed/manifest.json")
    before = written_at(f"{bucket}/packed/")

    done = dino4cells(*words, "1")
    after = written_at(f"{bucket}/packed/")
    shards = [name for name in after if name.endswith(".tar")]
    assert done.code == 0
    assert finished
    assert {name: after[name] for name in finished} == {name: before[name] for name in finished}
    assert len(shards) > len(finished)
    assert f"{bucket}/packed: 120 cells, " in done.out
    assert f" MB of images in {len(shards)} shards" in done.out
    assert storage.list_files(f"{bucket}/packed.packing") == []
    open_artifact(f"{bucket}/packed", KIND).verify()

    again = read_metadata(f"{bucket}/packed")
    contents = again.packed.contents(range(120), None)  # type: ignore[union-attr]
    assert [content for (content,) in contents] == [Path(data, file).read_bytes() for file in again.frame["file"]]


@pytest.fixture(scope="module")
def packed(cells: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("packed") / "packed")
    pack(read_metadata(cells), None, place)
    return place


def test_packed_images_give_the_model_and_the_features_of_the_files_bit_for_bit(
    cells: str, packed: str, s3: Callable[[], str], tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, config = s3(), tiny_config(epochs=1, shuffle_blocks=0)
    for name in storage.list_files(packed):
        storage.upload(Path(packed, name), f"{bucket}/packed/{name}")
    for place, data in (("files", cells), ("packed", f"{bucket}/packed")):
        steps.train(config, data=data, output=str(tmp_path / place / "model"))
        steps.extract(str(tmp_path / place / "model"), config=config, data=data, output=str(tmp_path / place / "features"))

    weights = [(tmp_path / place / "model" / "model.safetensors").read_bytes() for place in ("files", "packed")]
    features = [read_features(str(tmp_path / place / "features")) for place in ("files", "packed")]
    assert weights[0] == weights[1]
    assert features[0].dino.shape[0] == 24
    assert np.array_equal(features[0].dino, features[1].dino)
    table, other = (one.metadata.drop(columns="dino_model") for one in features)
    assert table.equals(other)
    # The page of the features finds its pictures of cells in the shards.
    monkeypatch.setitem(sys.modules, "umap", None)  # its compilation takes longer than all of this
    report = steps.features_report(str(tmp_path / "files" / "features"), str(tmp_path / "files" / "model"), f"{bucket}/packed")
    assert "data:image/" in report


@pytest.fixture
def small_blocks(packed: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Packed cells in several blocks."""
    monkeypatch.setattr("dino4cells.data.shards.BLOCK_BYTES", 20_000)
    return packed


def test_a_resumed_run_on_packed_images_equals_an_uninterrupted_one(small_blocks: str, tiny_config: MakeConfig, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    config = tiny_config(batch_size=4)
    order = sample_order(read_metadata(small_blocks), config)
    assert order.lanes > 2
    run(config, small_blocks, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(config, small_blocks, tmp_path / "model", stop_after=4)  # in the middle of an epoch
    with pytest.raises(CheckpointError, match=r"drew the same cells in another order, from files of their own or with another"):
        run(tiny_config(batch_size=4, shuffle_blocks=1), small_blocks, tmp_path / "model")
    run(config, small_blocks, tmp_path / "model")

    one, other = ((tmp_path / place / "model.safetensors").read_bytes() for place in ("whole", "model"))
    assert one == other


def test_validate_and_stats_say_of_packed_images_what_they_say_of_files_and_find_damage(
    cells: str, packed: str, dino4cells: Callable[..., Finished], tmp_path: Path
) -> None:
    def said(data: str) -> tuple[dict[str, object], str]:
        validated = json.loads(dino4cells("data", "validate", "--data", data, "--json").out)
        return {key: validated[key] for key in validated if key not in ("data", "seconds", "images_per_second")}, dino4cells(
            "data", "stats", "--data", data
        ).out

    assert said(packed) == said(cells)
    shard = Path(packed, "shards", "cells-000000.tar")
    content = shard.read_bytes()
    try:
        shard.write_bytes(content[:2000] + b"?" + content[2001:])
        damaged = dino4cells("data", "validate", "--data", packed)
        assert damaged.code == 2
        assert "unreadable: 1 cells" in damaged.out
        assert f"images/000.png in {shard}, byte 512: is not what was packed" in damaged.out
    finally:
        shard.write_bytes(content)
