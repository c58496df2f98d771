"""Intervals of scores: what they are for independent cells, for cells of plates, and for differences."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from dino4cells.classify.bootstrap import MOST_UNITS, Difference, Resamples, class_draws, interval, warn_of_few


def guesses(cells: int, classes: int = 4, right: float = 0.6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and predictions of which a share is right."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, cells)
    predictions = np.where(random.random(cells) < right, labels, random.integers(0, classes, cells))
    return labels.astype(str), predictions.astype(str)


@pytest.mark.parametrize("cells", [300, 20_000])  # a unit is a cell, or twenty
def test_the_interval_of_independent_cells_is_that_of_a_proportion(cells: int) -> None:
    labels, predictions = guesses(cells)
    low, high = interval(class_draws(labels, predictions, Resamples.of(cells))["accuracy"])
    accuracy = (labels == predictions).mean()
    half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / cells)
    assert (accuracy - low, high - accuracy) == pytest.approx((half, half), rel=0.15)


def test_cells_of_a_plate_that_fail_together_give_a_wider_interval() -> None:
    plates = np.repeat(np.arange(30).astype(str), 40)
    labels = np.resize(["a", "b"], len(plates))
    fails = np.isin(plates, ["1", "5", "9", "20"])
    predictions = np.where(fails, np.where(labels == "a", "b", "a"), labels)
    widths = [
        np.ptp(interval(class_draws(labels, predictions, Resamples.of(len(labels), groups, "plate"))["accuracy"]))
        for groups in (None, plates)
    ]
    assert widths[1] > 4 * widths[0]  # √40, when a plate counts as one


def test_resampled_scores_are_those_of_scikit_learn_on_the_resampled_cells() -> None:
    labels, predictions = guesses(90, classes=5)
    plates = np.resize([f"p{plate}" for plate in range(9)], 90)
    resamples = Resamples.of(90, plates, "plate")
    draws = class_draws(labels, predictions, resamples)
    for number in range(5):
        rows = np.repeat(np.arange(90), resamples.weights_RU[number].astype(int)[resamples.unit_N])
        assert draws["accuracy"][number] == pytest.approx((labels[rows] == predictions[rows]).mean())
        assert draws["balanced_accuracy"][number] == pytest.approx(balanced_accuracy_score(labels[rows], predictions[rows]))
        assert draws["macro_f1"][number] == pytest.approx(f1_score(labels[rows], predictions[rows], average="macro"))
        assert {plates[row] for row in rows} <= set(plates)


def test_the_difference_of_two_classifiers_on_the_same_cells_is_surer_than_either_score() -> None:
    labels, worse = guesses(400)
    better = np.where(np.arange(400) % 10 == 0, labels, worse)  # right where the other is, and in a tenth more
    resamples = Resamples.of(400)
    draws = [class_draws(labels, given, resamples)["accuracy"] for given in (better, worse)]
    value = float((labels == better).mean() - (labels == worse).mean())
    difference = Difference.of(value, *draws)
    assert difference.interval[0] < value < difference.interval[1]
    assert difference.interval[0] > 0
    assert np.ptp(difference.interval) < min(np.ptp(interval(given)) for given in draws)


def test_intervals_are_the_same_every_time_and_say_what_was_drawn() -> None:
    labels, predictions = guesses(3 * MOST_UNITS)
    first, again = (class_draws(labels, predictions, Resamples.of(len(labels), seed=1)) for _ in range(2))
    assert all((first[name] == again[name]).all() for name in first)
    assert Resamples.of(3 * MOST_UNITS).description == "3,000 cells"
    plates = np.array(["a", "b", "a"])
    assert Resamples.of(3, plates, "plate").description == "2 values of plate"
    assert "rest on 2 values of plate" in warn_of_few(plates, "plate")[0]
    assert warn_of_few(None, "plate") == ()
    # Of one plate nobody knows how plates differ: its cells are drawn, and that is told.
    alone = np.array(["a"] * 50)
    assert Resamples.of(50, alone, "plate").description == "50 cells"
    assert "All judged cells have one value of plate" in warn_of_few(alone, "plate")[0]


def test_a_class_that_a_resample_lacks_counts_in_no_mean() -> None:
    labels, predictions = np.array(["a"] * 30 + ["rare"]), np.array(["a"] * 31)
    draws = class_draws(labels, predictions, Resamples.of(31))
    assert set(np.round(draws["balanced_accuracy"], 3)) == {0.5, 1.0}
