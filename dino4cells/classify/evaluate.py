"""Judge the features of a run: trained ones beside two baselines, by k-NN and a linear probe, on one split of the cells.

Dimensions: N rows of the features artifact, M of them judged (image readable, class known).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import sklearn
import skops.io
from sklearn.preprocessing import StandardScaler

import dino4cells
from dino4cells import storage
from dino4cells.classify.bootstrap import Difference, Draws, Resamples, class_draws, intervals, warn_of_few
from dino4cells.classify.columns import JudgedCells
from dino4cells.classify.crossval import Classifier, CrossValidation, cross_validate, fit_classifier
from dino4cells.classify.evaluation import CLASSIFIERS, KIND, METRICS, PREDICTIONS, REPORT, TRAINED, Evaluation, NearestNotSame
from dino4cells.classify.kept import Arrays, Kept
from dino4cells.classify.not_same import NotSame, NotSameTask
from dino4cells.classify.probe import calibrated_probe
from dino4cells.config import ClassificationConfig
from dino4cells.errors import DataError
from dino4cells.features.store import Features
from dino4cells.progress import Progress

__all__ = [
    "CLASSIFIERS", "KIND", "METRICS", "PREDICTIONS", "REPORT", "TRAINED", "Evaluation",
    "check_classes", "evaluate", "fitted_classifiers", "kept_at",
]  # fmt: skip

UNFINISHED = "unfinished"
SCORES = ("accuracy", "balanced_accuracy", "macro_f1")


def kept_at(output: str, features: Features, config: ClassificationConfig) -> Kept:
    """What an interrupted judgement of the same features, with the same settings and software, has left at `output`."""
    versions = [dino4cells.__version__, np.__version__, sklearn.__version__]
    decides = json.dumps([features.artifact.fingerprint, config.model_dump(mode="json"), versions], sort_keys=True)
    return Kept(storage.join(output, UNFINISHED), hashlib.sha256(decides.encode()).hexdigest())


def evaluate(features: Features, config: ClassificationConfig, kept: Kept | None = None) -> Evaluation:
    """Cross-validate all feature sets that the artifact holds.

    Args:
        features: of all cells.
        config: says what is judged and how.
        kept: what an interrupted run has judged already; nothing is kept when None.

    Raises:
        DataError: the label or group column is not there or empty, or the cells cannot be split.
    """
    source = features.artifact.url
    everything = JudgedCells.of(features.metadata, source, config, ", and extract again")
    readable = np.asarray(np.isfinite(features.dino).all(axis=1))
    warnings = []
    if not readable.all():
        warnings.append(f"{(~readable).sum():,} of {len(readable):,} cells have no features{features.first_failure}, and are not judged.")
    if not readable.any():
        raise DataError(f"{source}: no cell has features{features.first_failure}; mend the images and extract again.")
    rows = np.flatnonzero(readable)
    cells = everything.take(rows)
    folds = cells.folds(config)
    names, groups = cells.labels_N, cells.groups_N
    sets = {TRAINED: features.dino[rows], **{name: values[rows] for name, values in features.baselines.items()}}
    fewest = min(len(learnt) for learnt, _ in folds)
    if config.neighbours > fewest:
        warnings.append(f"{config.neighbours} neighbours are asked for, and a fold has {fewest} cells to learn from, of which all vote.")
    judged_groups = None if groups is None else groups[folds.judged]
    resamples = Resamples.of(len(folds.judged), judged_groups, config.group or "group", config.seed)
    results: dict[str, dict[Classifier, CrossValidation]] = {}
    draws: dict[tuple[str, Classifier], dict[str, Draws]] = {}
    kept = kept or Kept()
    with Progress("classify", len(sets) * len(CLASSIFIERS) * len(rows)) as progress:
        for name, values in sets.items():
            results[name] = {}
            for classifier in CLASSIFIERS:
                result = cross_validate(
                    values,
                    names,
                    folds,
                    classifier,
                    config.neighbours,
                    standardize=name == "intensity",
                    class_weights=config.class_weights,
                    probabilities=name == TRAINED,
                    kept=kept.under(name).under(classifier),
                )
                found = class_draws(names[folds.judged], result.predictions[folds.judged], resamples)
                draws[name, classifier] = found
                results[name][classifier] = replace(result, pooled=replace(result.pooled, intervals=intervals(found)))
                progress.advance(len(rows), f"{name}, {result.name}")
    return Evaluation(
        rows=rows,
        label=cells.label,
        group=config.group,
        labels=names,
        groups=groups,
        folds=folds,
        results=results,
        warnings=(*warnings, *folds.warnings, *warn_of_few(judged_groups, config.group or "group")),
        resampled=resamples.description,
        differences=_differences(results, draws),
        nearest=_nearest_not_same(cells, sets, config, kept),
    )


def _differences(
    results: dict[str, dict[Classifier, CrossValidation]], draws: dict[tuple[str, Classifier], dict[str, Draws]]
) -> dict[str, dict[Classifier, dict[str, Difference]]]:
    """By how much the trained features are better than each baseline."""
    return {
        name: {
            classifier: {
                score: Difference.of(
                    getattr(results[TRAINED][classifier].pooled, score) - getattr(result.pooled, score),
                    draws[TRAINED, classifier][score],
                    draws[name, classifier][score],
                )
                for score in SCORES
            }
            for classifier, result in by_classifier.items()
        }
        for name, by_classifier in results.items()
        if name != TRAINED
    }


def _nearest_not_same(cells: JudgedCells, sets: dict[str, np.ndarray], config: ClassificationConfig, kept: Kept) -> NearestNotSame | None:
    """The nearest-neighbour scores of all feature sets, where columns are named for them."""
    if not config.not_same:
        return None
    task = NotSameTask.of(cells.labels_N, cells.others, config.not_same, cells.groups_N, config.group or "group", config.seed)
    results: dict[str, NotSame] = {}
    draws: dict[str, Draws] = {}
    with Progress("nearest", len(sets) * len(cells.labels_N)) as progress:
        for name, values in sets.items():
            compared = StandardScaler().fit_transform(values) if name == "intensity" else values
            neighbours = kept.arrays(f"{name}-nearest", partial(_neighbours, task, compared))["neighbours"]
            results[name], draws[name] = task.score(neighbours)
            progress.advance(len(values), name)
    trained = results[TRAINED]
    better = {
        name: Difference.of(trained.accuracy - result.accuracy, draws[TRAINED], draws[name])
        for name, result in results.items()
        if name != TRAINED
    }
    return NearestNotSame(task, {**results, TRAINED: replace(trained, differences=better)})


def _neighbours(task: NotSameTask, profiles: np.ndarray) -> Arrays:
    return {"neighbours": task.nearest(profiles)}


def fitted_classifiers(
    features: Features, evaluation: Evaluation, config: ClassificationConfig, kept: Kept | None = None
) -> dict[str, bytes]:
    """The classifiers to keep, as skops files, which hold no code: file name → content.

    They are fitted on all cells; where a column gives the split, on those that train and validate, so that the scores are theirs.
    The linear probe's probabilities are calibrated.
    """
    folds = evaluation.folds
    learnt = np.arange(len(evaluation.rows)) if folds.given is None else next(iter(folds))[0]
    values, labels = features.dino[evaluation.rows[learnt]], evaluation.labels[learnt]

    def fitted(kind: Classifier) -> Arrays:
        model = fit_classifier(values, labels, kind, config.neighbours, class_weights=config.class_weights)
        calibration = evaluation.results[TRAINED][kind].calibration
        content = skops.io.dumps(calibrated_probe(model, calibration.temperatures[0]) if calibration is not None else model)
        return {"content": np.frombuffer(content, np.uint8)}

    kept = kept or Kept()
    return {file: kept.arrays(file, partial(fitted, kind))["content"].tobytes() for kind, file in CLASSIFIERS.items()}


def check_classes(table: pd.DataFrame, source: str, config: ClassificationConfig) -> None:
    """Refuse a table of cells whose classes or groups cannot be judged, before anything is computed from it.

    Args:
        table: the cells.
        source: URL of the CSV, for messages.
        config: names the columns and the number of folds.

    Raises:
        DataError: as `evaluate` would raise after training and extraction.
    """
    JudgedCells.of(table, source, config).folds(config)
