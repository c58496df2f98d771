"""An extraction that is killed anywhere, again and again: it goes on, and ends as one that nobody has touched."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dino4cells import steps, storage
from dino4cells.artifacts import is_complete, open_artifact
from dino4cells.cluster.job import Processes
from dino4cells.config import Config
from dino4cells.errors import ArtifactError, JobFailed
from dino4cells.features.parts import UNFINISHED, FinishedPart, Unfinished
from dino4cells.lease import Holder, LeaseLost, lease_url
from tests.faults.nursery import Nursery, NurseryLauncher
from tests.faults.test_training_lease import elsewhere
from tests.tally import Tally

ROWS = 22
# Histories of an extraction; DINO4CELLS_HISTORIES=200 tries more.
HISTORIES = int(os.environ.get("DINO4CELLS_HISTORIES", "20"))


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as started:
        yield started


@pytest.fixture(scope="module")
def arguments(
    tiny_config: Callable[..., Config], draw_cells: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """22 cells of two sizes, of which one has no image, in parts of 6 rows and batches of 4."""
    directory = tmp_path_factory.mktemp("extraction")
    data = draw_cells(directory / "data", ROWS, [(16, 16), (17, 31)])
    Path(data, "images", "011.png").unlink()
    config = tiny_config({"embedding.rows_per_part": 6, "embedding.batch_size": 4, "embedding.baselines": True}, epochs=1)
    steps.train(config, data=data, output=str(directory / "model"))
    return {"model": str(directory / "model"), "config": config, "data": data}


@pytest.fixture(scope="module")
def whole(nursery: Nursery, arguments: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[dict[str, Any], int]]:
    """By the number of processes: what an extraction writes that nobody interrupts, and how many places it passes."""
    found = {}
    for processes in (1, 2):
        directory = tmp_path_factory.mktemp("whole")
        ended = nursery.run(steps.extract, {**arguments, "output": str(directory / "features")}, directory / "notes", processes=processes)
        assert all(process.complete for process in ended)
        found[processes] = (content(str(directory / "features")), max(len(process.places) for process in ended))
    return found


def content(output: str) -> dict[str, Any]:
    """Everything that an artifact holds, but for when it was written and how fast."""
    artifact = open_artifact(output, "features")
    artifact.verify()
    assert {name for name in storage.list_files(output) if name != "manifest.json"} == set(artifact.names)
    files: dict[str, Any] = {name: artifact.read_bytes(name) for name in artifact.names if name != "features.json"}
    card = json.loads(artifact.read_bytes("features.json"))
    assert card.pop("images_per_second") > 0
    return {**files, "features.json": card}


def finished_rows(output: str) -> set[int]:
    """The rows of the parts that are finished."""
    place = storage.join(output, UNFINISHED)
    records = [name for name in storage.list_files(place) if name.startswith("part-") and name.endswith(".json")]
    parts = [FinishedPart.model_validate_json(storage.read_bytes(storage.join(place, name))) for name in records]
    return {row for part in parts for row in range(part.rows.start, part.rows.stop)}


def survives(nursery: Nursery, arguments: dict[str, Any], places: int, draws: random.Random, notes: Path, processes: int = 1) -> bool:
    """Kill an extraction one to four times, each at a place that is drawn, and let it go on; whether no finished row was read again."""
    output, kills = arguments["output"], [draws.choice((1, -1)) * draws.randint(1, places) for _ in range(draws.randint(1, 4))]
    for place in (*kills, 0):
        kept = finished_rows(output)
        kill = {draws.randrange(processes): place} if place else {}
        ended = nursery.run(steps.extract, arguments, notes, kill=kill, processes=processes)
        print(f"{storage.name(output)}: {len(kept)} rows were finished; killed at {kill}; ended: {[process.complete for process in ended]}")
        if kept & {row for process in ended for row in process.rows}:
            return False
        # One that was killed when nothing was left to do, but to return, has nothing to go on with.
        if is_complete(output) and not Unfinished(output).is_there():
            return True
    return False


@pytest.mark.parametrize(("storages", "processes"), [("local", 1), ("s3", 1), ("local", 2)])
def test_an_extraction_killed_at_random_places_ends_as_one_that_was_not(
    storages: str,
    processes: int,
    nursery: Nursery,
    arguments: dict[str, Any],
    whole: dict[int, tuple[dict[str, Any], int]],
    s3: Callable[[], str],
    tmp_path: Path,
    tally: Tally,
) -> None:
    tally.what = f"extraction killed at random places, {processes} process{'es' if processes > 1 else ''}, {storages} storage"
    seed = int(os.environ.get("DINO4CELLS_SEED", random.SystemRandom().randrange(10**6)))
    print(f"seed {seed}")
    draws = random.Random(seed)
    expected, places = whole[processes]
    bucket = s3() if storages == "s3" else str(tmp_path)
    for history in range(HISTORIES if (storages, processes) == ("local", 1) else max(2, HISTORIES // 10)):
        output = storage.join(bucket, f"features-{history}")
        kept = survives(nursery, {**arguments, "output": output}, places, draws, tmp_path / "notes", processes)
        tally.count(kept and content(output) == expected)


@pytest.fixture
def interrupted(
    nursery: Nursery, arguments: dict[str, Any], whole: dict[int, tuple[dict[str, Any], int]], tmp_path: Path
) -> dict[str, Any]:
    """The arguments of an extraction that was killed half-way."""
    again = {**arguments, "output": str(tmp_path / "features")}
    nursery.run(steps.extract, again, tmp_path / "notes", kill={0: whole[1][1] // 2})
    assert 0 < len(finished_rows(again["output"])) < ROWS
    return again


def test_a_damaged_part_is_extracted_anew_and_the_others_stay(
    nursery: Nursery, interrupted: dict[str, Any], whole: dict[int, tuple[dict[str, Any], int]], tmp_path: Path
) -> None:
    kept, part = finished_rows(interrupted["output"]), Path(interrupted["output"], UNFINISHED, "part-00000.parquet")
    rows = FinishedPart.model_validate_json(part.with_suffix(".json").read_bytes()).rows
    content_of_part = bytearray(part.read_bytes())
    content_of_part[len(content_of_part) // 2] ^= 1
    part.write_bytes(content_of_part)
    [ended] = nursery.run(steps.extract, interrupted, tmp_path / "notes")
    assert ended.complete
    assert sorted(ended.rows) == sorted({*range(ROWS)} - kept | {*range(rows.start, rows.stop)})
    assert content(interrupted["output"]) == whole[1][0]


def test_parts_of_another_extraction_are_refused_and_replaced_on_demand(interrupted: dict[str, Any]) -> None:
    config: Config = interrupted["config"]
    other = config.model_copy(update={"embedding": config.embedding.model_copy(update={"batch_size": 5})})
    with pytest.raises(ArtifactError, match="holds finished parts of an extraction with another configuration; choose another output, or"):
        steps.extract(**{**interrupted, "config": other})
    assert finished_rows(interrupted["output"])
    assert steps.extract(**{**interrupted, "config": other}, overwrite=True).rows == ROWS
    assert not Unfinished(interrupted["output"]).is_there()


def test_a_complete_artifact_stays_whole_until_all_parts_of_the_new_one_are_finished(
    nursery: Nursery, arguments: dict[str, Any], whole: dict[int, tuple[dict[str, Any], int]], tmp_path: Path
) -> None:
    output = str(tmp_path / "features")
    config: Config = arguments["config"]
    other = config.model_copy(update={"embedding": config.embedding.model_copy(update={"rows_per_part": 2, "baselines": False})})
    steps.extract(**{**arguments, "config": other}, output=output)
    before = open_artifact(output, "features").fingerprint
    again = {**arguments, "output": output, "overwrite": True}
    reads = nursery.run(steps.extract, {**again, "output": f"{output}-2"}, tmp_path / "notes")[0].places
    nursery.run(steps.extract, again, tmp_path / "notes", kill={0: len(reads) - reads[::-1].index("__getitems__")})
    assert finished_rows(output)
    old = open_artifact(output, "features")
    old.verify()
    assert old.fingerprint == before
    assert nursery.run(steps.extract, again, tmp_path / "notes")[0].complete
    assert content(output) == whole[1][0]


def test_a_file_that_cannot_be_written_is_made_of_what_is_extracted_already(
    nursery: Nursery, arguments: dict[str, Any], tmp_path: Path
) -> None:
    output = tmp_path / "cells.parquet"
    (output / "in the way").mkdir(parents=True)
    again = {**arguments, "output": str(output), "overwrite": True}
    [ended] = nursery.run(steps.extract, again, tmp_path / "notes")
    assert sorted(ended.rows) == [*range(ROWS)]
    assert not ended.complete
    (output / "in the way").rmdir()
    output.rmdir()
    [ended] = nursery.run(steps.extract, again, tmp_path / "notes")
    assert ended.complete
    assert not ended.rows
    assert not Path(f"{output}.parts").exists()
    assert len(pd.read_parquet(output)) == ROWS


def test_another_number_of_processes_goes_on_with_what_is_finished(
    nursery: Nursery, interrupted: dict[str, Any], whole: dict[int, tuple[dict[str, Any], int]], tmp_path: Path
) -> None:
    kept = finished_rows(interrupted["output"])
    ended = nursery.run(steps.extract, interrupted, tmp_path / "notes", processes=2)
    assert all(process.complete for process in ended)
    assert sorted(row for process in ended for row in process.rows) == sorted({*range(ROWS)} - kept)
    assert content(interrupted["output"]) == whole[1][0]


@pytest.mark.parametrize("parts", [1, 4], ids=["after the first part", "after the last one"])
def test_an_extraction_whose_output_another_one_took_keeps_no_part_more_and_puts_none_in_its_place(
    parts: int, arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the machine has slept."""
    output, keep, kept = str(tmp_path / "features"), Unfinished.keep, []

    def keep_and_sleep(unfinished: Unfinished, *part: Any) -> FinishedPart:
        kept.append(keep(unfinished, *part))
        if len(kept) == parts:
            elsewhere(output)
        return kept[-1]

    monkeypatch.setattr(Unfinished, "keep", keep_and_sleep)
    with pytest.raises(LeaseLost, match=r"features: another run \(process 42 on node-7"):
        steps.extract(**arguments, output=output)
    assert len(kept) == parts
    assert {file.split("/")[0] for file in storage.list_files(output)} == {UNFINISHED}
    assert Holder.read(storage.read_text(lease_url(output))).owner == "other"  # whose it stays


def test_two_processes_predict_what_one_does_and_go_on_where_they_were_killed(
    nursery: Nursery, arguments: dict[str, Any], tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    learn = ("train_cell_type", "train_feature_extractor")
    config = tiny_config(
        {
            **{f"classification.{key}": True for key in learn},
            **{"classification.use_pretrained_features": False, "classification.label": "protein_location", "classification.epochs": 1},
            **{"embedding.rows_per_part": 6, "embedding.batch_size": 4, "model.max_bad_images": 0.1},
        }
    )
    data, network, output = arguments["data"], str(tmp_path / "network"), str(tmp_path / "killed")
    steps.train_classifier(config, data=data, output=network)
    steps.predict(network, data=data, output=str(tmp_path / "one"))
    launcher = NurseryLauncher(nursery, tmp_path / "notes")
    processes = Processes(launcher, per_node=2)
    assert steps.predict(network, data=data, output=str(tmp_path / "two"), processes=processes).failed_rows == 1
    assert sorted(row for process in launcher.ended for row in process.rows) == [*range(ROWS)]
    places = launcher.ended[1].places
    launcher.kill = {1: len(places) - places[::-1].index("__exit__")}  # when its last part is written
    with pytest.raises(JobFailed):
        steps.predict(network, data=data, output=output, processes=processes)
    kept = finished_rows(f"{output}.features")
    assert 0 < len(kept) < ROWS
    launcher.kill = {}
    steps.predict(network, data=data, output=output, processes=processes)
    assert sorted(row for process in launcher.ended for row in process.rows) == sorted({*range(ROWS)} - kept)
    one, *others = (pd.read_parquet(tmp_path / name / "predictions.parquet") for name in ("one", "two", "killed"))
    for other in others:
        pd.testing.assert_frame_equal(other, one, atol=1e-5)
    assert not list(tmp_path.glob("*.features"))
