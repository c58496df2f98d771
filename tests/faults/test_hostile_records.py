"""What an artifact of somebody else says of itself loosens no rule: which files a table may name is for the one who reads it to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from dino4cells import steps
from dino4cells.config import Config
from dino4cells.features.store import load_features_card, read_features
from dino4cells.models.artifact import load_model
from dino4cells.steps.inputs import pictured
from tests.tally import Tally

ALLOWED = ("--model.files_outside_root", "true")
OUTSIDE = "../private/photo.png"


@dataclass(frozen=True)
class Handed:
    """Cells of which one names an image beside the directory, and what their maker made of them, where that was allowed."""

    data: str
    model: str
    features: str


@pytest.fixture(scope="module")
def handed(tiny_config: Callable[..., Config], draw_cells: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Handed:
    place = tmp_path_factory.mktemp("handed")
    data = draw_cells(place / "data", 24)
    (place / "private").mkdir()
    Image.open(f"{data}/images/000.png").save(place / "private" / "photo.png")
    table = pd.read_csv(f"{data}/metadata.csv")
    table.loc[3, "file"] = OUTSIDE
    table.to_csv(f"{data}/metadata.csv", index=False)
    config = tiny_config(epochs=1, files_outside_root=True, data_path=f"{data}/metadata.csv")
    steps.train(config, output=str(place / "model"))
    steps.extract(str(place / "model"), config=config, output=str(place / "features"))
    return Handed(data, str(place / "model"), str(place / "features"))


def test_the_records_say_that_it_was_allowed(handed: Handed) -> None:
    """So that the refusals below are shown to be of what they say."""
    assert load_features_card(handed.features).layout.files_outside_root
    assert load_model(handed.model).config.model.files_outside_root


@pytest.mark.parametrize("named", ["by --data", "by the model"])
def test_features_from_somebody_else_do_not_choose_which_images_a_report_shows(
    named: str, handed: Handed, dino4cells: Callable[..., Any], tmp_path: Path, tally: Tally
) -> None:
    tally.what = "an artifact that says which files a table may name"
    given = ("--data", handed.data) if named == "by --data" else ("--model", handed.model)
    done = dino4cells("classify", "--features", handed.features, *given, "--output", tmp_path / "classes")
    tally.count(
        done.code == 2 and f"metadata.csv, line 5: the file '{OUTSIDE}' is not below {handed.data}, where the images are" in done.err
    )
    assert not (tmp_path / "classes").exists()
    table, data = read_features(handed.features), handed.data if named == "by --data" else None
    metadata = pictured(table, data, load_model(handed.model), files_outside_root=True)
    assert metadata is not None
    assert metadata.frame["file"][3] == OUTSIDE


def test_a_model_from_somebody_else_does_not_choose_which_images_are_read(
    handed: Handed, dino4cells: Callable[..., Any], tmp_path: Path, tally: Tally
) -> None:
    tally.what = "an artifact that says which files a table may name"
    words = ("extract", "--model", handed.model, "--output", tmp_path / "features")
    for given in (("--data", handed.data), ()):
        done = dino4cells(*words, *given)
        tally.count(done.code == 2 and f"line 5: the file '{OUTSIDE}' is not below {handed.data}" in done.err)
        assert not (tmp_path / "features").exists()
    assert dino4cells(*words, *ALLOWED).code == 0


def test_the_steps_of_a_run_keep_to_what_its_user_has_said(handed: Handed) -> None:
    assert steps.configuration_of(handed.model, {}, own=True).model.files_outside_root
    assert not steps.configuration_of(handed.model, {}).model.files_outside_root
