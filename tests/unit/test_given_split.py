"""A column of the table that says which cells train, validate and test."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from dino4cells.classify.crossval import cross_validate, fit_classifier
from dino4cells.classify.given_split import given_folds, parts_in
from dino4cells.errors import DataError


def cells(count: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = np.arange(count) % 3
    features = np.eye(6)[labels] + np.random.default_rng(0).normal(scale=0.6, size=(count, 6))
    return features, np.asarray([f"class {name}" for name in labels]), np.resize(np.repeat(["train", "valid", "test"], 3), count)


def test_parts_are_read_in_any_case() -> None:
    frame = pd.DataFrame({"part": ["Train", "VALID", " test "]})
    assert parts_in(frame, "part", "cells.csv").tolist() == ["train", "valid", "test"]


@pytest.mark.parametrize(
    ("values", "column", "words"),
    [
        (
            ["train", "holdout", "dev"],
            "part",
            ["cells.csv, cell 2", "holds 'holdout' (and 1 more cells hold another)", "train, valid or test"],
        ),
        (["train", None, "test"], "part", ["cell 2", "train, valid or test is needed"]),
        (["train"], "fold", ["no column 'fold'", "--split"]),
    ],
)
def test_another_value_is_refused_in_a_sentence(values: list[str | None], column: str, words: list[str]) -> None:
    with pytest.raises(DataError) as refused:
        parts_in(pd.DataFrame({"part": values}), column, "cells.csv")
    for word in words:
        assert word in str(refused.value)


def test_what_is_fitted_on_training_and_validation_is_judged_on_the_test_cells_alone() -> None:
    features, labels, parts = cells()
    folds = given_folds(parts, labels, column="part")
    result = cross_validate(features, labels, folds, "knn")
    tested = parts == "test"
    assert (fit_classifier(features[~tested], labels[~tested], "knn").predict(features[tested]) == result.predictions[tested]).all()
    assert set(result.predictions[~tested]) == {""}
    assert result.pooled.cells == tested.sum()
    assert folds.description == "given by the column part (42 train, 39 valid, 39 test); judged on test"
    by_validation = given_folds(np.where(tested, "train", parts), labels)
    assert (parts[by_validation.judged] == "valid").all()


def test_a_class_that_nobody_trains_is_not_judged_and_one_that_nobody_tests_still_trains() -> None:
    features, labels, parts = cells()
    labels[:9], labels[9:18] = np.where(parts[:9] == "test", "unseen", labels[:9]), np.where(parts[9:18] == "train", "extra", labels[9:18])
    folds = given_folds(parts, labels)
    assert folds.left_out == (("unseen", 3),)
    assert "has no cell that trains" in folds.warnings[0]
    result = cross_validate(features, labels, folds, "linear")
    assert "extra" in result.classes
    assert "unseen" not in result.classes


def test_a_plate_on_both_sides_is_told() -> None:
    _, labels, parts = cells()
    plates = np.resize(["p1", "p2"], len(labels))
    folds = given_folds(parts, labels, plates, column="part", group_name="plate")
    assert "2 values of plate (the first: 'p1') are in train and in test" in folds.warnings[0]
    assert given_folds(parts, labels, parts, group_name="plate").warnings == ()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda parts, labels: (np.where(parts == "train", "test", parts), labels), "says train of no cell"),
        (lambda parts, labels: (np.full_like(parts, "train"), labels), "says test or valid of no cell"),
        (lambda parts, labels: (parts, np.where(parts == "test", labels, "one")), "of the single class 'one' train"),
        (lambda parts, labels: (parts, np.where(parts == "test", "other", labels)), "lets no class both train and be judged"),
    ],
)
def test_a_split_that_judges_nothing_is_refused(
    change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]], sentence: str
) -> None:
    _, labels, parts = cells()
    with pytest.raises(DataError, match=sentence):
        given_folds(*change(parts, labels))
