"""How a head is judged: intervals, baselines, tables by class, given splits, class weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from simulated_features import cells_of_lines, cells_of_places, write_features
from sklearn.metrics import average_precision_score, f1_score

from dino4cells.classify.average_precision import BINS, precision_draws
from dino4cells.classify.baselines import ProbeBaseline, guesses
from dino4cells.classify.bootstrap import Resamples
from dino4cells.classify.evaluate import evaluate, fitted_classifiers
from dino4cells.classify.labels import Task
from dino4cells.classify.losses import balanced_weights
from dino4cells.classify.probe import linear_probe
from dino4cells.classify.scores import head_scores
from dino4cells.config.classification import ClassificationConfig
from dino4cells.features.store import read_features

QUICK = ("--batch_size_per_gpu", 64, "--lr", 0.004)
LABELS = Task(("a", "b", "c"), True, ("a", "b", "c"))
Command = Callable[..., Any]


def ranked(cells: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels that they know something of."""
    random = np.random.default_rng(seed)
    targets = (random.random((cells, 3)) < [0.4, 0.2, 0.05]).astype(np.float32)
    return (random.normal(size=targets.shape) + 2 * targets - 1).astype(np.float32), targets


def rows_of(resamples: Resamples, number: int) -> np.ndarray:
    return np.repeat(np.arange(len(resamples.unit_N)), resamples.weights_RU[number].astype(int)[resamples.unit_N])


@pytest.mark.parametrize("cells", [BINS - 10, 900])  # each score a range of its own, and several in one
def test_resampled_average_precisions_are_those_of_scikit_learn_on_the_resampled_cells(cells: int) -> None:
    logits, targets = ranked(cells)
    resamples = Resamples.of(cells)
    exact = average_precision_score(targets, logits, average=None)
    draws = precision_draws(logits, targets, exact, resamples)
    tolerance = 1e-9 if cells < BINS else 0.01
    for number in range(4):
        rows = rows_of(resamples, number)
        expected = average_precision_score(targets[rows], logits[rows], average=None)
        np.testing.assert_allclose(draws[number], expected, atol=tolerance)


def test_several_labels_have_a_table_by_label_with_intervals_around_every_score() -> None:
    logits, targets = ranked(400)
    plates = np.resize(["p1", "p2", "p3", "p4"], 400)
    scores = head_scores(LABELS, logits, targets, Resamples.of(400, plates, "plate"))
    assert scores.values["micro_average_precision"] == pytest.approx(average_precision_score(targets, logits, average="micro"))
    assert scores.intervals.keys() == scores.values.keys()
    for name, (low, high) in scores.intervals.items():
        assert low <= scores.values[name] <= high, name
    row = scores.by_class[1]
    chosen = logits[:, 1] > 0
    assert (row["class"], row["cells"]) == ("b", int(targets[:, 1].sum()))
    assert row["recall"] == pytest.approx((chosen & (targets[:, 1] > 0)).sum() / targets[:, 1].sum())
    assert row["precision"] == pytest.approx(targets[chosen, 1].mean())
    assert row["f1"] == pytest.approx(f1_score(targets[:, 1], chosen))
    assert row["average_precision"] == pytest.approx(average_precision_score(targets[:, 1], logits[:, 1]))
    for name in ("f1", "average_precision"):
        low, high = row[f"{name}_interval"]  # type: ignore[misc]
        assert low <= row[name] <= high
    # Without intervals, as in training, the scores are the same.
    assert head_scores(LABELS, logits, targets).values.items() <= scores.values.items()


def test_the_resampled_f1_of_labels_is_that_of_the_resampled_cells() -> None:
    logits, targets = ranked(300)
    resamples = Resamples.of(300)
    draws = head_scores(LABELS, logits, targets, resamples).draws
    for number in range(3):
        rows = rows_of(resamples, number)
        for average in ("macro", "micro"):
            expected = f1_score(targets[rows], logits[rows] > 0, average=average)
            assert draws[f"{average}_f1"][number] == pytest.approx(expected)


def test_guessing_scores_what_chance_does_and_a_probe_what_it_learns() -> None:
    frame, values = cells_of_places(300)
    targets = frame.filter(like="place ").to_numpy(np.float32)
    task = Task(tuple(frame.filter(like="place ")), True, tuple(frame.filter(like="place ")))
    chance = head_scores(task, guesses(task, targets, 300), targets)
    assert chance.values["macro_average_precision"] == pytest.approx(targets.mean(axis=0).mean())
    targets[:, 3] = 0  # a label that no cell has
    probe = ProbeBaseline(task, values[:200], targets[:200], seed=0)
    assert head_scores(task, probe.logits(values[200:]), targets[200:]).values["macro_f1"] > 0.8
    line_frame, line_values = cells_of_lines(200)
    lines = Task(tuple(f"line {line}" for line in range(4)), False, ("cell_type",))
    one_hot = pd.get_dummies(line_frame["cell_type"]).to_numpy(np.float32)
    assert head_scores(lines, guesses(lines, one_hot, 200), one_hot).values["balanced_accuracy"] == 0.25
    assert head_scores(lines, guesses(lines, one_hot, 200), one_hot).values["macro_f1_at_half"] < 0.25
    learnt = ProbeBaseline(lines, line_values[:150], one_hot[:150], seed=0).logits(line_values[150:])
    found = head_scores(lines, learnt, one_hot[150:])
    assert found.values["accuracy"] > 0.9
    likely = linear_probe().fit(line_values[:150].astype(float), one_hot[:150].argmax(axis=1)).predict_proba(line_values[150:])
    assert found.values["macro_f1_at_half"] == pytest.approx(f1_score(one_hot[150:], likely > 0.5, average="macro"))
    assert found.values["macro_f1_at_half"] > 0.8


def test_balanced_weights_let_every_class_weigh_the_same() -> None:
    one = torch.nn.functional.one_hot(torch.tensor([0] * 90 + [1] * 10), 3).float()
    weights = balanced_weights(one, several=False)
    assert (weights[:90].sum().item(), weights[90:].sum().item()) == pytest.approx((50, 50))
    several = torch.tensor([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]]).float()
    weights = balanced_weights(several, several=True)
    assert weights[:, 0].tolist() == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])
    assert weights[:, 1:].eq(1).all()  # labels that no cell has, or every one


def uneven(path: Path) -> str:
    """Features of a common and a rare class that overlap."""
    frame, _ = cells_of_lines(400, classes=2)
    rare = np.arange(400) % 10 == 0
    frame["cell_type"] = np.where(rare, "rare", "common")
    values = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    values[:, 0] += 1.5 * rare
    frame["part"] = np.resize(np.repeat(["Train", "valid", "TEST"], [6, 2, 2]), 400)
    frame["part"] = np.random.default_rng(1).permutation(frame["part"])
    return write_features(str(path), frame, values)


def metrics_of(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "metrics.json").read_text())
    return found


def test_a_column_splits_a_heads_cells_and_weights_find_more_of_a_rare_class(dino4cells: Command, tmp_path: Path) -> None:
    features = uneven(tmp_path / "features")
    words = ["--features", features, "--train_cell_type", "True", "--split", "part", "--epochs", 12, "--balance", "False", *QUICK]
    recalls = {}
    for weights in ("none", "balanced"):
        done = dino4cells("classify", *words, "--class_weights", weights, "--output", tmp_path / weights)
        assert done.code == 0, done.err
        metrics = metrics_of(tmp_path / weights)
        recalls[weights] = {row["class"]: row["recall"] for row in metrics["by_class"]["test"]}["rare"]
    assert recalls["balanced"] > recalls["none"] + 0.2
    assert metrics["cells"] == {"train": 240, "valid": 80, "test": 80}
    assert metrics["split"] == "given by the column part"
    assert metrics["baselines"]["test"].keys() == {"guessing", "linear_probe"}
    assert metrics["baselines"]["test"]["guessing"]["scores"]["balanced_accuracy"] == 0.5
    better = metrics["differences"]["test"]["guessing"]["balanced_accuracy"]
    assert better["interval"][0] <= better["value"] <= better["interval"][1]
    assert better["value"] == pytest.approx(metrics["scores"]["test"]["balanced_accuracy"] - 0.5)
    for shown in ("better than guessing by", "linear probe", "By class, cells of test", "rare"):
        assert shown in done.out
    calibration = metrics["calibration"]["valid"]
    assert calibration["log_loss"]["after"] <= calibration["log_loss"]["before"]
    predictions = pd.read_parquet(tmp_path / "balanced" / "predictions.parquet")
    np.testing.assert_allclose(predictions.filter(like="probability_").sum(axis=1), 1, atol=1e-5)


def test_the_judges_take_the_same_split_and_weights(tmp_path: Path) -> None:
    features = read_features(uneven(tmp_path / "features"))
    config = ClassificationConfig(label="cell_type", split="part", class_weights="balanced", neighbours=1000)
    evaluation = evaluate(features, config)
    metrics = json.loads(evaluation.metrics_json(features.card))
    assert metrics["split"].endswith("judged on test")
    assert metrics["warnings"][0] == "1000 neighbours are asked for, and a fold has 320 cells to learn from, of which all vote."
    linear = metrics["results"]["trained"]["linear"]
    assert linear["cells"] == 80
    assert {row["class"]: row["recall"] for row in metrics["by_class"]["linear"]}["rare"] > 0.5
    low, high = linear["intervals"]["balanced_accuracy"]
    assert low < linear["balanced_accuracy"] < high
    predictions = evaluation.predictions(features)
    assert predictions["trained_linear"].notna().sum() == predictions["probability_rare"].notna().sum() == 80
    # What is kept is what was judged: it has not seen the test cells.
    kept = skops.io.loads(fitted_classifiers(features, evaluation, config)["linear_probe.skops"], trusted=[])
    tested = predictions["fold"].eq(0).fillna(False).to_numpy(bool)
    assert (kept.predict(features.dino[tested]) == predictions["trained_linear"][tested]).all()
    np.testing.assert_allclose(kept.predict_proba(features.dino[tested])[:, 1], predictions["probability_rare"][tested], atol=1e-5)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--class_weights", "balanced"], "set balance to false, or class_weights to none"),
        (["--split", "part", "--cells_train_path", "ids.txt"], "by the column 'part' and by cells_train_path; keep one of the two"),
        (["--split", "line"], "no column 'line'"),
        (["--split", "ID"], "holds 'field-0' (and 399 more cells hold another) where train, valid or test is needed"),
    ],
)
def test_what_contradicts_itself_is_said_in_one_sentence(dino4cells: Command, tmp_path: Path, words: list[str], sentence: str) -> None:
    features = uneven(tmp_path / "features")
    refused = dino4cells("classify", "--features", features, "--train_cell_type", "True", "--output", tmp_path / "out", *words)
    assert refused.code == 2
    assert sentence in refused.err
