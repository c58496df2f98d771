"""Features as one file in the published layout: what is written for which settings, and what is read of whose files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dino4cells.config import Config
from dino4cells.data.metadata import Metadata
from dino4cells.errors import ArtifactError, DataError
from dino4cells.features.published import LabelColumns, write_features_file
from dino4cells.features.store import load_features_card, read_features

MakeConfig = Callable[..., Config]
FRAME = pd.DataFrame(
    {
        "file": ["a.png", "b.png", "c.png"],
        "ID": ["0012", "0012", "x-7"],
        "cell_type": ["U-2 OS", np.nan, "HeLa"],
        "protein_location": ["nucleus", "['ER', 'cytosol']", "ER"],
        "Nucleus": [1, 0, 0],
        "Cytosol": [0, 1, 1],
        "Target": [3, 4, 3],
    }
)
FEATURES = np.arange(12, dtype=np.float32).reshape(3, 4)


def metadata(frame: pd.DataFrame = FRAME) -> Metadata:
    return Metadata(frame, "cells.csv", "", None, "f")


def labels_of(make: MakeConfig, **keys: object) -> LabelColumns:
    return LabelColumns.from_config(make({f"{'model' if key == 'datatype' else 'embedding'}.{key}": value for key, value in keys.items()}))


def test_labelled_cells_have_the_lists_of_the_originals_reader_in_its_order(tmp_path: Path, tiny_config: MakeConfig) -> None:
    labels = labels_of(tiny_config, embedding_has_labels=True)
    write_features_file(str(tmp_path / "f.pth"), FEATURES, labels.lists(FRAME, "cells.csv"))
    features, locations, cell_types, ids = torch.load(tmp_path / "f.pth", weights_only=True)
    assert features.dtype == torch.float32
    np.testing.assert_array_equal(features.numpy(), FEATURES)
    assert locations == ["nucleus", "['ER', 'cytosol']", "ER"]
    assert cell_types == ["U-2 OS", "", "HeLa"]
    assert ids == ["0012", "0012", "x-7"]


def test_target_labels_become_rows_of_a_matrix_whose_columns_are_sorted(tmp_path: Path, tiny_config: MakeConfig) -> None:
    labels = labels_of(tiny_config, embedding_has_labels=True, target_labels=["Nucleus", "Cytosol"])
    write_features_file(str(tmp_path / "f.pth"), FEATURES, labels.lists(FRAME, "cells.csv"))
    _, targets, _, _ = torch.load(tmp_path / "f.pth", weights_only=True)
    # The original's divide_train_valid stacks the list.
    assert torch.stack(targets).tolist() == [[0, 1], [1, 0], [1, 0]]
    assert targets[0].dtype == torch.int64


def test_cells_without_labels_have_their_ids_and_cell_painting_its_targets(tiny_config: MakeConfig) -> None:
    assert labels_of(tiny_config).lists(FRAME, "") == [["0012", "0012", "x-7"]]
    painted = labels_of(tiny_config, datatype="CellPainting", embedding_has_labels=True)
    assert painted.lists(FRAME, "") == [[3, 4, 3]]
    assert type(painted.lists(FRAME, "")[0][0]) is int


@pytest.mark.parametrize(
    ("keys", "frame", "words"),
    [
        ({"embedding_has_labels": True}, FRAME.drop(columns="cell_type"), r"cells\.csv: there is no column 'cell_type'"),
        ({}, FRAME.drop(columns="ID"), r"cells\.csv: there is no column 'ID'"),
        ({"datatype": "CellPainting"}, FRAME.drop(columns="Target"), r"cells\.csv: there is no column 'Target'"),
        (
            {"embedding_has_labels": True, "target_labels": ["Nucleus", "Cytosole"]},
            FRAME,
            r"cells\.csv: there is no column 'Cytosole' .*did you mean 'Cytosol'",
        ),
        (
            {"embedding_has_labels": True, "target_labels": ["Nucleus"]},
            FRAME.assign(Nucleus=[1, 2, 0]),
            r"cells\.csv: the column 'Nucleus' of embedding.target_labels is '2' in row 2",
        ),
    ],
)
def test_a_table_without_what_the_layout_needs_is_refused(
    keys: dict[str, object], frame: pd.DataFrame, words: str, tiny_config: MakeConfig
) -> None:
    with pytest.raises(DataError, match=words):
        labels_of(tiny_config, **keys).check(metadata(frame))


def test_a_file_is_read_back_as_a_table_of_its_labels(tmp_path: Path, tiny_config: MakeConfig) -> None:
    config = tiny_config({"embedding.embedding_has_labels": True, "embedding.target_labels": ["Nucleus", "Cytosol"]})
    url = str(tmp_path / "f.pth")
    write_features_file(url, FEATURES, LabelColumns.from_config(config).lists(FRAME, ""))
    table = read_features(url, config)
    np.testing.assert_array_equal(table.dino, FEATURES)
    assert list(table.metadata.columns) == ["Cytosol", "Nucleus", "cell_type", "ID", "dino_model", "dino_error"]
    assert table.metadata["Cytosol"].tolist() == [0, 1, 1]
    assert table.metadata["cell_type"].isna().tolist() == [False, True, False]
    assert (table.card.rows, table.card.embedding_dim, table.card.channels) == (3, 4, ())
    assert list(read_features(url).metadata.columns)[:2] == ["label_0", "label_1"]


def test_one_list_is_the_target_of_cell_painting_and_the_id_of_all_others(tmp_path: Path, tiny_config: MakeConfig) -> None:
    url = str(tmp_path / "f.pth")
    write_features_file(url, FEATURES, [["a", "b", "c"]])
    assert read_features(url).metadata["ID"].tolist() == ["a", "b", "c"]
    assert read_features(url, tiny_config(datatype="CellPainting")).metadata["Target"].tolist() == ["a", "b", "c"]


def test_the_papers_files_are_read_without_the_table_that_they_end_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As its extraction collates labels (tensors per row), with the metadata as a fifth item."""
    rows = [torch.tensor([1, 0, 1]), torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0])]
    cell_types = ["U-2 OS", torch.tensor(float("nan"), dtype=torch.float64), "HeLa"]
    torch.save([torch.from_numpy(FEATURES), rows, cell_types, ["a-1", "b", "c"], FRAME], tmp_path / "f.pth")
    with caplog.at_level(logging.WARNING):
        table = read_features(str(tmp_path / "f.pth"))
    assert "f.pth: the metadata table inside is not read" in caplog.text
    assert table.metadata[["label_0", "label_1", "label_2"]].to_numpy().tolist() == [[1, 0, 1], [0, 0, 1], [0, 1, 0]]
    assert table.metadata["cell_type"].tolist() == ["U-2 OS", None, "HeLa"]
    assert table.metadata["ID"].tolist() == ["a-1", "b", "c"]


def test_the_papers_averaged_files_are_read(tmp_path: Path) -> None:
    """A tuple of arrays; for cell lines the third is a matrix too."""
    content = (torch.from_numpy(FEATURES), np.array([[1, 0], [0, 1], [1, 1]]), np.eye(3), np.array(["a", "b", "c"]))
    torch.save(content, tmp_path / "f.pth")
    table = read_features(str(tmp_path / "f.pth"))
    assert list(table.metadata.columns)[:6] == ["label_0", "label_1", "cell_type_0", "cell_type_1", "cell_type_2", "ID"]
    assert table.metadata["label_1"].tolist() == [0, 1, 1]


def test_features_that_are_missing_are_failed_rows(tmp_path: Path) -> None:
    values = FEATURES.copy()
    values[1] = np.nan
    write_features_file(str(tmp_path / "f.pth"), values, [["a", "b", "c"]])
    table = read_features(str(tmp_path / "f.pth"))
    assert table.metadata["dino_error"].isna().tolist() == [True, False, True]
    assert load_features_card(str(tmp_path / "f.pth")).failed_rows == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"teacher": {}}, "its first item is no table of numbers"),
        ([torch.zeros(3), ["a", "b", "c"]], "its first item is no table of numbers"),
        ([torch.zeros(3, 2), ["a", "b"]], "item 2 is no list of 3 labels"),
        ([torch.zeros(3, 2), ["a", "b", "c"], [torch.zeros(2), torch.zeros(1), torch.zeros(2)]], "item 3 is no list of 3 labels"),
        ([torch.zeros(1, 2), [{"a": 1}]], "item 2 is no list of 1 labels"),
    ],
)
def test_another_layout_is_refused_with_the_item_at_fault(content: object, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "f.pth")
    with pytest.raises(ArtifactError, match=rf"f\.pth: is no file of features \({words}\)"):
        read_features(str(tmp_path / "f.pth"))
