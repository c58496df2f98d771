"""Exact nearest neighbours: the same as by looking at all similarities at once, whatever the tiles, the ties and where the rows lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dino4cells.classify import cross_validate, fit_classifier, knn, make_folds, neighbours
from dino4cells.classify.knn import nearest_neighbours, predict_by_neighbours
from dino4cells.classify.neighbours import nearest


def by_all_similarities(queries: np.ndarray, references: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The definition, in float64."""
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries.astype(float), references.astype(float))]
    similarities = units[0] @ units[1].T
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(similarities, order, axis=1)


def rows(count: int, seed: int, dim: int = 16, offset: float = 0.0) -> np.ndarray:
    """Directions of any length; the larger the offset, the closer they are to each other."""
    random = np.random.default_rng(seed)
    return ((random.normal(size=(count, dim)) + offset) * random.uniform(0.01, 100, size=(count, 1))).astype(np.float32)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"QUERIES": 24, "REFERENCES": 32, "BLOCK": 4, "COMPARED_AT_ONCE": 7}.items():
        monkeypatch.setattr(neighbours, name, value)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(("queries", "references"), [(1, 1), (5, 31), (24, 32), (25, 33), (60, 203)])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_neighbours_are_those_of_all_similarities(queries: int, references: int, k: int) -> None:
    asked, known = rows(queries, seed=0), rows(references, seed=1)
    expected = by_all_similarities(asked, known, min(k, references))
    found, similarities = nearest(asked, known, min(k, references))
    np.testing.assert_array_equal(found, expected[0])
    np.testing.assert_allclose(similarities, expected[1], rtol=0, atol=1e-12)


@pytest.mark.usefixtures("small_tiles")
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), references=st.integers(1, 150), k=st.integers(1, 60), ascending=st.booleans())
def test_the_order_of_the_references_does_not_matter(seed: int, references: int, k: int, ascending: bool) -> None:
    asked, known = rows(9, seed), rows(references, seed + 1)
    k = min(k, references)
    if ascending:  # every tile is better than all before it
        known = known[by_all_similarities(asked[:1], known, references)[0][0, ::-1]]
    np.testing.assert_array_equal(nearest(asked, known, k)[0], by_all_similarities(asked, known, k)[0])


def test_similarities_that_float32_cannot_tell_apart_are_told_apart() -> None:
    asked, known = rows(50, seed=0, offset=300.0), rows(3000, seed=1, offset=300.0)
    expected, similarities = by_all_similarities(asked, known, 10)
    assert np.median(np.diff(-similarities)) < 1e-6
    assert (np.sort(nearest(asked, known, 10)[0][:, :5]) == np.sort(expected[:, :5])).mean() > 0.999


def test_equally_similar_references_come_in_the_order_of_their_rows() -> None:
    known = np.tile(np.eye(3, dtype=np.float32), (4, 1))
    found, similarities = nearest(known[:3], known, 5)
    assert found[0].tolist() == [0, 3, 6, 9, 1]
    assert found[2].tolist() == [2, 5, 8, 11, 0]
    assert similarities[0].tolist() == [1, 1, 1, 1, 0]


def test_a_row_of_zeros_is_similar_to_nothing_and_no_error() -> None:
    known = np.array([[0, 0], [1, 0], [-1, 0]], np.float32)
    found, similarities = nearest(np.array([[2, 0], [0, 0]], np.float32), known, 3)
    assert found[0].tolist() == [1, 0, 2]
    assert similarities.tolist() == [[1, 0, -1], [0, 0, 0]]


@pytest.mark.usefixtures("small_tiles")
def test_references_may_lie_in_a_file(tmp_path: Path) -> None:
    known = rows(100, seed=1)
    np.save(tmp_path / "features.npy", known)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    np.testing.assert_array_equal(nearest(mapped[:30], mapped, 5)[0], nearest(known[:30], known, 5)[0])


def test_the_nearest_of_a_cell_among_all_is_itself() -> None:
    known = rows(5000, seed=3)
    found, similarities = nearest(known[:100], known, 2)
    assert found[:, 0].tolist() == list(range(100))
    np.testing.assert_allclose(similarities[:, 0], 1, rtol=0, atol=1e-12)
    assert (similarities[:, 1] < 1 - 1e-6).all()


@pytest.mark.parametrize(("shape", "k"), [((3, 4), 1), ((3, 5), 4), ((3, 5), 0), ((15,), 1)])
def test_rows_that_do_not_fit_or_are_too_few_are_refused(shape: tuple[int, ...], k: int) -> None:
    with pytest.raises(ValueError, match=r"no similarities|neighbours are asked for"):
        nearest(np.ones((2, 5)), np.ones(shape), k)


@pytest.mark.parametrize("temperature", [None, 0.07, 1.0])
def test_predictions_are_those_of_scikit_learn(temperature: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "VOTES_AT_ONCE", 70)
    known, asked = rows(400, seed=0, offset=0.5), rows(150, seed=1, offset=0.5)
    labels = np.asarray([f"class {number}" for number in np.random.default_rng(2).integers(0, 7, 400)])
    pipeline = nearest_neighbours(15, temperature).fit(known.astype(float), labels)
    predicted = predict_by_neighbours(known, labels, asked, 15, temperature)
    assert len(np.unique(predicted)) > 3
    np.testing.assert_array_equal(predicted, pipeline.predict(asked.astype(float)))


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_cross_validation_predicts_as_the_classifier_that_is_kept(standardize: bool, grouped: bool) -> None:
    features = rows(300, seed=0, offset=0.5).astype(float) * np.logspace(-3, 3, 16)
    labels = np.asarray(["a", "b", "c"])[np.random.default_rng(1).integers(0, 3, 300)]
    folds = make_folds(labels, [f"plate {row % 7}" for row in range(300)] if grouped else None)
    result = cross_validate(features, labels, folds, "knn", 7, standardize)
    for train, test in folds:
        kept = fit_classifier(features[train], labels[train], "knn", 7, standardize)
        np.testing.assert_array_equal(result.predictions[test], kept.predict(features[test]))
