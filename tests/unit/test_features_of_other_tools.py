"""Features that pandas, pycytominer and scanpy have changed and saved come back: to read, to classify, to predict."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from pycytominer import feature_select, normalize
from simulated_features import WIDTH, cells_of_lines, write_features

from dino4cells import steps, storage
from dino4cells.classify.cells import read_feature_cells
from dino4cells.classify.evaluate import evaluate
from dino4cells.config import Config
from dino4cells.config.classification import ClassificationConfig
from dino4cells.errors import ArtifactError, DataError
from dino4cells.features import parquet_file
from dino4cells.features.store import load_features_card, open_table, read_features
from dino4cells.steps.inputs import pictured

ROWS = 120
COLUMNS = [f"dino_{number}" for number in range(WIDTH)]
Command = Callable[..., Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of cells, of which one has none, and the files for other tools that are made of them."""
    place = tmp_path_factory.mktemp("cells")
    frame, values = cells_of_lines(ROWS)
    values[4] = np.nan
    frame["plate"] = np.arange(ROWS) % 3 + 1
    features = write_features(str(place / "features"), frame, values)
    for ending in ("parquet", "h5ad"):
        steps.export_features(features, str(place / f"cells.{ending}"))
    return place


@pytest.fixture(scope="module")
def head(place: Path) -> str:
    """A head that has learnt from the AnnData file."""
    return steps.train_classifier(_head(), features=str(place / "cells.h5ad"), output=str(place / "head"))


@pytest.mark.parametrize("ending", ["parquet", "h5ad"])
def test_a_file_of_our_own_is_what_it_was_made_of(place: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dino4cells.features.table.ROWS_PER_GROUP", 50)
    ours, read = read_features(str(place / "features")), read_features(str(place / f"cells.{ending}"))
    np.testing.assert_array_equal(read.dino, ours.dino)
    assert read.card == ours.card.model_copy(update={"failed_rows": 1})
    pd.testing.assert_frame_equal(read.metadata.drop(columns="dino_error"), ours.metadata.drop(columns="dino_error"), check_dtype=False)
    assert read.metadata["dino_error"].dropna().to_dict() == {4: f"{place}/cells.{ending}: row 5 has no number in dino_0"}
    assert load_features_card(str(place / f"cells.{ending}")).rows == ROWS
    steps.export_features(str(place / f"cells.{ending}"), str(place / "again.parquet"), overwrite=True)
    np.testing.assert_array_equal(pd.read_parquet(place / "again.parquet")[COLUMNS].to_numpy(), ours.dino)


def test_what_pandas_has_filtered_and_added_comes_back(place: Path, tmp_path: Path) -> None:
    cells = pd.read_parquet(place / "cells.parquet")
    cells = cells[cells["Metadata_plate"] != 2].drop(columns=["dino_3", "dino_11"])
    cells["cluster"] = pd.Categorical((cells["dino_0"] > 0).map({True: "high", False: "low"}))
    cells[cells.columns[::-1]].to_parquet(tmp_path / "some.parquet")
    read = read_features(str(tmp_path / "some.parquet"))
    names = [name for name in COLUMNS if name not in ("dino_3", "dino_11")]
    np.testing.assert_array_equal(read.dino, cells[names].to_numpy())
    assert read.metadata["file"].tolist() == cells["Metadata_file"].tolist()
    assert read.metadata["cluster"].tolist() == cells["cluster"].tolist()
    assert "__index_level_0__" not in read.metadata
    assert (read.card.feature_names, read.card.rows, read.card.described) == (names, len(cells), False)
    assert read.card.model_fingerprint == "one model"  # a column says it


def test_what_pycytominer_has_normalized_is_classified(place: Path, tmp_path: Path, dino4cells: Command) -> None:
    cells = pd.read_parquet(place / "cells.parquet").dropna(subset=COLUMNS)
    cells["dino_5"] = 1.0  # which feature selection takes out
    normalized = normalize(cells, features=COLUMNS, meta_features="infer", method="standardize")
    feature_select(
        normalized, features=COLUMNS, operation="variance_threshold", output_file=tmp_path / "normalized.parquet", output_type="parquet"
    )
    kept = [name for name in COLUMNS if name != "dino_5"]
    np.testing.assert_allclose(read_features(str(tmp_path / "normalized.parquet")).dino, normalized[kept], rtol=1e-5, atol=1e-6)
    words = ("--train_cell_type", "True", "--epochs", 2, "--output", tmp_path / "classes")
    done = dino4cells("classify", "--features", tmp_path / "normalized.parquet", *words)
    assert done.code == 0, done.err
    assert "linear probe" in done.out
    refused = dino4cells("predict", tmp_path / "classes", "--features", place / "cells.parquet", "--output", tmp_path / "out")
    assert f"has {WIDTH} features a cell, and {tmp_path}/classes takes {WIDTH - 1}" in refused.err
    other = normalized.drop(columns="dino_7")
    other.to_parquet(tmp_path / "other.parquet")
    refused = dino4cells("predict", tmp_path / "classes", "--features", tmp_path / "other.parquet", "--output", tmp_path / "out")
    assert "its features are dino_0, dino_1, dino_2, … dino_15, and" in refused.err


def test_what_scanpy_has_filtered_and_clustered_comes_back(place: Path, tmp_path: Path) -> None:
    cells = anndata.read_h5ad(place / "cells.h5ad")
    cells.obs["leiden"] = pd.Categorical((np.arange(ROWS) % 4).astype(str))
    some = cells[cells.obs["plate"] == 1, ["dino_10", "dino_2"]].copy()
    some.X = some.X.astype(np.float64)
    some.write_h5ad(tmp_path / "some.h5ad", compression="gzip")
    read = read_features(str(tmp_path / "some.h5ad"))
    np.testing.assert_array_equal(read.dino, some.X[:, [1, 0]].astype(np.float32))  # in the order of their numbers
    assert read.card.columns == ("dino_2", "dino_10")
    assert read.card.described
    assert read.metadata["leiden"].tolist() == some.obs["leiden"].tolist()
    assert read.metadata["leiden"].dtype == object


def test_a_head_learns_from_such_a_file_and_predicts_it_as_the_directory(head: str, place: Path, tmp_path: Path) -> None:
    found = []
    for name in ("features", "cells.parquet", "cells.h5ad"):
        assert steps.predict(head, features=str(place / name), output=str(tmp_path / f"of-{name}")).failed_rows == 1
        found.append(pd.read_parquet(tmp_path / f"of-{name}" / "predictions.parquet").drop(columns="error"))
    for other in found[1:]:
        pd.testing.assert_frame_equal(other, found[0], check_dtype=False)


def test_it_is_told_where_nobody_knows_how_features_were_made(
    head: str, place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pd.read_parquet(place / "cells.parquet").to_parquet(tmp_path / "cells.parquet")
    with caplog.at_level(logging.WARNING):
        steps.predict(head, features=str(place / "features"), output=str(tmp_path / "known"))
        assert not caplog.text
        steps.predict(head, features=str(tmp_path / "cells.parquet"), output=str(tmp_path / "unknown"))
    assert f"{tmp_path}/cells.parquet: does not say how its features were made or normalized" in caplog.text


def test_profiles_are_made_of_a_file_of_some_features(place: Path, tmp_path: Path) -> None:
    pd.read_parquet(place / "cells.parquet").drop(columns=["dino_0"]).to_parquet(tmp_path / "some.parquet")
    steps.profile(str(tmp_path / "some.parquet"), output=str(tmp_path / "profiles"), aggregate=("plate",))
    read = read_features(str(tmp_path / "profiles"))
    assert read.card.feature_names == COLUMNS[1:]
    ours = steps.profile(str(place / "features"), output=str(tmp_path / "whole"), aggregate=("plate",))
    assert ours.rows == 3
    np.testing.assert_allclose(read.dino, read_features(str(tmp_path / "whole")).dino[:, 1:], atol=1e-6)


def test_numbers_of_a_file_in_a_store_are_read_in_pieces_of_which_none_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dino4cells.features.table.ROWS_PER_GROUP", 256)
    rows, width = 8192, 64
    numbers = np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)
    table = pa.table({f"dino_{column}": numbers[:, column] for column in range(width)})
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, row_group_size=256)
    storage.write_bytes("memory://pieces/cells.parquet", buffer.getvalue().to_pybytes())
    del table, buffer
    features = open_table("memory://pieces/cells.parquet")
    held, first, before = [], 0, pa.total_allocated_bytes()
    for piece in features.pieces():
        np.testing.assert_array_equal(piece, numbers[first : first + len(piece)])
        first += len(piece)
        held.append(pa.total_allocated_bytes() - before)
    assert first == rows
    assert max(held) < numbers.nbytes / 4


def _head() -> Config:
    return steps.configuration("", "", {"classification.train_cell_type": True, "classification.epochs": 1})


def _written(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path, Path], None]:
    return lambda source, target: change(pd.read_parquet(source / "cells.parquet")).to_parquet(target)


def _of_cells(change: Callable[[anndata.AnnData], object]) -> Callable[[Path, Path], None]:
    def make(source: Path, target: Path) -> None:
        cells = anndata.read_h5ad(source / "cells.h5ad")
        change(cells)
        cells.write_h5ad(target)

    return make


def _in_file(change: Callable[[h5py.File], object]) -> Callable[[Path, Path], None]:
    def make(source: Path, target: Path) -> None:
        target.write_bytes((source / "cells.h5ad").read_bytes())
        with h5py.File(target, "r+") as file:
            change(file)

    return make


def _elsewhere(file: h5py.File) -> None:
    del file["X"]
    file.create_dataset("X", (ROWS, WIDTH), np.float32, external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


def _bomb(file: h5py.File) -> None:
    del file["obs/plate"]
    file["obs"].create_dataset("plate", (2**31,), np.int64, chunks=(2**20,), compression="gzip")


def _without_end(source: Path, target: Path) -> None:
    """HDF5 would walk through the heap of this file's texts for ever."""
    content = bytearray((source / "cells.h5ad").read_bytes())
    first = content.index(b"GCOL") + 16
    content[first : first + 2] = bytes(2)
    content[first + 8 : first + 16] = bytes(8)
    target.write_bytes(content)


def _long_text(source: Path, target: Path) -> None:
    """A text that says that it has four billion characters."""
    content = bytearray((source / "cells.h5ad").read_bytes())
    with h5py.File(source / "cells.h5ad") as file:
        offset = file["obs/_index"].id.get_offset()
    content[offset : offset + 4] = b"\xf0\xff\xff\xff"
    target.write_bytes(content)


def _link(file: h5py.File) -> None:
    del file["obs"]
    file["obs"] = h5py.ExternalLink("/etc/other.h5", "/obs")


@pytest.mark.parametrize(
    ("name", "make", "sentence"),
    [
        ("a.parquet", _written(lambda cells: cells.drop(columns=COLUMNS)), "it has no columns dino_0, dino_1, …, but Metadata_file"),
        ("a.parquet", _written(lambda cells: cells.head(0)), "it has no rows"),
        ("a.parquet", _written(lambda cells: cells.astype({"dino_3": str})), "its column dino_3 holds"),
        ("a.parquet", _written(lambda cells: cells.assign(plate=1)), "both a column 'plate' and a column 'Metadata_plate'"),
        (
            "a.parquet",
            _written(lambda cells: cells.assign(dino_3=np.nan, dino_4=np.inf)),
            "the feature dino_3 has no number in any row, nor has one more; leave such features out",
        ),
        (
            "a.parquet",
            _written(lambda cells: cells.assign(Metadata_dino_model=["a", "b"] * (ROWS // 2))),
            "holds features of 2 models; write those of each model into a file of their own",
        ),
        ("a.parquet", lambda source, target: target.write_bytes(b"PAR1"), "a.parquet: cannot be read as features"),
        ("a.h5ad", lambda source, target: target.write_bytes(b"no HDF5"), "a.h5ad: cannot be read as features"),
        ("a.h5ad", _of_cells(lambda cells: setattr(cells, "var_names", [f"gene {n}" for n in range(WIDTH)])), "no columns dino_0, dino_1"),
        ("a.h5ad", _of_cells(lambda cells: setattr(cells, "X", scipy.sparse.csr_matrix(cells.X))), "its X is sparse"),
        ("a.h5ad", _in_file(lambda file: file.pop("X")), "it has no X"),
        ("a.h5ad", _in_file(_elsewhere), "the numbers of 'X' in its X are in another file"),
        ("a.h5ad", _in_file(_link), "'obs' in its obs is a link to something else"),
        ("a.h5ad", _in_file(_bomb), "bytes of numbers and has"),
        ("a.h5ad", _long_text, "it announces 4,29"),
        ("a.h5ad", _without_end, "cannot be read as features (a heap of its texts is damaged); write it again"),
        ("a.csv", lambda source, target: target.write_text("dino_0\n1\n"), "save them as .parquet (pandas' to_parquet) or .h5ad"),
        ("none.parquet", lambda source, target: None, "there is no file of features here; check the path"),
    ],
)
def test_what_is_no_file_of_features_is_refused_in_a_sentence(
    name: str, make: Callable[[Path, Path], None], sentence: str, place: Path, tmp_path: Path
) -> None:
    make(place, tmp_path / name)
    with pytest.raises(ArtifactError) as refused:
        read_features(str(tmp_path / name))
    assert str(refused.value).startswith(f"{tmp_path / name}: ")
    assert sentence in str(refused.value)


def test_a_card_that_is_no_card_is_not_believed(place: Path, tmp_path: Path) -> None:
    schema = pq.read_schema(place / "cells.parquet")
    table = pq.read_table(place / "cells.parquet").replace_schema_metadata({**(schema.metadata or {}), parquet_file.CARD_KEY: "{}"})
    pq.write_table(table, tmp_path / "cells.parquet")
    assert not read_features(str(tmp_path / "cells.parquet")).card.described
    assert len(read_feature_cells(str(tmp_path / "cells.parquet"), _head())) == ROWS - 1


def test_where_no_row_has_all_its_numbers_the_first_that_is_missing_is_told(place: Path, tmp_path: Path) -> None:
    cells = pd.read_parquet(place / "cells.parquet")
    for row in range(ROWS):
        cells.loc[row, f"dino_{row % 2}"] = np.nan
    cells.to_parquet(tmp_path / "cells.parquet")
    url = str(tmp_path / "cells.parquet")
    for read in (lambda: read_feature_cells(url, _head()), lambda: evaluate(read_features(url), ClassificationConfig())):
        with pytest.raises(DataError, match=r"no cell has features \(the first: .*: row 1 has no number in dino_0\); mend"):
            read()


def test_pictures_are_those_of_the_cells_that_are_left_in_their_order(cells: str, tmp_path: Path) -> None:
    frame = pd.read_csv(f"{cells}/metadata.csv")
    features = write_features(str(tmp_path / "features"), frame, np.zeros((len(frame), 4), np.float32))
    steps.export_features(features, str(tmp_path / "all.parquet"))
    every = pd.read_parquet(tmp_path / "all.parquet")
    every.iloc[[20, 3, 7]].to_parquet(tmp_path / "some.parquet")
    found = pictured(read_features(str(tmp_path / "some.parquet")), cells, None, files_outside_root=False)
    assert found is not None
    assert list(found.urls) == [f"{cells}/images/{number}.png" for number in ("020", "003", "007")]
    every.assign(Metadata_file="images/other.png").to_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="is not the table that"):
        pictured(read_features(str(tmp_path / "other.parquet")), cells, None, files_outside_root=False)
