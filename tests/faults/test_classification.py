"""A classification that is killed anywhere: what it has judged is not judged again, and it ends as one that nobody has touched."""

from __future__ import annotations

import io
import os
import random
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dino4cells import storage
from dino4cells.classify.evaluate import UNFINISHED, evaluate, fitted_classifiers, kept_at
from dino4cells.classify.kept import Kept
from dino4cells.config import load_config
from dino4cells.features.store import read_features
from tests.faults.nursery import Nursery
from tests.tally import Tally
from tests.unit.simulated_features import cells_of_lines, write_features

HISTORIES = int(os.environ.get("DINO4CELLS_HISTORIES", "20")) // 3
FOLDS = 4


def judge(features: str, output: str) -> None:
    """As the step `classify`, without a report, and keeping what takes no time too."""
    table, config = (
        read_features(features),
        load_config(overrides={"classification.folds": FOLDS, "classification.label": "cell_type"}).classification,
    )
    kept = replace(kept_at(output, table, config), worth=0.0)
    evaluation = evaluate(table, config, kept)
    for name, content in fitted_classifiers(table, evaluation, config, kept).items():
        storage.write_bytes(storage.join(output, name), content)
    evaluation.predictions(table).to_parquet(f"{output}/predictions.parquet")
    storage.write_text(storage.join(output, "metrics.json"), evaluation.metrics_json(table.card))
    kept.clear()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as started:
        yield started


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Features of 60 cells of three classes."""
    frame, values = cells_of_lines(60, classes=3)
    return write_features(str(tmp_path_factory.mktemp("classification") / "features"), frame, values)


def content(output: str) -> dict[str, object]:
    """All that was written; of a classifier, whose file has the time in it, the numbers."""
    files: dict[str, object] = {}
    for name in storage.list_files(output):
        files[name] = written = storage.read_bytes(storage.join(output, name))
        if name.endswith(".skops"):
            with zipfile.ZipFile(io.BytesIO(written)) as file:
                files[name] = sorted(file.read(member) for member in file.namelist() if member.endswith(".npy"))
            assert files[name]
    return files


def test_a_classification_killed_at_random_places_ends_as_one_that_was_not(
    nursery: Nursery, features: str, tmp_path: Path, tally: Tally
) -> None:
    tally.what = "judging features killed at random places"
    seed = int(os.environ.get("DINO4CELLS_SEED", random.SystemRandom().randrange(10**6)))
    print(f"seed {seed}")
    draws, notes = random.Random(seed), tmp_path / "notes"
    [alone] = nursery.run(judge, {"features": features, "output": str(tmp_path / "whole")}, notes)
    assert alone.places.count("fold") == 2 * FOLDS
    for history in range(HISTORIES):
        output, survived, complete = str(tmp_path / str(history)), True, False
        for life in range(draws.randint(1, 4) + 1):
            kept = sum("-fold-" in name for name in storage.list_files(storage.join(output, UNFINISHED)))
            kill = draws.choice((1, -1)) * draws.randint(1, len(alone.places)) if life == 0 or draws.random() < 0.7 else 0
            [ended] = nursery.run(judge, {"features": features, "output": output}, notes, kill={0: kill})
            survived = survived and ended.places.count("fold") <= 2 * FOLDS - kept
            if complete := ended.complete:
                break
        if not complete:
            [ended] = nursery.run(judge, {"features": features, "output": output}, notes)
        tally.count(survived and ended.complete and content(output) == content(str(tmp_path / "whole")))


def test_a_kept_result_that_is_damaged_or_of_another_run_is_computed_again(tmp_path: Path) -> None:
    kept, calls = Kept(str(tmp_path), "a", worth=0.0), []

    def compute() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"predictions": np.asarray(["line 0", "line 12"]), "logits": np.asarray([0.5, np.nan], np.float32)}

    first, again = kept.arrays("fold", compute), kept.arrays("fold", compute)
    assert len(calls) == 1
    for name, values in first.items():
        np.testing.assert_array_equal(again[name], values)
        assert again[name].dtype == values.dtype
    replace(kept, identity="b").arrays("fold", compute)
    assert len(calls) == 2
    place = tmp_path / "fold.npz"
    written = place.read_bytes()
    flipped = [bytes([*written[:byte], written[byte] ^ 1, *written[byte + 1 :]]) for byte in (0, len(written) - 90)]
    for damaged in (written[: len(written) // 2], b"", *flipped):
        place.write_bytes(damaged)
        replace(kept, identity="b").arrays("fold", compute)
    assert len(calls) == 6
    replace(kept, worth=3600.0).arrays("quick", compute)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fold.npz"]
    kept.clear()
    assert not tmp_path.exists()
