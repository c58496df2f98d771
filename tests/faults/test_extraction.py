"""An extraction that is killed anywhere, again and again: it goes on, and ends as one that nobody has touched."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dino4cells import steps, storage
from dino4cells.artifacts import is_complete, open_artifact
from dino4cells.config import Config
from dino4cells.features.parts import UNFINISHED, FinishedPart, Unfinished
from tests.faults.nursery import Nursery
from tests.tally import Tally

ROWS = 27
HISTORIES = {("local", 1): 20, ("s3", 1): 6, ("local", 2): 5}


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as started:
        yield started


@pytest.fixture(scope="module")
def arguments(
    tiny_config: Callable[..., Config], draw_cells: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """27 cells of several sizes, of which one has no image, in parts of 6 rows and batches of 4."""
    directory = tmp_path_factory.mktemp("extraction")
    data = draw_cells(directory / "data", ROWS, [(16, 16), (24, 16), (17, 31)])
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
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    draws = random.Random(seed)
    expected, places = whole[processes]
    bucket = s3() if storages == "s3" else str(tmp_path)
    for history in range(HISTORIES[storages, processes]):
        output = storage.join(bucket, f"features-{history}")
        kept = survives(nursery, {**arguments, "output": output}, places, draws, tmp_path / "notes", processes)
        tally.count(kept and content(output) == expected)
