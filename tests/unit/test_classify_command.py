"""The handbook's third command on simulated features: what it learns, writes and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from simulated_features import WIDTH, cells_of_lines, cells_of_places, write_features
from sklearn.metrics import average_precision_score

from dino4cells.artifacts import open_artifact
from dino4cells.classify.classifier import KIND, load_classifier
from dino4cells.classify.head_training import sample_order
from dino4cells.features.store import read_features

QUICK = ("--batch_size_per_gpu", 64, "--lr", 0.004)
Command = Callable[..., Any]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Features of 360 cells of four cell lines."""
    return write_features(str(tmp_path_factory.mktemp("lines") / "features"), *cells_of_lines(360))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Features of 400 cells, each with any number of four labels."""
    return write_features(str(tmp_path_factory.mktemp("places") / "features"), *cells_of_places(400))


def metrics_of(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(open_artifact(str(output), KIND).read_bytes("metrics.json"))
    return found


def log_of(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def test_the_handbooks_command_trains_a_head_that_tells_cell_lines_apart(dino4cells: Command, lines: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        f"---\n embedding:\n   output_path: {lines}\n classification:\n   use_pretrained_features: True\n   num_classes: 19\n"
        f"   train_protein: True\n   train_cell_type: False\n   batch_size_per_gpu: 64\n   lr: 4e-3\n   competition_type: whole_images\n"
        f"   output_dir: {tmp_path}/\n   output_prefix: classification_output/\n"
    )
    words = ["--epochs", 12, "--balance", "True", "--num_classes", 4, "--train_cell_type", "True", "--train_protein", "False"]
    done = dino4cells("classify", "--config", tmp_path / "config.yaml", *words)
    assert done.code == 0, done.err
    assert "competition_type" in done.err
    output = tmp_path / "classification_output"
    for shown in ("balanced", "macro F1", "4: line 0, line 1, line 2, line 3", str(output)):
        assert shown in done.out

    metrics = metrics_of(output)
    assert metrics["classes"] == ["line 0", "line 1", "line 2", "line 3"]
    assert metrics["cells"] == {"train": 288, "valid": 72}
    assert metrics["epochs"] == pytest.approx(12, abs=0.3)
    for score in ("accuracy", "balanced_accuracy", "macro_f1", "macro_f1_at_half"):
        assert metrics["scores"]["valid"][score] > 0.8, metrics["scores"]  # chance is 0.25
    assert {row["class"]: row["cells"] for row in metrics["by_class"]["valid"]}.keys() == set(metrics["classes"])

    predictions = pd.read_parquet(output / "predictions.parquet")
    assert len(predictions) == 360
    valid = predictions[predictions["part"] == "valid"]
    assert (valid["label"] == valid["prediction"]).mean() == pytest.approx(metrics["scores"]["valid"]["accuracy"])
    features = read_features(lines)
    by_file = dict(zip(features.metadata["file"], features.metadata["cell_type"], strict=True))
    assert [by_file[file] for file in valid["file"]] == valid["label"].tolist()
    # The saved classifier takes features as they are extracted.
    trained = load_classifier(str(output))
    rows = [features.metadata["file"].tolist().index(file) for file in valid["file"]]
    probabilities = trained.card.probabilities(trained.network(torch.from_numpy(features.dino[rows])).detach().numpy())
    columns = [f"probability_{name}" for name in trained.card.classes]
    np.testing.assert_allclose(probabilities, valid[columns].to_numpy(), atol=1e-6)
    assert sorted(open_artifact(str(output), KIND).names) == [
        *("classifier.json", "classifier.safetensors", "config.yaml", "log.jsonl", "metrics.json", "predictions.parquet"),
    ]


def test_labels_of_which_a_cell_may_have_several_are_learnt_each_for_itself(dino4cells: Command, places: str, tmp_path: Path) -> None:
    unlabelled, values = cells_of_places(20, seed=5)
    test = write_features(str(tmp_path / "test"), unlabelled[["file", "ID"]], values)
    words = ["--features", places, "--output", tmp_path / "out", "--train_protein", "True", "--epochs", 15, "--loss", "focal_loss", *QUICK]
    done = dino4cells("classify", *words, "--test_path", test)
    assert done.code == 0, done.err
    metrics = metrics_of(tmp_path / "out")
    assert metrics["classes"] == [f"place {place}" for place in range(4)]
    scores = metrics["scores"]["valid"]
    assert scores["macro_f1"] > 0.7, scores
    assert scores["macro_average_precision"] > 0.8, scores
    assert metrics["cells"]["test"] == 20
    assert "test" not in metrics["scores"]
    assert any("has no labels" in warning for warning in metrics["warnings"])
    predictions = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    judged = predictions[predictions["part"] == "valid"]
    labels = [[f"place {place}" in text.split("; ") for place in range(4)] for text in judged["label"]]
    # Of all labels together, as their calibrated probabilities say it, which are those of the file.
    precision = average_precision_score(labels, judged.filter(like="probability_"), average="micro")
    assert scores["micro_average_precision"] == pytest.approx(precision, abs=1e-6)
    tested = predictions[predictions["part"] == "test"]
    assert tested["label"].isna().all()
    above = (tested.filter(like="probability_") > 0.5).to_numpy()
    assert [text.split("; ") if text else [] for text in tested["prediction"]] == [
        [f"place {place}" for place in np.flatnonzero(row)] for row in above
    ]
    truth = unlabelled.filter(like="place ").to_numpy() == 1
    assert (above == truth).mean() > 0.8


def test_published_feature_files_and_id_files_work_as_they_are(dino4cells: Command, tmp_path: Path) -> None:
    frame, values = cells_of_lines(240)
    targets = torch.randint(2, (240, 3), generator=torch.Generator().manual_seed(0))
    torch.save([torch.from_numpy(values), list(targets.unbind()), frame["cell_type"].tolist(), frame["ID"].tolist()], tmp_path / "all.pth")
    ids = sorted(set(frame["ID"]))
    torch.save(ids[:60], tmp_path / "cells_train_IDs.pth")
    torch.save(ids[60:], tmp_path / "cells_valid_IDs.pth")
    split = ["--cells_train_path", tmp_path / "cells_train_IDs.pth", "--cells_valid_path", tmp_path / "cells_valid_IDs.pth"]
    words = ["--features", tmp_path / "all.pth", "--epochs", 8, "--whole_images", "True", *QUICK]
    done = dino4cells("classify", *words, *split, "--train_cell_type", "True", "--output", tmp_path / "lines")
    assert done.code == 0, done.err
    metrics = metrics_of(tmp_path / "lines")
    assert metrics["cells"] == {"train": 60, "valid": 20}  # an ID has three cells, whose features were averaged
    assert metrics["scores"]["valid"]["accuracy"] > 0.8
    assert load_classifier(str(tmp_path / "lines")).card.averaged
    done = dino4cells("classify", *words[:4], "--train_protein", "True", "--output", tmp_path / "places", *QUICK)
    assert done.code == 0, done.err
    assert metrics_of(tmp_path / "places")["classes"] == ["label_0", "label_1", "label_2"]


def test_the_papers_own_command_line_works_on_the_papers_own_files(
    dino4cells: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    for part, seed in (("train", 0), ("valid", 1)):
        frame, values = cells_of_lines(240, seed=seed)
        lines = pd.get_dummies(frame["cell_type"]).to_numpy(np.float32)  # the paper's matrices of cell lines are one-hot
        ids = np.array([f"{part}-{name}" for name in frame["ID"]])
        content = (torch.from_numpy(values), torch.zeros(240, 19), lines, ids)
        torch.save(content, tmp_path / "results" / f"{part}_features_cells.pth")
    config = Path(__file__).parent / "published_configs" / "hpa_single_cells.yaml"
    words = "--epochs 100 --balance True --num_classes 4 --train_cell_type True --train_protein False --train True --test True"
    head = "--classifier_state_dict results/classifier_cells.pth --master_port = 1234"
    done = dino4cells("classify", "--config", config, *words.split(), *head.split())
    assert done.code == 0, done.err
    metrics = metrics_of(tmp_path / "results" / "classification_output")
    assert metrics["cells"] == {"train": 240, "valid": 240}
    assert metrics["scores"]["valid"]["macro_f1"] > 0.8, metrics["scores"]  # chance is 0.25
    assert any("there is no file results//test_features.pth, so no cells are tested" in warning for warning in metrics["warnings"])


def test_a_head_goes_on_from_where_another_ended_or_is_only_judged(dino4cells: Command, lines: str, tmp_path: Path) -> None:
    words = ["--features", lines, "--train_cell_type", "True", *QUICK]
    assert dino4cells("classify", *words, "--epochs", 8, "--output", tmp_path / "first").code == 0
    loading = ["--load_classifier_head", "True", "--classifier_state_dict", tmp_path / "first"]
    done = dino4cells("classify", *words, *loading, "--train", "False", "--output", tmp_path / "judged")
    assert done.code == 0, done.err
    assert metrics_of(tmp_path / "judged")["scores"] == metrics_of(tmp_path / "first")["scores"]
    assert log_of(tmp_path / "judged") == []
    assert dino4cells("classify", *words, *loading, "--epochs", 1, "--output", tmp_path / "on").code == 0
    assert log_of(tmp_path / "on")[0]["valid_loss"] < log_of(tmp_path / "first")[0]["valid_loss"] / 2
    refused = dino4cells("classify", *words, "--train", "False", "--output", tmp_path / "none")
    assert refused.code == 2
    assert "train is false, and no head is loaded" in refused.err


def test_learning_rate_and_weight_decay_follow_their_cosines(dino4cells: Command, lines: str, tmp_path: Path) -> None:
    words = ["--features", lines, "--train_cell_type", "True", "--epochs", 4, "--balance", "False", "--batch_size_per_gpu", 72]
    rates = ["--lr", 0.01, "--min_lr", 0.001, "--wd", 0.1, "--wd_end", 0.5]
    assert dino4cells("classify", *words, *rates, "--output", tmp_path / "cosine").code == 0
    peak = 0.01 * 72 / 256
    middle, end = log_of(tmp_path / "cosine")[1], log_of(tmp_path / "cosine")[-1]
    assert [record["samples"] for record in log_of(tmp_path / "cosine")] == [288, 576, 864, 1152]
    assert (middle["lr"], middle["weight_decay"]) == pytest.approx(((peak + 0.001) / 2, 0.3))
    assert (end["lr"], end["weight_decay"]) == pytest.approx((0.001, 0.5))
    assert dino4cells("classify", *words, *rates, "--schedule", "Flat", "--output", tmp_path / "flat").code == 0
    assert {(record["lr"], record["weight_decay"]) for record in log_of(tmp_path / "flat")} == {(peak, 0.1)}


def test_balanced_epochs_draw_every_class_equally_often_and_no_cell_without_a_label() -> None:
    targets = np.zeros((100, 3), np.float32)
    targets[:70, 0] = 1
    targets[60:80, 2] = 1  # ten cells have two labels, twenty have none, and nobody has the second
    rows = np.concatenate([sample_order(targets, balance=True).draw(seed=0, epoch=epoch)[0] for epoch in range(50)])
    assert rows.max() < 80
    shares = [np.isin(rows, np.flatnonzero(targets[:, place])).mean() for place in (0, 2)]
    # A draw is for one of the two classes; a cell that has both is drawn for either.
    assert shares == pytest.approx([0.5 + 0.5 * 10 / 20, 0.5 + 0.5 * 10 / 70], abs=0.03)
    assert sorted(sample_order(targets, balance=False).draw(seed=0, epoch=0)[0]) == list(range(100))


def test_early_stopping_ends_when_validation_does_not_improve_and_keeps_the_best_epoch(
    dino4cells: Command, lines: str, tmp_path: Path
) -> None:
    words = ["--features", lines, "--train_cell_type", "True", "--epochs", 60, "--early_stopping", 3, *QUICK]
    done = dino4cells("classify", *words, "--output", tmp_path / "out")
    assert done.code == 0, done.err
    metrics, records = metrics_of(tmp_path / "out"), log_of(tmp_path / "out")
    assert len(records) < 60
    scores = [record["valid_macro_f1"] for record in records]
    best = int(np.argmax(scores))
    assert len(records) == best + 4
    assert metrics["scores"]["valid"]["macro_f1"] == max(scores)
    assert metrics["kept_epoch"] == pytest.approx(records[best]["epoch"], abs=1e-3)


def test_a_finished_classifier_is_replaced_on_demand_alone(dino4cells: Command, lines: str, tmp_path: Path) -> None:
    words = ["classify", "--features", lines, "--train_cell_type", "True", "--epochs", 1, "--output", tmp_path / "out"]
    assert dino4cells(*words).code == 0
    refused = dino4cells(*words)
    assert refused.code == 2
    assert "--overwrite" in refused.err
    (tmp_path / "config.yaml").write_text("classification:\n  overwrite: True\n")
    assert dino4cells(*words, "--config", tmp_path / "config.yaml").code == 0
    assert dino4cells(*words, "--overwrite").code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--train_cell_type", "True", "--output", "{}/out"], "no cells are given"),
        (["--train_cell_type", "True", "--features", "{lines}"], "classification.output_dir: is not given"),
        (
            ["--train_cell_type", "True", "--features", "{lines}", "--output", "{}/out", "--num_classes", "35"],
            "num_classes is 35, and {lines}",
        ),
        (["--train_protein", "True", "--features", "{lines}", "--output", "{}/out"], "train_protein needs a 0/1 column"),
        (["--features", "{lines}"], "--output: is not given"),
        (["--output", "{}/out"], "--features: is not given; name the features to judge, or set --train_cell_type or --train_protein"),
        (
            ["--train_cell_type", "True", "--features", "{lines}", "--output", "{}/out", "--optimizer", "SGD", "--lr", "1e30"],
            "classification.lr: the loss is",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    dino4cells: Command, lines: str, tmp_path: Path, words: list[str], sentence: str
) -> None:
    refused = dino4cells("classify", *(word.format(tmp_path, lines=lines) for word in words))
    assert refused.code == 2
    assert sentence.format(tmp_path, lines=lines) in refused.err
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_cells_without_a_class_are_left_out_and_counted(dino4cells: Command, tmp_path: Path) -> None:
    frame, values = cells_of_lines(120)
    frame.loc[:9, "cell_type"] = None
    features = write_features(str(tmp_path / "features"), frame, values)
    words = ["--features", features, "--train_cell_type", "True", "--epochs", 1, "--output", tmp_path / "out"]
    done = dino4cells("classify", *words)
    assert done.code == 0, done.err
    metrics = metrics_of(tmp_path / "out")
    assert sum(metrics["cells"].values()) == 110
    assert sum(int(warning.split(": ")[1].split()[0]) for warning in metrics["warnings"]) == 10
    assert load_classifier(str(tmp_path / "out")).card.features == WIDTH
