"""Features as one file, opened by the tools that people have: scanpy, anndata, pandas, polars, DuckDB, pycytominer, torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import anndata
import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow.parquet as pq
import pytest
import torch
from pycytominer import normalize

from dino4cells import steps, storage
from dino4cells.errors import ArtifactError, ConfigError
from dino4cells.features import store
from dino4cells.features.part_writer import MetadataColumns, PartWriter
from dino4cells.features.store import read_features
from tests.conftest import Finished
from tests.unit.simulated_features import write_features

ROWS, WIDTH = 90, 5
COLUMNS = [f"dino_{number}" for number in range(WIDTH)]


def table() -> tuple[pd.DataFrame, np.ndarray]:
    """A column of each kind that a CSV may hold, and names that HDF5 would misunderstand."""
    random = np.random.default_rng(0)
    row = np.arange(ROWS)
    frame = pd.DataFrame(
        {
            "file": [f"images/{number}.png" for number in row],
            "ID": [f"field-{number // 3}" for number in row],
            "plate": row % 3 + 1,
            "dose": [None if number % 2 else number / 4 for number in row],
            "control": row % 5 == 0,
            "checked": pd.Series([None, True, False] * (ROWS // 3), dtype=object),
            "compound": [None if number < 8 else "tax/öl" for number in row],
            "nothing": pd.Series([None] * ROWS, dtype=object),
            "µM/mL": row / 2,
            "µM_mL": row,
            "_index": row[::-1].astype(str),
        }
    )
    values = random.normal(size=(ROWS, WIDTH)).astype(np.float32) * 2 + 3 * (row % 3)[:, None].astype(np.float32)
    values[4] = np.nan
    return frame, values


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    frame, values = table()
    return write_features(str(tmp_path_factory.mktemp("cells") / "features"), frame, values)


def test_scanpy_opens_the_h5ad_and_makes_a_neighbour_graph_of_it(
    features: str, tmp_path: Path, dino4cells: Callable[..., Finished]
) -> None:
    import scanpy

    ended = dino4cells("features", "export", features, "--output", tmp_path / "cells.h5ad")
    assert (ended.code, ended.out.strip()) == (0, f"wrote {ROWS} cells × {WIDTH} features to {tmp_path}/cells.h5ad"), ended.err
    cells = scanpy.read_h5ad(tmp_path / "cells.h5ad")
    usable = cells[np.isfinite(cells.X).all(axis=1)].copy()
    assert usable.n_obs == ROWS - 1
    scanpy.pp.pca(usable, n_comps=3)
    scanpy.pp.neighbors(usable, n_neighbors=5, method="gauss", transformer="sklearn")
    assert usable.obsp["connectivities"].shape == (ROWS - 1, ROWS - 1)
    usable.write_h5ad(tmp_path / "again.h5ad")


def test_anndata_holds_the_numbers_the_metadata_and_what_they_are(features: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dino4cells.features.table.ROWS_PER_GROUP", 16)
    steps.export_features(features, str(tmp_path / "cells.h5ad"))
    cells = anndata.read_h5ad(tmp_path / "cells.h5ad")
    frame, values = table()
    assert cells.X.dtype == np.float32
    np.testing.assert_array_equal(cells.X, values)
    assert cells.var_names.tolist() == COLUMNS
    assert cells.obs_names.is_unique
    assert cells.obs["file"].tolist() == frame["file"].tolist()
    assert cells.obs["plate"].tolist() == frame["plate"].tolist()
    assert cells.obs["control"].dtype == bool
    pd.testing.assert_series_equal(cells.obs["dose"].reset_index(drop=True), frame["dose"])
    assert cells.obs["compound"].isna().tolist() == [True] * 8 + [False] * (ROWS - 8)
    assert cells.obs["compound"].cat.categories.tolist() == ["tax/öl"]
    assert cells.obs["checked"].iloc[:3].tolist()[1:] == ["True", "False"]
    assert cells.obs["nothing"].isna().all()
    assert [name for name in cells.obs if name.startswith("µM")] == ["µM_mL", "µM_mL_"]
    assert cells.obs["index"].tolist() == frame["_index"].tolist()
    said = cells.uns["dino4cells"]
    assert (said["rows"], said["model_fingerprint"], said["tokens"], said["channels"].tolist()) == (ROWS, "one model", "class", ["protein"])


def test_the_reason_of_a_failed_row_goes_with_it(tmp_path: Path, model: str, few: str, dino4cells: Callable[..., Finished]) -> None:
    ended = dino4cells("extract", "--model", model, "--data", few, "--output", tmp_path / "cells", "--format", "h5ad")
    assert (ended.code, "1 of them without features (see obs.dino_error)" in ended.out) == (0, True), ended.err
    cells = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert np.isnan(cells.X).any(axis=1).tolist() == [False, False, True, False]
    assert "002.png" in cells.obs["dino_error"].iloc[2]
    assert cells.obs["dino_error"].notna().sum() == 1
    assert cells.uns["dino4cells"]["model_card"]["arch"] == "vit_tiny"
    assert cells.uns["dino4cells"]["model_card"]["training"]["images"] == 24
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad"]  # nothing half-written stays


def test_pandas_reads_the_parquet_file_and_pycytominer_normalizes_it(
    features: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dino4cells.features.table.ROWS_PER_GROUP", 16)
    steps.export_features(features, str(tmp_path / "cells.parquet"))
    cells = pd.read_parquet(tmp_path / "cells.parquet")
    _, values = table()
    np.testing.assert_array_equal(cells[COLUMNS].to_numpy(), values)
    assert cells.filter(like="dino_").dtypes[COLUMNS].unique().tolist() == [np.float32]
    assert cells["Metadata_compound"].isna().sum() == 8
    file = pq.ParquetFile(tmp_path / "cells.parquet")
    assert file.num_row_groups == 6
    assert json.loads(file.metadata.metadata[b"dino4cells"])["model"] == "model"
    good = cells[cells["Metadata_dino_error"].isna() & cells[COLUMNS].notna().all(axis=1)]
    normalized = normalize(good, features=COLUMNS, meta_features="infer", method="mad_robustize")
    np.testing.assert_allclose(normalized[COLUMNS].median(), 0, atol=1e-6)
    assert "Metadata_ID" in normalized.columns


@pytest.mark.parametrize("exported", [True, False], ids=["one file", "the parts"])
def test_polars_and_duckdb_read_features_without_us(features: str, tmp_path: Path, exported: bool) -> None:
    files = f"{features}/part-*.parquet"
    if exported:
        files = str(tmp_path / "cells.parquet")
        steps.export_features(features, files)
    frame, values = table()
    cells = polars.read_parquet(files)
    np.testing.assert_array_equal(cells.select(COLUMNS).to_numpy(), values)
    assert cells.schema["dino_0"] == polars.Float32
    assert cells["Metadata_compound"].to_list() == frame["compound"].where(frame["compound"].notna(), None).tolist()
    query = f"select Metadata_plate, count(*), avg(dino_0) from '{files}' where Metadata_plate <> 2 group by 1 order by 1"
    found = duckdb.sql(query).fetchall()
    of_plates = {plate: values[(frame["plate"] == plate).to_numpy(), 0] for plate in (1, 3)}
    assert [row[:2] for row in found] == [(plate, len(numbers)) for plate, numbers in of_plates.items()]
    np.testing.assert_allclose([row[2] for row in found], [numbers.mean(dtype=float) for numbers in of_plates.values()], rtol=1e-6)


def test_a_directory_of_several_parts_becomes_one_file_on_any_store(model: str, few: str, tmp_path: Path) -> None:
    frame, values = table()
    card = read_features(write_features(str(tmp_path / "one"), frame, values)).card
    from dino4cells.artifacts import ArtifactWriter

    with ArtifactWriter("memory://export/features", store.KIND) as writer:
        for rank, rows in enumerate((np.arange(50), np.arange(50, ROWS))):
            with PartWriter(writer.path(store.part_name(rank)), MetadataColumns.of(frame), COLUMNS) as part:
                part.write(values[rows], rows, "one model", ["broken" if row == 4 else None for row in rows])
        writer.write_text(store.CARD, card.model_dump_json())
    steps.export_features("memory://export/features", "memory://export/cells.parquet")
    Path(tmp_path / "copy.parquet").write_bytes(storage.read_bytes("memory://export/cells.parquet"))
    cells = pd.read_parquet(tmp_path / "copy.parquet")
    np.testing.assert_array_equal(cells[COLUMNS].to_numpy(), values)
    assert cells["Metadata_dino_error"].dropna().to_dict() == {4: "broken"}


def test_the_published_layout_can_be_written_of_features_that_are_there_and_read_again(features: str, tmp_path: Path) -> None:
    steps.export_features(features, str(tmp_path / "cells.pth"))
    numbers, ids = torch.load(tmp_path / "cells.pth", weights_only=True)
    _, values = table()
    np.testing.assert_array_equal(numbers.numpy(), values)
    assert ids[:4] == ["field-0", "field-0", "field-0", "field-1"]
    steps.export_features(str(tmp_path / "cells.pth"), str(tmp_path / "cells.h5ad"))
    cells = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert cells.obs["ID"].tolist() == ids
    np.testing.assert_array_equal(cells.X, values)


@pytest.mark.parametrize(
    ("form", "name", "sentence"),
    [
        ("h5ad", "cells.pth", "--format: h5ad is asked for and the output"),
        ("csv", "cells", "there is no format 'csv'; choose parquet, pth or h5ad."),
    ],
)
def test_a_format_that_is_not_there_or_not_the_outputs_is_refused(
    form: str, name: str, sentence: str, tmp_path: Path, model: str, few: str, dino4cells: Callable[..., Finished]
) -> None:
    ended = dino4cells("extract", "--model", model, "--data", few, "--output", tmp_path / name, "--format", form)
    assert (ended.code, sentence in ended.err) == (2, True), ended.err
    assert not list(tmp_path.iterdir())


def test_an_export_is_not_overwritten_unasked_and_must_say_its_format(features: str, tmp_path: Path) -> None:
    steps.export_features(features, str(tmp_path / "cells.parquet"))
    with pytest.raises(ArtifactError, match="holds a finished result"):
        steps.export_features(features, str(tmp_path / "cells.parquet"))
    steps.export_features(features, str(tmp_path / "cells.parquet"), overwrite=True)
    with pytest.raises(ConfigError, match=r"let it end in \.parquet, \.h5ad or \.pth"):
        steps.export_features(features, str(tmp_path / "cells.csv"))


def test_without_anndata_an_extraction_into_h5ad_says_so_before_it_begins(
    tmp_path: Path, model: str, few: str, dino4cells: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "anndata", None)
    ended = dino4cells("extract", "--model", model, "--data", few, "--output", tmp_path / "cells.h5ad")
    assert ended.code == 2
    assert "anndata is not installed; run: pip install 'dino4cells[anndata]'" in ended.err
    assert not list(tmp_path.iterdir())


def test_features_are_not_lost_where_the_file_of_them_cannot_be_written(
    tmp_path: Path, model: str, few: str, dino4cells: Callable[..., Finished]
) -> None:
    (tmp_path / "cells.h5ad" / "in the way").mkdir(parents=True)
    words = ("extract", "--model", model, "--data", few, "--output", tmp_path / "cells.h5ad", "--overwrite")
    ended = dino4cells(*words)
    assert ended.code == 2
    assert f"the features are in {tmp_path}/cells.h5ad.parts, from where dino4cells features export makes it" in ended.err
    assert len(read_features(f"{tmp_path}/cells.h5ad.parts").dino) == 4
    (tmp_path / "cells.h5ad" / "in the way").rmdir()
    (tmp_path / "cells.h5ad").rmdir()
    assert dino4cells(*words).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]


@pytest.fixture(scope="module")
def few(draw_cells: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four cells, of which the third has no image."""
    directory = tmp_path_factory.mktemp("few") / "data"
    draw_cells(directory, 4)
    (directory / "images" / "002.png").write_bytes(b"")
    return str(directory)
