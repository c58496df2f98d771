"""Which cells a classifier learns from, and what it learns about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from simulated_features import cells_of_lines, write_features

from dino4cells.classify.cells import FeatureCells, check_same_features, read_feature_cells
from dino4cells.classify.division import divide, keys_of_the_split
from dino4cells.classify.labels import LabelTable, task_of
from dino4cells.config import Config, parse_config
from dino4cells.errors import ConfigError, DataError, Dino4CellsError


def config_of(**classification: object) -> Config:
    settings = {"train_cell_type": True, **classification}
    return parse_config("", preset="none", overrides={f"classification.{key}": value for key, value in settings.items()})


def table(source: str = "features", **columns: list[object]) -> LabelTable:
    return LabelTable(pd.DataFrame(columns), source)


def cells(count: int = 12, cells_per_id: int = 3) -> FeatureCells:
    frame, values = cells_of_lines(count, cells_per_id=cells_per_id)
    return FeatureCells(frame, values, "all cells", "")


def read_all(url: str) -> FeatureCells:
    assert url == "all"
    return cells()


# What is learnt


def test_one_class_a_cell_is_read_from_the_cell_type() -> None:
    one, other = table(cell_type=["U-2 OS", "", "HeLa", None]), table(cell_type=["A549", "HeLa"])
    task = task_of(config_of(), [one, other])
    assert (task.classes, task.several) == (("A549", "HeLa", "U-2 OS"), False)
    targets, known = task.targets(one)
    assert targets.tolist() == [[0, 0, 1], [0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert known.tolist() == [True, False, True, False]


def test_the_class_column_can_be_named() -> None:
    task = task_of(config_of(label="drug"), [table(cell_type=["a", "a"], drug=["taxol", "DMSO"])])
    assert task.classes == ("DMSO", "taxol")


def test_labels_of_a_protein_are_the_named_columns_in_their_order_or_all_of_zeros_and_ones() -> None:
    columns = {"ID": ["a", "b"], "plate": [3, 4], "Cytosol": [1, 0], "Nucleus": [1, 1], "area": [0.5, 1.0]}
    found = table(**columns)  # type: ignore[arg-type]
    by_value = task_of(config_of(train_cell_type=False, train_protein=True), [found])
    assert by_value.classes == ("Cytosol", "Nucleus")
    named = parse_config("embedding:\n  target_labels: [Nucleus, Cytosol]\nclassification:\n  train_protein: True", preset="none")
    task = task_of(named, [found])
    assert (task.classes, task.several) == (("Nucleus", "Cytosol"), True)
    assert task.targets(found)[0].tolist() == [[1, 1], [1, 0]]


def test_labels_of_a_protein_can_be_names_in_one_column() -> None:
    found = table(protein_location=["['cytosol', 'nucleus']", "nucleus", "[]"])
    task = task_of(config_of(train_cell_type=False, train_protein=True), [found])
    assert (task.classes, task.several) == (("cytosol", "nucleus"), True)
    targets, known = task.targets(found)
    assert targets.tolist() == [[1, 1], [0, 1], [0, 0]]
    assert known.tolist() == [True, True, False]


def test_a_matrix_of_classes_out_of_a_published_file_is_one_class_a_cell() -> None:
    found = table(cell_type_0=[1, 0, 0], cell_type_1=[0, 1, 0])
    task = task_of(config_of(), [found])
    assert (task.classes, task.several) == (("cell_type_0", "cell_type_1"), False)
    assert task.targets(found)[1].tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("settings", "columns", "words"),
    [
        ({}, {"ID": ["a"]}, ["features", "no column 'cell_type'", "--label"]),
        ({"num_classes": 3}, {"cell_type": ["a", "b"]}, ["num_classes is 3", "2 classes", "(a, b)"]),
        ({}, {"cell_type": ["a", "a"]}, ["1 classes (a)", "needs two"]),
        ({"train_protein": True}, {"cell_type": ["a", "b"]}, ["both true"]),
        ({"train_protein": True, "train_cell_type": False}, {"cell_type": ["a"]}, ["0/1 column", "'protein_location'", "neither"]),
        (
            {"train_protein": True, "train_cell_type": False, "num_classes": 19},
            {"x": [1], "y": [0]},
            ["is 19", "2 columns of labels (x, y)"],
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused_in_a_sentence(
    settings: dict[str, object], columns: dict[str, list[object]], words: list[str]
) -> None:
    with pytest.raises(Dino4CellsError) as refused:
        task_of(config_of(**settings), [table(**columns)])
    for word in words:
        assert word in str(refused.value)


def test_a_label_that_is_neither_zero_nor_one_is_told_with_its_cell() -> None:
    named = parse_config("embedding:\n  target_labels: [Nucleus]\nclassification:\n  train_protein: True", preset="none")
    found = table(Nucleus=[1, 0, 2])
    with pytest.raises(DataError, match="features, cell 3: the column 'Nucleus' holds '2' where a label is 0 or 1"):
        task_of(named, [found]).targets(found)


# Which cells


def test_a_random_split_keeps_the_cells_of_an_id_together_and_is_the_same_every_time() -> None:
    config = config_of(folds=4)
    division = divide(config, "all", read_all)
    ids = [set(part.frame["ID"]) for part in (division.train, division.valid)]
    assert not ids[0] & ids[1]
    assert [len(division.train), len(division.valid)] == [9, 3]
    assert division.description == "a random 1/4 of the values of ID validates"
    assert divide(config, "all", read_all).valid.frame.equals(division.valid.frame)
    other = [divide(config_of(folds=4, seed=seed), "all", read_all).valid.frame["ID"][0] for seed in range(8)]
    assert len(set(other)) > 1


@pytest.mark.parametrize("kind", ["txt", "csv", "headerless.csv", "pth", "array.pth"])
def test_a_file_of_ids_chooses_cells_of_the_table_of_all(tmp_path: Path, kind: str) -> None:
    parts = {"train": ["field-0", "field-2"], "valid": ["field-1", "elsewhere"]}
    for part, ids in parts.items():
        path = tmp_path / f"{part}_IDs.{kind}"
        if kind == "pth":
            torch.save(ids, path)
        elif kind == "array.pth":
            torch.save(np.array(ids), path)
        else:
            path.write_text("\n".join([*(["ID"] if kind == "csv" else []), *ids]) + "\n")
    files = {f"cells_{part}_path": str(tmp_path / f"{part}_IDs.{kind}") for part in parts}

    def read(url: str) -> FeatureCells:
        return cells() if url == "all" else read_feature_cells(url, config_of())

    division = divide(config_of(**files), "all", read)
    assert division.train.frame["ID"].tolist() == ["field-0"] * 3 + ["field-2"] * 3
    assert division.valid.frame["ID"].tolist() == ["field-1"] * 3
    assert division.description == "given by cells_train_path and cells_valid_path"
    assert ["1 of its 2 IDs (the first: 'elsewhere') are not in all cells" in warning for warning in division.warnings] == [True]


def test_a_features_artifact_is_a_part_of_its_own(tmp_path: Path) -> None:
    for part, count in (("train", 12), ("valid", 6), ("test", 3)):
        write_features(str(tmp_path / part), *cells_of_lines(count))
    config = config_of(**{f"{part}_path": str(tmp_path / part) for part in ("train", "valid", "test")})
    division = divide(config, None, lambda url: read_feature_cells(url, config))
    assert {name: len(part) for name, part in division.parts.items()} == {"train": 12, "valid": 6, "test": 3}
    assert "are in training and in validation" in division.warnings[0]


def test_each_task_has_files_of_its_own_as_in_the_papers_scripts() -> None:
    paths = {f"{kind}{part}_path": f"{kind}{part}" for kind in ("", "averaged_") for part in ("train", "valid", "test")}
    paths |= {f"cells_{part}_path": "file" for part in ("train", "valid")}
    cell_lines = keys_of_the_split(config_of(**paths))
    assert list(cell_lines.values()) == ["cells_train_path", "cells_valid_path", "test_path"]
    proteins = config_of(**paths, train_cell_type=False, train_protein=True)
    assert list(keys_of_the_split(proteins).values()) == ["train_path", "valid_path", "test_path"]
    fields = config_of(**paths, train_cell_type=False, train_protein=True, whole_images=True)
    assert list(keys_of_the_split(fields).values()) == ["averaged_train_path", "averaged_valid_path", "averaged_test_path"]
    assert list(keys_of_the_split(config_of(train_path="a", valid_path="b")).values()) == ["train_path", "valid_path", "test_path"]


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"cells_train_path": "{}/none.pth"}, DataError, ["cells_train_path: there is no file", "none.pth", "leave the keys of the split"]),
        ({"cells_valid_path": "{}/ids.txt"}, ConfigError, ["cells_valid_path is given without train_path"]),
        ({"cells_train_path": "{}/ids.txt", "cells_valid_path": "{}/foreign.txt"}, DataError, ["none of its 1 IDs (the first: 'nobody')"]),
        ({"cells_train_path": "{}/empty.txt", "cells_valid_path": "{}/ids.txt"}, DataError, ["empty.txt: lists no IDs"]),
        ({"cells_train_path": "{}/wide.csv", "cells_valid_path": "{}/ids.txt"}, DataError, ["no column 'ID'; it has: cell, plate"]),
        ({"group": "donor"}, DataError, ["no column 'donor'"]),
        ({"group": "one"}, DataError, ["all 12 cells have one one", "--group"]),
    ],
)
def test_a_split_that_cannot_be_is_refused_in_a_sentence(
    tmp_path: Path, settings: dict[str, str], error: type[Exception], words: list[str]
) -> None:
    for name, text in {"ids.txt": "field-0", "foreign.txt": "nobody", "empty.txt": "\n", "wide.csv": "cell,plate\n1,2"}.items():
        (tmp_path / name).write_text(text)

    def read(url: str) -> FeatureCells:
        found = cells()
        found.frame["one"] = "plate"
        return found

    with pytest.raises(error) as refused:
        divide(config_of(**{key: value.format(tmp_path) for key, value in settings.items()}), "all", read)
    for word in words:
        assert word in str(refused.value)


def test_features_are_no_images(tmp_path: Path) -> None:
    torch.save([torch.zeros(4, 8), ["a"] * 4, ["a"] * 4, ["a"] * 4], tmp_path / "train.pth")
    config = config_of(use_pretrained_features=False, train_path=str(tmp_path / "train.pth"), valid_path=str(tmp_path / "train.pth"))
    with pytest.raises(DataError, match=r"train\.pth, which lists no IDs; .* needs use_pretrained_features: true"):
        divide(config, "all", read_all)


def test_without_any_cells_the_options_that_name_them_are_told() -> None:
    with pytest.raises(ConfigError, match=r"no cells are given; name them there, or all cells by --features or embedding\.output_path"):
        divide(config_of(), None, read_all)


def test_a_missing_test_file_is_a_warning_because_published_configurations_name_one_that_nobody_makes() -> None:
    division = divide(config_of(test_path="nowhere.pth"), "all", read_all)
    assert division.test is None
    assert "there is no file nowhere.pth, so no cells are tested" in division.warnings[0]


def test_features_of_one_id_are_averaged_with_what_the_table_says_about_the_first_cell() -> None:
    frame = pd.DataFrame({"ID": ["b", "a", "b", "c"], "cell_type": ["x", "y", "other", "z"]})
    values = np.array([[1, 2], [3, 4], [5, 8], [0, 0]], np.float32)
    averaged = FeatureCells(frame, values, "features", "").averaged()
    assert averaged.frame.to_dict("list") == {"ID": ["b", "a", "c"], "cell_type": ["x", "y", "z"]}
    assert averaged.values_ND.tolist() == [[3, 5], [3, 4], [0, 0]]
    assert averaged.averaged().values_ND.tolist() == averaged.values_ND.tolist()
    with pytest.raises(DataError, match="no column 'ID'"):
        FeatureCells(frame[["cell_type"]], values, "features", "").averaged()


def test_cells_without_features_are_left_out(tmp_path: Path) -> None:
    frame, values = cells_of_lines(6)
    values[2, 3] = np.nan
    found = read_feature_cells(write_features(str(tmp_path / "features"), frame, values), config_of())
    assert found.frame["file"].tolist() == ["0.png", "1.png", "3.png", "4.png", "5.png"]
    with pytest.raises(DataError, match="no cell has features"):
        read_feature_cells(write_features(str(tmp_path / "none"), frame, np.full_like(values, np.nan)), config_of())


def test_features_of_another_model_are_refused() -> None:
    frame, values = cells_of_lines(6)
    one = FeatureCells(frame, values, "here", "a" * 64)
    check_same_features([one, FeatureCells(frame, values, "published.pth", "")])
    with pytest.raises(
        DataError, match=r"there: its features come from another model \(bbbbbbbbbbbb\) than those of here \(aaaaaaaaaaaa\)"
    ):
        check_same_features([one, FeatureCells(frame, values, "there", "b" * 64)])
    with pytest.raises(DataError, match="there: has 5 features a cell and here has 16"):
        check_same_features([one, FeatureCells(frame, values[:, :5], "there", "")])
