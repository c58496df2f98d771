"""The directory of Parquet files that holds features: rows, columns, types, memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dino4cells.artifacts import ArtifactWriter
from dino4cells.errors import ArtifactError, DataError
from dino4cells.features import store
from dino4cells.features.part_writer import MetadataColumns, PartWriter
from dino4cells.features.store import FeaturesCard, check_columns, part_name, read_features

COLUMNS = ["dino_0", "dino_1", "dino_2"]


def table(rows: int = 10) -> pd.DataFrame:
    """A column of each type that a CSV can have."""
    return pd.DataFrame(
        {
            "file": [f"images/{row}.png" for row in range(rows)],
            "ID": ["0012"] * rows,
            "count": np.arange(rows),
            "area": np.arange(rows) / 3,
            "dose": [None if row % 2 else float(row) for row in range(rows)],
            "control": [row % 2 == 0 for row in range(rows)],
            "compound": [None if row < 8 else "taxol" for row in range(rows)],
            "remarks": pd.Series([np.nan] * rows, dtype=float),
            "nothing": pd.Series([None] * rows, dtype=object),
        }
    )


def values(rows: int, offset: int = 0) -> np.ndarray:
    return (np.arange(rows * 3).reshape(rows, 3) + offset).astype(np.float32)


def card(rows: int, **changes: object) -> FeaturesCard:
    content = dict(
        rows=rows, failed_rows=0, embedding_dim=3, channels=("a",), transforms=[], baselines=False, data="d", data_fingerprint="f",
        model="m", model_fingerprint="f", images_per_second=1.0, versions={},
    )  # fmt: skip
    return FeaturesCard.model_validate({**content, **changes})


def artifact(url: Path, frame: pd.DataFrame, shares: list[list[int]], announced: int | None = None) -> str:
    """A features artifact whose part-r holds the rows `shares[r]`."""
    with ArtifactWriter(str(url), store.KIND) as writer:
        for rank, rows in enumerate(shares):
            with PartWriter(writer.path(part_name(rank)), MetadataColumns.of(frame), COLUMNS) as part:
                if rows:
                    part.write(values(len(rows), 3 * rows[0]), np.array(rows), "fingerprint", [None] * len(rows))
        writer.write_text(store.CARD, card(len(frame) if announced is None else announced).model_dump_json())
    return str(url)


def test_every_column_of_the_table_survives_with_its_type(tmp_path: Path) -> None:
    frame = table()
    features = read_features(artifact(tmp_path / "features", frame, [list(range(10))]))
    read = features.metadata
    assert list(read.columns) == [*frame.columns, "dino_model", "dino_error"]
    assert read["count"].tolist() == list(range(10))
    assert read["count"].dtype == np.int64
    assert read["control"].dtype == bool
    assert read["ID"].tolist() == ["0012"] * 10
    pd.testing.assert_series_equal(read["area"], frame["area"])
    pd.testing.assert_series_equal(read["dose"], frame["dose"])
    assert read["compound"].isna().sum() == 8
    assert read["remarks"].isna().all()
    assert read["nothing"].isna().all()
    assert set(read["dino_model"]) == {"fingerprint"}
    assert read["dino_error"].isna().all()


def test_files_carry_the_names_of_image_based_profiling_and_float32(tmp_path: Path) -> None:
    artifact(tmp_path / "features", table(), [list(range(10))])
    schema = pq.read_schema(tmp_path / "features" / "part-00000.parquet")
    assert schema.names == [*(f"Metadata_{name}" for name in table().columns), "Metadata_dino_model", "Metadata_dino_error", *COLUMNS]
    assert {str(schema.field(name).type) for name in COLUMNS} == {"float"}


def test_parts_of_several_processes_are_one_table_in_the_order_of_the_csv(tmp_path: Path) -> None:
    frame = table()
    # The third process had no rows, the first parts lack any value of `compound`.
    whole = read_features(artifact(tmp_path / "one", frame, [list(range(10))]))
    parts = read_features(artifact(tmp_path / "three", frame, [[0, 1, 2], [3, 4, 5, 6, 7, 8, 9], []]))
    pd.testing.assert_frame_equal(parts.metadata, whole.metadata)
    np.testing.assert_array_equal(parts.dino, whole.dino)
    np.testing.assert_array_equal(parts.dino, values(10))


def test_failed_rows_stand_in_their_place_with_nan_and_the_reason(tmp_path: Path) -> None:
    frame, path = table(3), tmp_path / "part.parquet"
    numbers = values(3)
    numbers[1] = np.nan
    with PartWriter(path, MetadataColumns.of(frame), COLUMNS) as part:
        part.write(numbers, np.arange(3), "m", [None, "1.png: is empty", None])
    read = pd.read_parquet(path)
    assert read["Metadata_dino_error"].tolist() == [None, "1.png: is empty", None]
    assert read[COLUMNS].isna().all(axis=1).tolist() == [False, True, False]


def test_rows_leave_memory_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dino4cells.features.table.ROWS_PER_GROUP", 8)
    frame, path = table(20), tmp_path / "part.parquet"
    with PartWriter(path, MetadataColumns.of(frame), COLUMNS) as part:
        for first in range(0, 20, 4):
            part.write(values(4, 3 * first), np.arange(first, first + 4), "m", [None] * 4)
            assert sum(len(waiting) for waiting in part._waiting) < 8
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [8, 8, 4]
    np.testing.assert_array_equal(file.read(COLUMNS).to_pandas().to_numpy(), values(20))


@pytest.mark.parametrize("name", ["dino_model", "dino_error"])
def test_a_column_that_would_be_overwritten_is_refused_by_name(name: str) -> None:
    with pytest.raises(DataError, match=rf"cells\.csv: the column '{name}'"):
        check_columns(table().assign(**{name: "mine"}), "cells.csv")


def test_fewer_rows_than_announced_are_refused(tmp_path: Path) -> None:
    url = artifact(tmp_path / "features", table(), [[0, 1, 2]])
    with pytest.raises(ArtifactError, match="holds 3 rows and announces 10"):
        read_features(url)


def test_a_card_of_another_version_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with ArtifactWriter(str(tmp_path / "features"), store.KIND) as writer:
        writer.write_text(store.CARD, "{}")
    with pytest.raises(ArtifactError, match=r"features\.json: cannot be read"):
        read_features(str(tmp_path / "features"))


def test_numbers_are_read_in_pieces_of_which_none_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dino4cells.features.table.ROWS_PER_GROUP", 256)
    rows, width = 8192, 64
    names = [f"dino_{number}" for number in range(width)]
    numbers = np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)
    with ArtifactWriter(str(tmp_path / "features"), store.KIND) as writer:
        with PartWriter(writer.path(part_name(0)), None, names) as part:
            for first in range(0, rows, 256):
                part.write(numbers[first : first + 256])
        writer.write_text(store.CARD, card(rows).model_dump_json())
    held, first, before = [], 0, pa.total_allocated_bytes()
    for piece in store.pieces(store.open_features(str(tmp_path / "features"))[0], store.PART, store.FEATURE):
        np.testing.assert_array_equal(piece, numbers[first : first + len(piece)])
        first += len(piece)
        held.append(pa.total_allocated_bytes() - before)
    assert first == rows
    assert max(held) < numbers.nbytes / 4
