"""What the numbers say, in sentences: the headline, the warnings, the classes that are confused most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dino4cells.classify import CrossValidation, Scores
from dino4cells.classify.batch_effect import BatchEffect
from dino4cells.report.data import FEATURE_NAMES, TRAINED, ReportData

FAINT, STRONG = 0.1, 0.4  # of what can be told of the group beyond the class
EVEN = 0.01  # differences of balanced accuracy below one point are called even


@dataclass(frozen=True)
class LossSummary:
    """Loss at the start and at the end of training, each the mean over a twentieth of the logged steps (at least one)."""

    start: float
    end: float


def summarize_loss(records: Sequence[Mapping[str, float]]) -> LossSummary | None:
    """Loss at both ends of training, or None if no finite loss was logged."""
    losses = [record["loss"] for record in records if math.isfinite(record.get("loss", math.nan))]
    if not losses:
        return None
    few = max(1, len(losses) // 20)
    return LossSummary(float(np.mean(losses[:few])), float(np.mean(losses[-few:])))


def largest_class_scores(scores: Scores) -> tuple[float, float, float]:
    """Accuracy, balanced accuracy and macro F1 of always guessing the largest class: what no classifier may fall short of."""
    members = np.asarray(scores.confusion).sum(axis=1)
    present = int(np.sum(members > 0))
    share = float(members.max() / members.sum())
    return share, 1.0 / present, 2 * share / (1 + share) / present


def headline(data: ReportData) -> str:
    """One sentence: how well the trained features tell the classes apart, beside the baselines."""
    judged = _judge(data, TRAINED)
    if judged is None:
        return f"{len(data.labels):,} cells of {len(data.classes)} classes."
    others = [
        f"{FEATURE_NAMES.get(name, name)}: {result.pooled.balanced_accuracy:.2f}"
        for name in data.results
        if name != TRAINED and (result := _judge(data, name)) is not None
    ]
    others.append(f"guessing: {largest_class_scores(judged.pooled)[1]:.2f}")
    return (
        f"On the trained features, {judged.name} names the right class of {100 * judged.pooled.accuracy:.0f} % of the cells. "
        f"Balanced over the {len(judged.classes)} classes that is {judged.pooled.balanced_accuracy:.2f} ({'; '.join(others)})."
    )


def findings(data: ReportData) -> list[str]:
    """Sentences about what is off: those given, and those that the numbers show."""
    found = list(data.warnings)
    if data.groups is None:
        found.append(
            "No group column was given, so the split is random: cells of one plate, well or image may be in training and test at once, "
            "and the scores may be too good. Name the column (plate, donor, well) to be sure."
        )
    trained = _judge(data, TRAINED)
    for name, advice in (
        ("untrained", "training has not helped yet, so train longer or look at the loss curve"),
        ("intensity", "the classes may differ mainly in brightness, or the network needs more training or the data set's normalization"),
    ):
        baseline = _judge(data, name)
        if trained is None or baseline is None:
            continue
        difference = trained.pooled.balanced_accuracy - baseline.pooled.balanced_accuracy
        if difference < EVEN:
            word = "even with" if difference > -EVEN else "behind"
            found.append(
                f"The trained features are {word} the baseline '{FEATURE_NAMES[name]}' in balanced accuracy "
                f"({trained.pooled.balanced_accuracy:.2f} and {baseline.pooled.balanced_accuracy:.2f}, {trained.name}): {advice}."
            )
    found += plateau_warnings(data.log, data.plateau)
    return found


def plateau_warnings(records: Sequence[Mapping[str, float]], plateau: float | None) -> list[str]:
    """A sentence where the loss has not left the plateau, the loss of uniform outputs; none where it has, or nobody knows."""
    loss = summarize_loss(records)
    if loss is None or plateau is None or loss.end <= 0.99 * plateau:
        return []
    return [
        f"The loss ends at {loss.end:.2f}, still at the plateau of {plateau:.2f} where the network says the same of every cell: "
        "train longer, or use the small-data preset."
    ]


def about_batches(batch: BatchEffect, class_score: float, class_chance: float) -> str:
    """What the prediction of the group means, in one sentence or two."""
    name, score = batch.group_name, next(iter(batch.scores.values()))
    numbers = f"balanced accuracy {score:.2f}, by guessing {batch.chance:.2f}, from the class alone {batch.by_class:.2f}"
    if batch.excess < FAINT <= (score - batch.chance) / (1 - batch.chance):
        found = (
            f"The {name} of a cell can be told in part from its features ({numbers}), and no better than the class alone would tell it: "
            "the groups hold different classes, so that a batch effect is neither seen nor excluded."
        )
    elif batch.excess < FAINT:
        found = f"The {name} of a cell can hardly be told from its features ({numbers}): no batch effect is seen."
    elif batch.excess < STRONG:
        found = f"The {name} of a cell can be told in part from its features ({numbers}): a batch effect, beside what the classes share."
    else:
        found = (
            f"The {name} of a cell can be told from its features ({numbers}): a strong batch effect; compare cells within one {name}, or "
            f"normalize the features by {name}."
        )
    return f"{found} The class is told with {class_score:.2f} (by guessing {class_chance:.2f})."


def most_confused(scores: Scores, count: int = 3) -> list[str]:
    """The largest confusions by share of the true class, for example "G1 taken for S (41 of 90)"."""
    matrix = np.asarray(scores.confusion, dtype=np.float64)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(share, 0)
    lines = []
    for place in np.argsort(-share, axis=None, kind="stable")[:count]:
        row, column = divmod(int(place), len(matrix))
        if share[row, column] > 0:
            lines.append(f"{scores.classes[row]} taken for {scores.classes[column]} ({matrix[row, column]:.0f} of {matrix[row].sum():.0f})")
    return lines


def _judge(data: ReportData, features: str) -> CrossValidation | None:
    """The k-NN result of these features, which has nothing to tune; the first other one if there is none."""
    by_classifier = data.results.get(features, {})
    return by_classifier.get("knn") or next(iter(by_classifier.values()), None)
