"""Train, extract and classify with data and outputs on `s3://`, against a real S3 server over HTTP, credentials from the environment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dino4cells import steps, storage
from dino4cells.artifacts import open_artifact
from dino4cells.cluster.job import Processes
from dino4cells.cluster.local import LocalLauncher
from dino4cells.config import Config
from dino4cells.features.store import read_features
from dino4cells.models.artifact import load_card
from dino4cells.training import checkpoint


@dataclass(frozen=True)
class Place:
    """A bucket with `cells`, a model, its features and their classification in it."""

    bucket: str
    config: Config

    def __getattr__(self, name: str) -> str:
        return f"{self.bucket}/{name}"


@pytest.fixture(scope="module")
def place(s3: Callable[[], str], cells: str, tiny_config: Callable[..., Config]) -> Place:
    bucket = s3()
    for name in storage.list_files(cells):
        storage.upload(Path(cells, name), f"{bucket}/cells/{name}")
    place = Place(bucket, tiny_config({"embedding.baselines": True, "classification.folds": 3, "classification.group": "plate"}, epochs=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "umap", None)  # its compilation takes longer than all of this
        steps.train(place.config, data=place.cells, output=place.model)
        steps.extract(place.model, config=place.config, data=place.cells, output=place.features)
        steps.classify(place.features, config=place.config, data=place.cells, model=place.model, output=place.classes)
    return place


@pytest.mark.parametrize(("name", "kind"), [("model", "model"), ("features", "features"), ("classes", "classification")])
def test_every_artifact_is_whole(place: Place, name: str, kind: str) -> None:
    url = f"{place.bucket}/{name}"
    artifact = open_artifact(url, kind)
    assert storage.list_files(url) == sorted([*artifact.names, "manifest.json"])
    for file in artifact.names:
        assert artifact.read_bytes(file)


def test_nothing_else_is_left_in_the_bucket(place: Place) -> None:
    assert {name.split("/")[0] for name in storage.list_files(place.bucket)} == {"cells", "model", "features", "classes"}


def test_the_features_are_those_of_a_run_on_this_machine(place: Place, cells: str, tmp_path: Path) -> None:
    steps.train(place.config, data=cells, output=str(tmp_path / "model"))
    steps.extract(str(tmp_path / "model"), config=place.config, data=cells, output=str(tmp_path / "features"))
    here, there = read_features(str(tmp_path / "features")), read_features(place.features)
    assert np.array_equal(here.dino, there.dino)
    assert here.card.data_fingerprint == there.card.data_fingerprint
    assert there.metadata["file"].tolist() == pd.read_csv(Path(cells, "metadata.csv"))["file"].tolist()


def test_the_report_shows_cells_that_were_read_from_the_store(place: Place) -> None:
    page = storage.read_text(f"{place.classes}/report.html")
    assert "<h2>Example cells</h2>" in page
    assert place.features in page


def test_an_interrupted_run_goes_on_and_leaves_no_checkpoints(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    output = f"{place.bucket}/interrupted"
    config = place.config.model_copy(update={"model": place.config.model.model_copy(update={"checkpoint_minutes": 1e-6})})

    class PulledPlug(Exception):
        pass

    def pull_the_plug(writer: checkpoint.CheckpointWriter, state: checkpoint.Checkpoint) -> None:
        checkpoint.save(writer.directory, state)
        raise PulledPlug

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.CheckpointWriter, "save", pull_the_plug)
        with pytest.raises(PulledPlug):
            steps.train(config, data=place.cells, output=output)
    assert storage.list_files(f"{output}.checkpoints") == ["checkpoint-000000000008.pth"]
    assert not storage.exists(output)

    steps.train(place.config, data=place.cells, output=output)
    assert storage.list_files(f"{output}.checkpoints") == []
    assert open_artifact(output, "model").read_bytes("model.safetensors") == open_artifact(place.model, "model").read_bytes(
        "model.safetensors"
    )


def test_two_processes_share_the_work_on_a_store(place: Place) -> None:
    """Each process of the job reads and writes by itself, with what the environment says."""
    output = f"{place.bucket}/features-of-two"
    two = Processes(LocalLauncher(), per_node=2)
    card = steps.extract(place.model, config=place.config, data=place.cells, output=output, processes=two)
    assert card.rows == 24
    names = [f"{kind}-0000{rank}.parquet" for kind in ("baseline", "part") for rank in (0, 1)]
    assert open_artifact(output, "features").names == [*names[:2], "features.json", *names[2:]]
    assert np.allclose(read_features(output).dino, read_features(place.features).dino, atol=1e-5)

    # One process again: the second process's files are no part of the result any more.
    steps.extract(place.model, config=place.config, data=place.cells, output=output, overwrite=True)
    assert storage.list_files(output) == ["baseline-00000.parquet", "features.json", "manifest.json", "part-00000.parquet"]


def test_a_finished_run_is_returned_as_it_is(place: Place) -> None:
    before = open_artifact(place.model, "model").manifest
    card = steps.train(place.config, data=place.cells, output=place.model)
    assert card == load_card(place.model)
    assert open_artifact(place.model, "model").manifest == before
