"""What a run of classification leaves: the classifier, its scores, a row for every cell, and the course of training.

Dimensions: N cells, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from dino4cells.artifacts import ArtifactWriter
from dino4cells.classify import classifier as artifact
from dino4cells.classify.assembly import Assembly, Part
from dino4cells.classify.classifier import ClassifierCard, save_classifier
from dino4cells.classify.labels import Task
from dino4cells.classify.scores import Floats, HeadScores, head_scores
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
) -> None:
    """Write the classifier artifact.

    Args:
        output: URL.
        config: as resolved.
        card: of the classifier.
        run: the cells and the trained classifier.
        records: lines of `log.jsonl`.
        logits: (N, K) of the cells of every part; NaN where an image could not be read.
    """
    with ArtifactWriter(output, artifact.KIND) as writer:
        save_classifier(writer, card, run.classifier)
        frames = [_predictions(name, run.task, part, logits[name]) for name, part in run.parts.items()]
        pd.concat(frames, ignore_index=True).to_parquet(writer.path(artifact.PREDICTIONS), index=False)
        writer.write_text(artifact.METRICS, json.dumps(_metrics(card, run, logits), indent=2) + "\n")
        writer.write_text(artifact.CONFIG, config.to_yaml())
        writer.write_text(artifact.LOG, "".join(json.dumps(record) + "\n" for record in records))


def _metrics(card: ClassifierCard, run: Assembly, logits: Mapping[str, Floats]) -> dict[str, object]:
    """`metrics.json`: scores of every part, of all classes together and of each."""
    scores: dict[str, HeadScores] = {}
    judged: dict[str, int] = {}
    for name, part in run.parts.items():
        rows = part.labelled.known_N & np.isfinite(logits[name]).all(axis=1)
        judged[name] = int(rows.sum())
        if judged[name]:
            scores[name] = head_scores(run.task, logits[name][rows], part.labelled.targets_NK[rows])
    return {
        "labels": list(run.task.columns),
        "classes": list(run.task.classes),
        "several": run.task.several,
        "split": run.split,
        "cells": {name: len(part.cells) for name, part in run.parts.items()},
        "judged": judged,
        "epochs": card.epochs,
        "kept_epoch": card.kept_epoch,
        "scores": {name: found.values for name, found in scores.items()},
        "by_class": {name: list(found.by_class) for name, found in scores.items()},
        "warnings": list(run.warnings),
    }


def _predictions(name: str, task: Task, part: Part, logits_NK: Floats) -> pd.DataFrame:
    """A row for every cell: its part, its label, what was predicted, and the probability of each class."""
    frame: pd.DataFrame = part.cells.frame[[column for column in ("file", "ID") if column in part.cells.frame]].copy()
    frame["part"] = name
    probabilities_NK = torch.from_numpy(logits_NK).sigmoid().numpy()
    readable_N = np.asarray(np.isfinite(logits_NK).all(axis=1))
    chosen_NK = logits_NK > 0 if task.several else np.eye(len(task.classes), dtype=bool)[np.nan_to_num(logits_NK).argmax(axis=1)]
    frame["label"] = _named(task, part.labelled.targets_NK > 0, part.labelled.known_N)
    frame["prediction"] = _named(task, chosen_NK, readable_N)
    columns = {f"probability_{label}": probabilities_NK[:, index] for index, label in enumerate(task.classes)}
    joined: pd.DataFrame = frame.join(pd.DataFrame(columns, index=frame.index))
    return joined


def _named(task: Task, chosen_NK: np.ndarray, known_N: np.ndarray) -> list[str | None]:
    """The names of each cell's classes; nothing where they are not known."""
    names = np.asarray(task.classes, dtype=object)
    return [SEPARATOR.join(names[row]) if known else None for row, known in zip(chosen_NK, known_N, strict=True)]
