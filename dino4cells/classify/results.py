"""What a run of classification leaves: the classifier, its scores, a row for every cell, and the course of training.

Dimensions: N cells, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from dino4cells.artifacts import ArtifactWriter
from dino4cells.classify import classifier as artifact
from dino4cells.classify.assembly import Assembly, Part
from dino4cells.classify.classifier import ClassifierCard, save_classifier
from dino4cells.classify.judgement import Judgement
from dino4cells.classify.labels import Task
from dino4cells.classify.scores import Floats, HeadScores
from dino4cells.config import Config

SEPARATOR = "; "
"""Between the names of a cell that has several labels."""


def write(
    output: str,
    config: Config,
    card: ClassifierCard,
    run: Assembly,
    records: Sequence[Mapping[str, float]],
    logits: Mapping[str, Floats],
    judgement: Judgement,
) -> None:
    """Write the classifier artifact.

    Args:
        output: URL.
        config: as resolved.
        card: of the classifier.
        run: the cells and the trained classifier.
        records: lines of `log.jsonl`.
        logits: (N, K) of the cells of every part; NaN where an image could not be read.
        judgement: how well they are predicted.
    """
    with ArtifactWriter(output, artifact.KIND) as writer:
        save_classifier(writer, card, run.classifier)
        frames = [_predictions(name, card, part, logits[name]) for name, part in run.parts.items()]
        pd.concat(frames, ignore_index=True).to_parquet(writer.path(artifact.PREDICTIONS), index=False)
        writer.write_text(artifact.METRICS, json.dumps(_metrics(card, run, judgement), indent=2) + "\n")
        writer.write_text(artifact.CONFIG, config.to_yaml())
        writer.write_text(artifact.LOG, "".join(json.dumps(record) + "\n" for record in records))


def _metrics(card: ClassifierCard, run: Assembly, judgement: Judgement) -> dict[str, object]:
    """`metrics.json`: scores of every part, of all classes together and of each, with intervals and beside baselines."""
    parts = judgement.parts
    return {
        "labels": list(run.task.columns),
        "classes": list(run.task.classes),
        "several": run.task.several,
        "split": run.split,
        "cells": {name: len(part.cells) for name, part in run.parts.items()},
        "judged": {name: parts[name].cells if name in parts else 0 for name in run.parts},
        "epochs": card.epochs,
        "kept_epoch": card.kept_epoch,
        "scores": {name: part.scores.values for name, part in parts.items()},
        "intervals": {name: _intervals(part.scores) for name, part in parts.items()},
        "resampled": {name: part.resampled for name, part in parts.items()},
        "baselines": {
            name: {other: {"scores": scores.values, "intervals": _intervals(scores)} for other, scores in part.baselines.items()}
            for name, part in parts.items()
            if part.baselines
        },
        "differences": {
            name: {other: {score: found.json() for score, found in by_score.items()} for other, by_score in part.differences().items()}
            for name, part in parts.items()
            if part.baselines
        },
        "calibration": {name: part.calibration.json() for name, part in parts.items()},
        "by_class": {name: list(part.scores.by_class) for name, part in parts.items()},
        "warnings": [*run.warnings, *judgement.warnings],
    }


def _intervals(scores: HeadScores) -> dict[str, list[float]]:
    return {name: list(found) for name, found in scores.intervals.items()}


def _predictions(name: str, card: ClassifierCard, part: Part, logits_NK: Floats) -> pd.DataFrame:
    """A row for every cell: its part, its label, what was predicted, and the calibrated probability of each class."""
    frame: pd.DataFrame = part.cells.frame[[column for column in ("file", "ID") if column in part.cells.frame]].copy()
    frame["part"] = name
    frame["label"] = named(card.task, part.labelled.targets_NK > 0, part.labelled.known_N)
    joined: pd.DataFrame = frame.reset_index(drop=True).join(predictions_of(card, logits_NK))
    return joined


def predictions_of(card: ClassifierCard, logits_NK: Floats) -> pd.DataFrame:
    """`prediction` and `probability_…` of every class, a row a cell; nothing where logits are not finite."""
    readable_N = np.asarray(np.isfinite(logits_NK).all(axis=1))
    chosen_NK = logits_NK > 0 if card.several else np.eye(len(card.classes), dtype=bool)[np.nan_to_num(logits_NK).argmax(axis=1)]
    probabilities_NK = card.probabilities(logits_NK)
    columns = {f"probability_{label}": probabilities_NK[:, index] for index, label in enumerate(card.classes)}
    predicted: pd.DataFrame = pd.DataFrame({"prediction": named(card.task, chosen_NK, readable_N), **columns})
    return predicted


def named(task: Task, chosen_NK: np.ndarray, known_N: np.ndarray) -> list[str | None]:
    """The names of each cell's classes; nothing where they are not known."""
    names = np.asarray(task.classes, dtype=object)
    return [SEPARATOR.join(names[row]) if known else None for row, known in zip(chosen_NK, known_N, strict=True)]
