"""Probabilities: what temperature scaling does to them, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import log_loss as log_loss_of_scikit_learn

from dino4cells.classify.calibration import Calibration, expected_calibration_error, fit_temperatures, log_loss, probabilities_of
from dino4cells.classify.crossval import cross_validate, fit_classifier
from dino4cells.classify.given_split import given_folds
from dino4cells.classify.probe import calibrated_probe
from dino4cells.classify.splits import make_folds

Given = tuple[np.ndarray, np.ndarray]


def overconfident(cells: int, several: bool, factor: float = 4.0, seed: int = 0) -> Given:
    """Logits that are `factor` times as sure as they should be, and labels drawn from the right probabilities."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(cells, 5)) * [1, 2, 0.5, 1, 3]
    if several:
        return logits * factor, (random.random(logits.shape) < expit(logits)).astype(np.float32)
    drawn = (random.random((cells, 1)) > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1)
    return logits * factor, np.eye(5, dtype=np.float32)[np.minimum(drawn, 4)]


@pytest.mark.parametrize("several", [False, True])
def test_calibration_makes_an_overconfident_head_likelier_on_cells_it_was_not_fitted_on_and_changes_no_prediction(several: bool) -> None:
    temperatures = fit_temperatures(*overconfident(3000, several), several)
    assert len(temperatures) == (5 if several else 1)
    assert temperatures == pytest.approx([4.0] * len(temperatures), rel=0.25)
    logits, targets = overconfident(3000, several, seed=1)
    before, after = (probabilities_of(logits, given, several) for given in ((1.0,), temperatures))
    calibration = Calibration.of(temperatures, before, after, targets, several)
    assert calibration.log_loss[1] < 0.75 * calibration.log_loss[0]
    assert calibration.expected_calibration_error[1] < 0.25 * calibration.expected_calibration_error[0]
    if several:
        assert ((before > 0.5) == (after > 0.5)).all()
    else:
        assert (before.argmax(axis=1) == after.argmax(axis=1)).all()
        np.testing.assert_allclose(after.sum(axis=1), 1, atol=1e-6)


def test_no_other_temperature_is_likelier() -> None:
    logits, targets = overconfident(500, several=False)
    (best,) = fit_temperatures(logits, targets, several=False)
    losses = {given: log_loss(probabilities_of(logits, (given,), False), targets, False) for given in (best, 0.97 * best, 1.03 * best)}
    assert min(losses, key=losses.__getitem__) == best


def test_a_label_that_no_cell_or_every_cell_has_keeps_its_probabilities() -> None:
    logits, targets = overconfident(200, several=True)
    targets[:, 1], targets[:, 3] = 0, 1
    temperatures = fit_temperatures(logits, targets, several=True)
    assert (temperatures[1], temperatures[3]) == (1.0, 1.0)
    assert temperatures[0] > 2


def test_the_loss_and_the_error_are_those_of_their_definitions() -> None:
    logits, targets = overconfident(400, several=False, factor=1.0)
    probabilities = probabilities_of(logits, (1.0,), several=False)
    assert log_loss(probabilities, targets, False) == pytest.approx(
        log_loss_of_scikit_learn(targets.argmax(axis=1), probabilities, labels=range(5)), rel=1e-5
    )
    sure, right = probabilities.max(axis=1), targets.argmax(axis=1) == probabilities.argmax(axis=1)
    expected = 0.0
    for edge in range(15):
        inside = (sure >= edge / 15) & (sure < (edge + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert expected_calibration_error(probabilities, targets, False) == pytest.approx(expected, abs=1e-6)
    assert expected_calibration_error(np.ones((4, 1)), np.ones((4, 1)), True) == 0


def cells(count: int = 400, spread: float = 1.2) -> Given:
    labels = np.arange(count) % 4
    features = np.eye(8)[labels] + np.random.default_rng(0).normal(scale=spread, size=(count, 8))
    return features, np.asarray([f"class {name}" for name in labels])


def test_the_probes_probabilities_are_calibrated_out_of_fold_and_the_kept_probe_gives_such() -> None:
    # Many more features than the cells can bear: a probe that is far too sure.
    features, labels = cells(200)
    features = np.hstack([features, np.random.default_rng(1).normal(size=(200, 150))])
    folds = make_folds(labels)
    result = cross_validate(features, labels, folds, "linear", probabilities=True)
    assert result.probabilities is not None
    assert result.calibration is not None
    assert result.calibration.temperatures[0] > 1.5
    assert result.calibration.log_loss[1] < result.calibration.log_loss[0]
    assert (np.asarray(result.classes)[result.probabilities.argmax(axis=1)] == result.predictions).all()
    probe = fit_classifier(features, labels, "linear")
    sure, predicted = probe.predict_proba(features).max(axis=1), probe.predict(features)
    kept = calibrated_probe(probe, result.calibration.temperatures[0])
    assert (kept.predict(features) == predicted).all()
    assert kept.predict_proba(features).max(axis=1).mean() < sure.mean() - 0.05


def test_of_a_given_split_the_cells_that_validate_calibrate_and_without_any_nothing_does() -> None:
    features, labels = cells()
    parts = np.resize(np.repeat(["train", "valid", "test"], 4), 400)
    result = cross_validate(features, labels, given_folds(parts, labels), "linear", probabilities=True)
    assert result.probabilities is not None
    assert (np.isfinite(result.probabilities).all(axis=1) == (parts == "test")).all()
    without = given_folds(np.where(parts == "valid", "train", parts), labels)
    assert cross_validate(features, labels, without, "linear", probabilities=True).calibration is None
