"""Judge the features of a run: trained ones beside two baselines, by k-NN and a linear probe, on one split of the cells.

Dimensions: N rows of the features artifact, M of them judged (image readable, class known).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import skops.io

from dino4cells.classify.crossval import Classifier, CrossValidation, cross_validate, fit_classifier
from dino4cells.classify.metrics import Scores
from dino4cells.classify.splits import Folds, make_folds
from dino4cells.config import ClassificationConfig
from dino4cells.data.metadata import missing_column
from dino4cells.data.strata import DEFAULT_LABELS
from dino4cells.errors import DataError
from dino4cells.features.store import Features
from dino4cells.progress import Progress

KIND = "classification"
METRICS, PREDICTIONS, REPORT = "metrics.json", "predictions.parquet", "report.html"
CLASSIFIERS: dict[Classifier, str] = {"knn": "knn.skops", "linear": "linear_probe.skops"}
TRAINED = "trained"


@dataclass(frozen=True)
class Evaluation:
    """What was judged, how it was split, and every result.

    Attributes:
        rows: (M,) rows of the features that were judged.
        label, group: columns of the classes and of the groups that never straddle (None: random split).
        labels, groups: (M,) str.
        results: feature set (`trained`, `untrained`, `intensity`) → classifier → result.
        warnings: sentences for the user.
    """

    rows: np.ndarray
    label: str
    group: str | None
    labels: np.ndarray
    groups: np.ndarray | None
    folds: Folds
    results: dict[str, dict[Classifier, CrossValidation]]
    warnings: tuple[str, ...]

    def metrics_json(self) -> str:
        """`metrics.json`: every score, the confusion matrix of the trained features, and how the cells were split."""
        content = {
            "label": self.label,
            "group": self.group,
            "split": self.folds.description,
            "cells": len(self.rows),
            "classes": sorted({str(name) for name in self.labels}),
            "results": {
                name: {classifier: _scores(result.pooled) for classifier, result in by_classifier.items()}
                for name, by_classifier in self.results.items()
            },
            "confusion": {
                classifier: {"classes": list(result.pooled.classes), "matrix": [list(row) for row in result.pooled.confusion]}
                for classifier, result in self.results[TRAINED].items()
            },
            "warnings": list(self.warnings),
        }
        return json.dumps(content, indent=2) + "\n"

    def predictions(self, features: Features) -> pd.DataFrame:
        """A row per cell in the features' order: its ID and class, its fold, and what was predicted for it out of fold."""
        frame: pd.DataFrame = features.metadata[[name for name in ("file", "ID") if name in features.metadata]].copy()
        frame["label"] = _placed(self.labels, self.rows, len(frame))
        frame["fold"] = pd.array([pd.NA] * len(frame), dtype="Int64")
        frame.loc[self.rows[self.folds.judged], "fold"] = self.folds.assignment[self.folds.judged]
        for name, by_classifier in self.results.items():
            for classifier, result in by_classifier.items():
                column = _placed(result.predictions, self.rows, len(frame))
                column[column == ""] = None  # cells of classes that could not be judged
                frame[f"{name}_{classifier}"] = column
        return frame


def _scores(scores: Scores) -> dict[str, float]:
    return {"accuracy": scores.accuracy, "balanced_accuracy": scores.balanced_accuracy, "macro_f1": scores.macro_f1, "cells": scores.cells}


def _placed(values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    placed = np.full(count, None, dtype=object)
    placed[rows] = values
    return placed


def evaluate(features: Features, config: ClassificationConfig) -> Evaluation:
    """Cross-validate all feature sets that the artifact holds.

    Raises:
        DataError: the label or group column is not there or empty, or the cells cannot be split.
    """
    source = features.artifact.url
    label, names, all_groups = _columns(_Cells(features.metadata, source, ", and extract again"), config)
    readable = np.asarray(np.isfinite(features.dino).all(axis=1))
    warnings = []
    if not readable.all():
        warnings.append(
            f"{(~readable).sum()} of {len(readable)} cells have no features, because their images could not be read; they are not judged."
        )
    if not readable.any():
        first = features.metadata["dino_error"].iloc[0]
        raise DataError(f"{source}: no cell has features, because no image could be read; mend the images (the first: {first})")
    rows = np.flatnonzero(readable)
    groups = None if all_groups is None else all_groups[rows]
    folds = _folds(names[rows], groups, label, source, config)
    sets = {TRAINED: features.dino, **features.baselines}
    results: dict[str, dict[Classifier, CrossValidation]] = {}
    with Progress("classify", len(sets) * len(CLASSIFIERS) * len(rows)) as progress:
        for name, values in sets.items():
            results[name] = {}
            for classifier in CLASSIFIERS:
                result = cross_validate(values[rows], names[rows], folds, classifier, config.neighbours, standardize=name == "intensity")
                results[name][classifier] = result
                progress.advance(len(rows), f"{name}, {result.name}")
    return Evaluation(
        rows=rows,
        label=label,
        group=config.group,
        labels=names[rows].astype(str),
        groups=None if groups is None else groups.astype(str),
        folds=folds,
        results=results,
        warnings=(*warnings, *folds.warnings),
    )


def fitted_classifiers(features: Features, evaluation: Evaluation, neighbours: int) -> dict[str, bytes]:
    """Classifiers fitted on all judged cells, as skops files, which hold no code: file name → content."""
    values = features.dino[evaluation.rows]
    return {file: skops.io.dumps(fit_classifier(values, evaluation.labels, kind, neighbours)) for kind, file in CLASSIFIERS.items()}


def check_classes(table: pd.DataFrame, source: str, config: ClassificationConfig) -> None:
    """Refuse a table of cells whose classes or groups cannot be judged, before anything is computed from it.

    Args:
        table: the cells.
        source: URL of the CSV, for messages.
        config: names the columns and the number of folds.

    Raises:
        DataError: as `evaluate` would raise after training and extraction.
    """
    label, names, groups = _columns(_Cells(table, source), config)
    _folds(names, groups, label, source, config)


@dataclass(frozen=True)
class _Cells:
    """A table of cells, its URL, and what else is to do after it was mended, for messages."""

    frame: pd.DataFrame
    source: str
    then: str = ""


def _columns(cells: _Cells, config: ClassificationConfig) -> tuple[str, np.ndarray, np.ndarray | None]:
    """Name of the column of classes, and (N,) classes and groups."""
    label = config.label or next((name for name in DEFAULT_LABELS if name in cells.frame), DEFAULT_LABELS[-1])
    names = _column(cells, label, "the class of each cell; another column is named by --label")
    groups = _column(cells, config.group, "the group that never straddles a split, named by --group") if config.group else None
    return label, names, groups


def _column(cells: _Cells, name: str, purpose: str) -> np.ndarray:
    if name not in cells.frame:
        columns = [column for column in cells.frame.columns if column not in ("dino_model", "dino_error")]
        raise missing_column(cells.source, name, purpose, columns)
    values = cells.frame[name]
    empty = values.isna() | (values.astype(str).str.strip() == "")
    if empty.any():
        row = int(empty.to_numpy().argmax())
        # Features in one file have labels alone.
        said = next((f" ({cells.frame[column].iloc[row]})" for column in ("file", "Image_Name", "ID") if column in cells.frame), "")
        place = f"{cells.source}, cell {row + 1}{said}"
        more = f" (and in {empty.sum() - 1:,} more)" if empty.sum() > 1 else ""
        raise DataError(f"{place}: the column '{name}' is empty{more}; fill it in metadata.csv or delete the cell's row{cells.then}.")
    return values.to_numpy(dtype=object)


def _folds(names: np.ndarray, groups: np.ndarray | None, label: str, source: str, config: ClassificationConfig) -> Folds:
    try:
        return make_folds(names, groups, count=config.folds, seed=config.seed, label_name=label, group_name=config.group or "group")
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
