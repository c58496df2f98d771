"""Classification: what a biologist may trust in a score."""

from __future__ import annotations

import json
import math
import pickle
import time
import warnings
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

from dino4cells.classify import Classifier, cross_validate, fit_classifier, make_folds, score
from dino4cells.classify.knn import nearest_neighbours
from dino4cells.errors import DataError
from dino4cells.features.intensity import intensity_names, intensity_statistics

BOTH: list[Classifier] = ["knn", "linear"]


def blobs(cells: int = 200, classes: int = 4, spread: float = 0.05, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cells around one direction for each class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(cells) % classes
    return np.eye(classes + 4)[labels] + rng.normal(scale=spread, size=(cells, classes + 4)), np.asarray(
        [f"class {name}" for name in labels]
    )


@pytest.mark.parametrize("classifier", BOTH)
def test_separable_classes_score_one(classifier: Classifier) -> None:
    features, labels = blobs()
    result = cross_validate(features, labels, make_folds(labels), classifier)
    assert result.pooled.accuracy == result.pooled.balanced_accuracy == result.pooled.macro_f1 == 1.0
    assert (result.predictions == labels).all()


@pytest.mark.parametrize("classifier", BOTH)
def test_shuffled_labels_score_chance(classifier: Classifier) -> None:
    features, labels = blobs(cells=800)
    shuffled = np.random.default_rng(1).permutation(labels)
    result = cross_validate(features, shuffled, make_folds(shuffled), classifier)
    assert result.pooled.accuracy == pytest.approx(1 / 4, abs=0.06)
    assert result.pooled.balanced_accuracy == pytest.approx(1 / 4, abs=0.06)


@pytest.mark.parametrize("classifier", BOTH)
def test_pooled_scores_are_those_of_scikit_learn_on_the_out_of_fold_predictions(classifier: Classifier) -> None:
    features, labels = blobs(spread=0.6)
    result = cross_validate(features, labels, make_folds(labels), classifier)
    assert 0.3 < result.pooled.accuracy < 1
    assert result.pooled.accuracy == accuracy_score(labels, result.predictions)
    assert result.pooled.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, result.predictions), abs=1e-12)
    assert result.pooled.macro_f1 == pytest.approx(f1_score(labels, result.predictions, average="macro"), abs=1e-12)
    assert result.pooled.confusion == tuple(map(tuple, confusion_matrix(labels, result.predictions).tolist()))


@pytest.mark.parametrize("classifier", BOTH)
def test_every_cell_is_predicted_by_a_classifier_that_has_not_seen_it(classifier: Classifier) -> None:
    features, labels = blobs(spread=0.6)
    folds = make_folds(labels)
    result = cross_validate(features, labels, folds, classifier)
    for train, test in folds:
        assert not set(train) & set(test)
        assert (fit_classifier(features[train], labels[train], classifier).predict(features[test]) == result.predictions[test]).all()


def test_cosine_neighbours_ignore_the_length_of_a_vector() -> None:
    features, labels = blobs(spread=0.6)
    stretched = features * np.random.default_rng(0).uniform(0.01, 100, size=(len(features), 1))
    folds = make_folds(labels)
    assert (cross_validate(features, labels, folds, "knn").predictions == cross_validate(stretched, labels, folds, "knn").predictions).all()


def test_similarity_votes_let_a_close_neighbour_outweigh_two_far_ones() -> None:
    features = np.asarray([[1.0, 0.0], [0.0, 1.0], [0.05, 1.0]])
    labels = np.asarray(["close", "far", "far"])
    query = [[1.0, 0.1]]
    assert nearest_neighbours(3).fit(features, labels).predict(query) == ["far"]
    assert nearest_neighbours(3, temperature=0.07).fit(features, labels).predict(query) == ["close"]
    similarity = features @ np.asarray([1.0, 0.1]) / np.linalg.norm(features, axis=1) / np.hypot(1, 0.1)
    votes = np.exp(similarity / 0.07)
    expected = votes[0] / votes.sum()
    assert nearest_neighbours(3, temperature=0.07).fit(features, labels).predict_proba(query)[0, 0] == pytest.approx(expected)


def test_fewer_cells_than_neighbours_is_no_error() -> None:
    features, labels = blobs(cells=10, classes=2)
    assert cross_validate(features, labels, make_folds(labels), "knn", neighbours=50).pooled.cells == 10


def test_scores_are_plain_numbers_that_json_takes_even_when_a_fold_lacks_a_class() -> None:
    labels = np.asarray(["a"] * 30 + ["b"] * 30 + ["c"] * 5)
    groups = np.asarray(["p1", "p2", "p3"] * 20 + ["p1"] * 4 + ["p2"])
    features = np.random.default_rng(0).normal(size=(65, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = cross_validate(features, labels, make_folds(labels, groups, count=3), "linear")
    for scores in (result.pooled, *result.fold_scores):
        assert {type(value) for value in (scores.accuracy, scores.balanced_accuracy, scores.macro_f1)} == {float}
        assert {type(cells) for row in scores.confusion for cells in row} == {int}
        assert all(math.isfinite(value) for value in (scores.accuracy, scores.balanced_accuracy, scores.macro_f1))
        assert scores.classes == ("a", "b", "c")
        json.dumps(asdict(scores), allow_nan=False)


def test_a_class_that_is_never_predicted_counts_as_zero_and_not_as_nan() -> None:
    scores = score(np.asarray(["a", "a", "b"]), np.asarray(["a", "a", "a"]))
    assert (scores.accuracy, scores.balanced_accuracy, scores.macro_f1) == pytest.approx((2 / 3, 0.5, 0.4))


def test_linear_probe_of_2000_cells_converges_in_seconds_without_a_warning() -> None:
    rng = np.random.default_rng(0)
    labels = np.asarray([f"class {name:02}" for name in rng.integers(0, 13, size=2000)])
    # Strongly correlated columns of very different scales, as a network's features.
    features = rng.normal(size=(2000, 40)) @ rng.normal(size=(40, 192)) * np.logspace(-3, 3, 192) + 5
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cross_validate(features, labels, make_folds(labels), "linear")
    assert time.perf_counter() - start < 60


def test_fitted_classifier_survives_pickling() -> None:
    features, labels = blobs()
    for model in (
        fit_classifier(features, labels, "knn"),
        fit_classifier(features, labels, "linear"),
        nearest_neighbours(5, temperature=0.07),
    ):
        restored = pickle.loads(pickle.dumps(model.fit(features, labels)))
        assert (restored.predict(features) == labels).all()


@settings(max_examples=150, deadline=None)
@given(
    cells=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 11)), min_size=1, max_size=120),
    count=st.integers(2, 6),
    grouped=st.booleans(),
    seed=st.integers(0, 5),
)
def test_every_judged_cell_is_tested_once_and_no_group_straddles(
    cells: list[tuple[int, int]], count: int, grouped: bool, seed: int
) -> None:
    labels = np.asarray([f"class {label}" for label, _ in cells])
    groups = np.asarray([f"plate {group}" for _, group in cells])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            folds = make_folds(labels, groups if grouped else None, count=count, seed=seed)
        except DataError:
            return
    tested = np.concatenate([test for _, test in folds])
    assert sorted(tested) == sorted(folds.judged)
    left_out = {name for name, _ in folds.left_out}
    assert set(labels[folds.assignment == -1]) == left_out
    for train, test in folds:
        assert len(test)
        assert len(np.unique(labels[train])) >= 2
        assert sorted([*train, *test]) == sorted(folds.judged)
        if grouped:
            assert not set(groups[train]) & set(groups[test])
    assert len(folds.warnings) >= len(left_out)
    assert (make_folds(labels, groups if grouped else None, count=count, seed=seed).assignment == folds.assignment).all()


def test_folds_keep_the_proportions_of_the_classes() -> None:
    labels = np.asarray(["common"] * 100 + ["rare"] * 10)
    for _, test in make_folds(labels):
        assert np.sum(labels[test] == "rare") == 2


def test_a_class_with_too_few_cells_is_left_out_with_a_warning_and_the_rest_is_judged() -> None:
    features, labels = blobs(cells=100)
    labels = labels.astype("<U20")
    labels[[0, 50]] = "telophase"
    folds = make_folds(labels)
    assert folds.left_out == (("telophase", 2),)
    assert "'telophase' has 2 cells" in folds.warnings[0]
    assert "use fewer folds" in folds.warnings[0]
    result = cross_validate(features, labels, folds, "knn")
    assert result.pooled.cells == 98
    assert "telophase" not in result.classes
    assert result.predictions[0] == result.predictions[50] == ""
    labels[50] = labels[51]
    assert make_folds(labels).warnings[0].endswith("is not judged: add cells, merge it with a related class.")


def test_a_class_of_a_single_plate_is_left_out_because_it_cannot_be_told_from_the_plate() -> None:
    labels = ["a", "b"] * 20 + ["c"] * 10
    groups = [f"plate {row // 2 % 5}" for row in range(40)] + ["plate 0"] * 10
    folds = make_folds(labels, groups, group_name="plate")
    assert folds.left_out == (("c", 10),)
    assert "'c' (10 cells) occurs in one plate only ('plate 0')" in folds.warnings[0]


@pytest.mark.parametrize(
    ("labels", "groups", "words"),
    [
        ([], None, ["'cell_type'", "no cells"]),
        (["a"] * 10, None, ["'cell_type'", "one class only ('a', 10 cells)", "add cells of a second class"]),
        (["a", "b"] * 5 + ["", "  "], None, ["'cell_type' is empty in 2 of 12 rows", "row 11", "remove those rows"]),
        (["a", "b"] * 5 + [float("nan"), pd.NA], None, ["'cell_type' is empty in 2 of 12 rows"]),
        (["a"] * 10 + ["b"] * 2 + ["c"], None, ["leaves 1 of 3 classes", "'b' has 2 cells", "same holds for 1 more"]),
        (["a", "b"] * 10, ["p1", "p2", "p2", "p1"] * 5, ["'plate' has 2 values (p1, p2)", "5 folds need 5", "use 2 folds"]),
        (["a", "b"] * 10, ["p1"] * 20, ["leaves 0 of 2", "occurs in one plate only ('p1')"]),
        (["a", "b"] * 10, ["p1", "p2"] * 9 + ["p1", None], ["'plate' is empty in 1 of 20 rows", "row 20", "a group"]),
        (["a", "b"] * 10, ["p1"] * 3, ["'plate' has 3 values for 20 cells"]),
    ],
)
def test_labels_that_cannot_be_split_are_refused_in_a_sentence_that_says_why(
    labels: list[str], groups: list[str] | None, words: list[str]
) -> None:
    with pytest.raises(DataError) as error:
        make_folds(labels, groups, group_name="plate")
    for word in words:
        assert word in str(error.value)


def test_one_fold_is_refused() -> None:
    with pytest.raises(DataError, match="at least 2"):
        make_folds(["a", "b"] * 5, count=1)


def test_features_that_are_not_finite_or_of_other_cells_are_refused() -> None:
    features, labels = blobs(cells=20)
    folds = make_folds(labels)
    broken = features.copy()
    broken[3, 1] = np.nan
    with pytest.raises(DataError, match=r"1 of 20 cells are not finite \(the first is row 4\)"):
        cross_validate(broken, labels, folds, "knn")
    with pytest.raises(DataError, match="do not fit 20 labels"):
        cross_validate(features[:5], labels, folds, "knn")
    with pytest.raises(DataError, match="folds split 20 cells"):
        cross_validate(features[:8], labels[:8], folds, "knn")


def test_description_says_how_cells_were_split() -> None:
    labels = ["a", "b"] * 20
    assert make_folds(labels).description == "5-fold, stratified by class, cells split at random"
    grouped = make_folds(labels, [f"p{row // 2 % 5}" for row in range(40)], group_name="plate")
    assert grouped.description == "5-fold, stratified by class, groups = plate never straddle"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_intensity_statistics_are_those_of_each_channel_and_know_no_place(dtype: type) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, size=(3, 20, 30)).astype(dtype)
    names = intensity_names(["DNA", "actin", "tubulin"])
    values = dict(zip(names, intensity_statistics(image).tolist(), strict=True))
    assert values["intensity_actin_mean"] == pytest.approx(image[1].mean())
    assert values["intensity_DNA_std"] == pytest.approx(image[0].std(dtype=np.float64), rel=1e-5)
    assert values["intensity_tubulin_p50"] == pytest.approx(np.median(image[2]))
    moved = rng.permuted(image.reshape(3, -1), axis=1).reshape(image.shape)
    assert intensity_statistics(moved) == pytest.approx(intensity_statistics(image), rel=1e-5)


def test_intensity_statistics_refuse_what_is_no_image() -> None:
    with pytest.raises(ValueError, match="channels, height, width"):
        intensity_statistics(np.zeros((4, 4)))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 50), (20, 30)])
def test_intensity_statistics_of_grey_values_are_those_of_the_same_numbers_as_reals(shape: tuple[int, int]) -> None:
    image = (np.random.default_rng(0).random((4, *shape)) ** 4 * 256).astype(np.uint8)
    np.testing.assert_allclose(intensity_statistics(image), intensity_statistics(image.astype(np.float32)), rtol=1e-5, atol=1e-5)
