"""Large numbers, in a short form: `python -m benchmarks.load` and `make soak` are the long one."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.load import Held, grown, soak
from benchmarks.measuring import peak_memory_mib
from benchmarks.works.extraction import memory_of_an_extraction
from dino4cells import steps, storage
from dino4cells.classify.evaluate import evaluate
from dino4cells.config import Config
from dino4cells.data import packing
from dino4cells.data.metadata import read_metadata
from dino4cells.features.store import read_features
from tests.faults.nursery import Nursery
from tests.tally import Tally

FEW, MANY = 200, 1000
MOST_FILES = 200


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as started:
        yield started


def note_memory(cells: int, file: str) -> None:
    """The MiB that an extraction of so many cells adds to a fresh process."""
    before = peak_memory_mib()
    added = memory_of_an_extraction(cells)
    Path(file).write_text(json.dumps({"before": before, "added": added}))


def test_memory_of_an_extraction_does_not_grow_with_the_cells(nursery: Nursery, tmp_path: Path) -> None:
    added = []
    for cells in (FEW, MANY):
        [ended] = nursery.run(note_memory, {"cells": cells, "file": str(tmp_path / f"{cells}")}, tmp_path / "notes")
        assert ended.complete
        added.append(json.loads((tmp_path / f"{cells}").read_text())["added"])
    # 800 images more are 3 MB as pixels and 0.6 MB as features.
    assert added[1] < added[0] + 20, added


def everything(data: str, packed: str, config: Config, output: str) -> None:
    """Train, extract, read and judge, with at most 200 open files."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, MOST_FILES))
    steps.train(config, data=packed, output=f"{output}/model")
    steps.extract(f"{output}/model", config=config, data=data, output=f"{output}/features")
    evaluate(read_features(f"{output}/features"), config.classification)


def read_on_and_on(file: str) -> None:
    """The soak of `make soak`, of a few seconds, with at most 200 open files."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, MOST_FILES))
    Path(file).write_text(json.dumps([asdict(one) for one in soak(4, workers=1, least=12)]))


def test_the_loader_holds_no_more_after_many_passes(nursery: Nursery, tmp_path: Path) -> None:
    [ended] = nursery.run(read_on_and_on, {"file": str(tmp_path / "held")}, tmp_path / "notes")
    assert ended.complete
    held = [Held(**one) for one in json.loads((tmp_path / "held").read_text())]
    growth = grown(held)
    assert (growth.files, growth.threads) == (0, 0), held
    assert growth.memory < 16, held


@pytest.mark.parametrize(("storages", "rows", "rows_per_part"), [("local", 201, 1), ("s3", 48, 6)])
def test_two_hundred_open_files_are_enough(
    storages: str,
    rows: int,
    rows_per_part: int,
    nursery: Nursery,
    tiny_config: Callable[..., Config],
    draw_cells: Callable[..., str],
    s3: Callable[[], str],
    tmp_path: Path,
    tally: Tally,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of more files, shards and parts than may be open, and of a store that is asked for many files at once."""
    tally.what = f"a limit of {MOST_FILES} open files, {storages} storage"
    place = tmp_path / "data"
    data = draw_cells(place, rows, [(16, 16)])
    if storages == "s3":
        data = s3()
        for file in sorted(path for path in place.rglob("*") if path.is_file()):
            storage.upload(file, storage.join(data, file.relative_to(place).as_posix()))
    packed = storage.join(data, "packed")
    monkeypatch.setattr(packing, "_rows_per_shard", lambda stored, size: rows_per_part)
    card = packing.pack(read_metadata(data), None, packed, processes=1)
    assert card.shards == -(-rows // rows_per_part)
    keys = {"embedding.rows_per_part": rows_per_part, "classification.folds": 2, "classification.label": "protein_location"}
    output = storage.join(data, "output")
    arguments = {"data": data, "packed": packed, "config": tiny_config(keys, epochs=1), "output": output}
    [ended] = nursery.run(everything, arguments, tmp_path / "notes")
    tally.count(ended.complete)
    assert len(list(storage.list_files(storage.join(output, "features")))) == -(-rows // rows_per_part) + 2
