"""The simulated cells: reproducible, laid out as the handbook says, and no easier than they should be."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dino4cells.data.handbook_labels import HANDBOOK_LOCALIZATIONS
from dino4cells.data.simulate import SimulatedData, simulate
from dino4cells.data.simulated_cell import CELL_LINES
from dino4cells.data.simulated_stains import CHANNELS, LOCALIZATIONS, draw_cell
from dino4cells.errors import DataError, StorageError

CELLS, SIZE, PLATES = 560, 32, 4


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> SimulatedData:
    return simulate(str(tmp_path_factory.mktemp("cells") / "data"), cells=CELLS, size=SIZE, plates=PLATES)


@pytest.fixture(scope="module")
def table(simulated: SimulatedData) -> pd.DataFrame:
    return pd.read_csv(Path(simulated.url) / "metadata.csv")


@pytest.fixture(scope="module")
def images(simulated: SimulatedData, table: pd.DataFrame) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.open(Path(simulated.url) / file)) for file in table["file"]])


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        simulate(str(tmp_path / name), cells=15, size=40, plates=2, seed=seed)
    first, again, other = (files_of(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name.endswith(".png"))


def test_a_cell_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    simulate(str(tmp_path / "few"), cells=10, size=32)
    simulate(str(tmp_path / "many"), cells=33, size=32)
    few, many = files_of(tmp_path / "few"), files_of(tmp_path / "many")
    assert {name: data for name, data in many.items() if name in few and name.endswith(".png")} == {
        name: data for name, data in few.items() if name.endswith(".png")
    }
    assert many["metadata.csv"].startswith(few["metadata.csv"])


def test_directory_has_the_handbooks_layout(simulated: SimulatedData, table: pd.DataFrame) -> None:
    assert list(table.columns) == ["file", "ID", "cell_type", "protein_location", "plate", "well", *LOCALIZATIONS]
    expected = {"metadata.csv", "channels.txt", *table["file"]}
    assert set(files_of(Path(simulated.url))) == expected
    assert len(expected) == CELLS + 2
    assert (Path(simulated.url) / "channels.txt").read_text().splitlines() == list(CHANNELS) == ["microtubules", "protein", "nucleus", "ER"]
    labels = table[list(LOCALIZATIONS)]
    assert set(np.unique(labels)) == {0, 1}
    assert (labels.sum(axis=1) == 1).all()
    assert (labels.idxmax(axis=1) == table["protein_location"]).all()


def test_with_the_handbooks_labels_the_same_cells_have_its_names_and_19_columns(tmp_path: Path) -> None:
    simulate(str(tmp_path / "own"), cells=15, size=32)
    data = simulate(str(tmp_path / "handbook"), cells=15, size=32, handbook=True)
    own, other = (pd.read_csv(tmp_path / name / "metadata.csv") for name in ("own", "handbook"))
    labels = other[list(HANDBOOK_LOCALIZATIONS)]
    assert list(other.columns) == ["file", "ID", "cell_type", "protein_location", "plate", "well", *HANDBOOK_LOCALIZATIONS]
    assert len(HANDBOOK_LOCALIZATIONS) == 19
    assert list(HANDBOOK_LOCALIZATIONS) == sorted(HANDBOOK_LOCALIZATIONS)
    assert (labels.sum(axis=1) == 1).all()
    assert (labels.idxmax(axis=1) == other["protein_location"]).all()
    assert len(data.classes) == len(LOCALIZATIONS)
    # The names differ, the cells do not.
    assert other.groupby(own["protein_location"])["protein_location"].nunique().eq(1).all()
    pictures = [{name: data for name, data in files_of(tmp_path / place).items() if name.endswith(".png")} for place in ("own", "handbook")]
    assert pictures[0] == pictures[1]


def test_cells_of_either_labels_are_replaced_by_those_of_the_other(tmp_path: Path) -> None:
    for handbook in (True, False, True):
        simulate(str(tmp_path / "data"), cells=2, size=32, handbook=handbook)
        columns = pd.read_csv(tmp_path / "data" / "metadata.csv").columns
        assert ("cytosol" in columns) is handbook


def test_images_are_8_bit_rgba_of_the_requested_size(simulated: SimulatedData, table: pd.DataFrame) -> None:
    with Image.open(Path(simulated.url) / table["file"][0]) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGBA", (SIZE, SIZE))


@pytest.mark.parametrize("size", [33, 64, 100, 256])
def test_other_sizes_show_the_same_field(size: int, tmp_path: Path) -> None:
    simulate(str(tmp_path), cells=1, size=size)
    image = np.asarray(Image.open(next((tmp_path / "images").iterdir())), dtype=float)
    assert image.shape == (size, size, 4)
    # Whatever the size, the nucleus fills about the same part of the crop.
    nucleus = image[..., 2]
    assert 0.04 < (nucleus > (np.percentile(nucleus, 5) + np.percentile(nucleus, 99)) / 2).mean() < 0.35


def test_every_plate_holds_every_class_in_both_lines_alike(simulated: SimulatedData, table: pd.DataFrame) -> None:
    counts = table.groupby(["plate", "protein_location", "cell_type"]).size()
    assert len(counts) == PLATES * len(LOCALIZATIONS) * len(CELL_LINES)
    assert counts.nunique() == 1
    assert (simulated.classes, simulated.cell_lines, simulated.plates) == (LOCALIZATIONS, CELL_LINES, tuple(table["plate"].unique()))
    assert simulated.cells == CELLS
    # A field of view shows one well: one plate, one antibody, one line.
    assert (table.groupby("ID")[["plate", "well", "cell_type", "protein_location"]].nunique() == 1).all(axis=None)


def test_plates_differ_in_brightness(images: NDArray[np.uint8], table: pd.DataFrame) -> None:
    means = images.mean(axis=(1, 2))
    per_plate = np.stack([means[table["plate"] == plate].mean(axis=0) for plate in table["plate"].unique()])
    assert (per_plate.max(axis=0) / per_plate.min(axis=0) > 1.25).all()


def test_mean_intensity_does_not_tell_the_classes_but_shape_tells_the_lines(images: NDArray[np.uint8], table: pd.DataFrame) -> None:
    means = images.mean(axis=(1, 2))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))

    def score(features: NDArray[np.floating], target: str) -> float:
        found = cross_val_predict(model, features, table[target], groups=table["plate"], cv=LeaveOneGroupOut())
        return float(balanced_accuracy_score(table[target], found))

    assert score(means, "protein_location") < 0.22  # chance is 1/7 = 0.14
    fields = images.astype(float) / means[:, None, None, :]
    line = np.linspace(-1, 1, SIZE)
    near_middle = (line[:, None] ** 2 + line[None, :] ** 2) < 0.35
    microtubules = fields[..., 0] * ~near_middle
    moments = np.stack(
        [(microtubules * weight).mean(axis=(1, 2)) for weight in (line[:, None] ** 2, line[None] ** 2, line[:, None] * line[None])]
    )
    spread = np.hypot(moments[0] - moments[1], 2 * moments[2]) / (moments[0] + moments[1])
    assert score(np.stack([spread, moments[:2].sum(axis=0)], axis=1), "cell_type") > 0.85


def test_each_protein_is_where_its_name_says() -> None:
    def protein_in_nucleus(localization: str) -> float:
        shares = []
        for seed in range(6):
            _, protein, dna, _ = draw_cell(localization, CELL_LINES[seed % 2], 128, np.random.default_rng(seed))
            shares.append(protein[dna > 0.3 * dna.max()].sum() / protein.sum())
        return float(np.mean(shares))

    share = {name: protein_in_nucleus(name) for name in LOCALIZATIONS}
    inside = {"Nucleoplasm", "Nucleoli", "Nuclear membrane"}
    assert min(share[name] for name in inside) > 1.5 * max(share[name] for name in LOCALIZATIONS if name not in inside)


def test_stains_are_finite_and_sum_alike_whatever_the_class() -> None:
    for localization in LOCALIZATIONS:
        stains = draw_cell(localization, "fibroblast-like", 96, np.random.default_rng(5))
        assert stains.shape == (4, 96, 96)
        assert np.isfinite(stains).all()
        assert stains.min() >= 0
        np.testing.assert_allclose(stains.sum(axis=(1, 2)), stains[0].sum(), rtol=1e-4)


def test_progress_counts_the_cells(tmp_path: Path) -> None:
    seen: list[int] = []
    simulate(str(tmp_path), cells=3, size=32, progress=seen.append)
    assert seen == [1, 2, 3]


def test_metadata_comes_last_so_that_an_interrupted_directory_has_none(tmp_path: Path) -> None:
    simulate(str(tmp_path), cells=4, size=32)

    def interrupt(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(str(tmp_path), cells=4, size=32, seed=1, progress=interrupt)
    assert not (tmp_path / "metadata.csv").exists()


def test_real_data_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file,ID,cell_type,protein_location\na.png,1,U2OS,Nucleoli\n")
    before = files_of(tmp_path)
    with pytest.raises(DataError, match=r"metadata\.csv describes data that was not simulated: choose another output directory"):
        simulate(str(tmp_path), cells=2, size=32)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"cells": 0}, "cells is 0, but must be from 1 to"),
        ({"size": 8}, "size is 8, but must be from 32 to 256"),
        ({"size": 1024}, "size is 1024, but must be from 32 to 256"),
        ({"plates": 0}, "plates is 0, but must be from 1 to"),
        ({"seed": -1}, "seed is -1, but must be from 0 to"),
    ],
)
def test_bad_request_is_one_sentence_and_writes_nothing(wrong: dict[str, int], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        simulate(str(tmp_path / "out"), **({"cells": 2, "size": 32} | wrong))
    assert not (tmp_path / "out").exists()


def test_output_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        simulate(str(tmp_path / "file" / "data"), cells=1, size=32)


def test_output_may_be_any_url() -> None:
    simulate("memory://simulated", cells=2, size=32)
    import fsspec

    memory = fsspec.filesystem("memory")
    with Image.open(io.BytesIO(memory.cat("/simulated/images/plate1_A01_1_1.png"))) as image:
        assert image.mode == "RGBA"
    assert memory.exists("/simulated/metadata.csv")
