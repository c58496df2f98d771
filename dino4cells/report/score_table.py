"""How well the classes are told apart: every set of features beside the others, in numbers and bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dino4cells.classify import Classifier, CrossValidation, Scores
from dino4cells.report.data import FEATURE_NAMES, TRAINED, ReportData
from dino4cells.report.elements import fact_table, number_of_cells, plot
from dino4cells.report.figures import scores_figure
from dino4cells.report.findings import largest_class_scores
from dino4cells.report.labels import by_number
from dino4cells.report.text import escape

SCORES = ("accuracy", "balanced_accuracy", "macro_f1")


def scores_section(data: ReportData) -> str:
    """The table and the bars; "" where nothing was judged."""
    judged = [result for by_classifier in data.results.values() for result in by_classifier.values()]
    if not judged:
        return ""
    classifiers = {result.classifier: result.name for result in judged}
    table = {
        name: [by_classifier[classifier].pooled if classifier in by_classifier else None for classifier in classifiers]
        for name, by_classifier in data.results.items()
    }
    best = [
        [max(getattr(scores, name) for row in table.values() if (scores := row[column]) is not None) for name in SCORES]
        for column in range(len(classifiers))
    ]
    body = ""
    for name, row in table.items():
        body += f"<tr{' class=trained' if name == TRAINED else ''}><th scope=row>{escape(FEATURE_NAMES.get(name, name))}</th>"
        for scores, top in zip(row, best, strict=True):
            body += _score_cells(scores, top if len(table) > 1 else None)
        body += "</tr>"
    guess = largest_class_scores(judged[0].pooled)
    cells = "".join(f"<td{' class=first' if place == 0 else ''}>{value:.3f}</td>" for place, value in enumerate(guess))
    body += f"<tr class=guess><th scope=row>always the largest class</th>{cells * len(classifiers)}</tr>"
    drawn = f" In brackets: 95 % intervals, by drawing {data.resampled} anew." if data.resampled else ""
    groups = "".join(f'<th class="first" colspan="3" scope="colgroup">{escape(name)}</th>' for name in classifiers.values())
    columns = '<th class="first" scope="col">accuracy</th><th scope="col">balanced</th><th scope="col">macro F1</th>' * len(classifiers)
    others = int((~np.isin(data.labels, judged[0].classes)).sum())
    left_out = f" Left out: {number_of_cells(others)} of classes that cannot be judged." if others else ""
    return (
        "<h2>How well can the classes be told apart?</h2>\n"
        f'<p class="quiet">{judged[0].pooled.cells:,} cells, each judged by a classifier that was fitted without it. '
        f"Split: {escape(data.split)}.{left_out} "
        f"Balanced accuracy counts every class the same, however rare. The best of each column is bold.{drawn}</p>\n"
        '<div class="scroll" tabindex="0" role="region" aria-label="Scores"><table class="scores">'
        f'<thead><tr><td></td>{groups}</tr><tr><th scope="col">features</th>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>\n"
        + plot(
            scores_figure(data.results),
            "svg+xml",
            "Scores of features and classifiers",
            f"{'Lines: 95 % intervals. ' if data.resampled else ''}Dots: the folds. Dashed line: always guessing the largest class.",
            wide=True,
        )
        + _meanings({result.classifier: result for result in judged}, tuple(data.results))
        + _nearest(data)
    )


def _meanings(classifiers: Mapping[Classifier, CrossValidation], features: Sequence[str]) -> str:
    """What the table's words mean, for those who do not use them every day."""
    words = {
        "accuracy": "the share of cells whose class was named right",
        "balanced accuracy": "that share class by class, and the mean of the classes: a rare one counts as much as a common one",
        "macro F1": "as balanced accuracy, but cells that were wrongly given the name of a class count against it too",
    }
    for classifier, result in classifiers.items():
        words[result.name] = {
            "knn": f"a cell gets the class that most of the {result.neighbours} cells have whose features are most like its own",
            "linear": "a weight for each feature and class, fitted to cells whose class is known (logistic regression)",
        }[classifier]
    sets = {
        TRAINED: "what training has made of it",
        "untrained": "the same network before training: what its random weights tell by themselves",
        "intensity": "mean, spread and percentiles of the brightness of each channel: what needs no network",
    }
    words |= {FEATURE_NAMES[name]: sets[name] for name in features if name in sets}
    return f"<details><summary>What these words mean</summary>{fact_table(words)}</details>\n"


def class_table(scores: Scores) -> str:
    """A row for each class, folded: how many of its cells were found, and how many of those that were given its name are its own."""
    counts = np.asarray(scores.confusion, dtype=np.int64)
    body = ""
    for place in sorted(range(len(counts)), key=lambda place: by_number(scores.classes[place])):
        right, cells, named = int(counts[place, place]), int(counts[place].sum()), int(counts[:, place].sum())
        shares = "".join(f"<td>{right / total:.2f}</td>" if total else "<td>&ndash;</td>" for total in (cells, named))
        taken = np.where(np.arange(len(counts)) == place, 0, counts[place])
        other = f"{scores.classes[int(taken.argmax())]} ({taken.max():,})" if taken.any() else ""
        body += f"<tr><th scope=row>{escape(scores.classes[place])}</th><td>{cells:,}</td>{shares}<td>{escape(other)}</td></tr>"
    columns = "".join(f'<th scope="col">{name}</th>' for name in ("class", "cells", "found", "right", "mostly taken for"))
    return (
        "<details><summary>The same in numbers, class by class</summary>\n"
        '<p class="quiet">Found: the share of the cells of a class that were given its name (recall). Right: the share of the cells with '
        "its name that are its own (precision).</p>\n"
        '<div class="scroll" tabindex="0" role="region" aria-label="Scores of each class"><table class="scores classes">'
        f"<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div></details>\n"
    )


def _nearest(data: ReportData) -> str:
    """How often the nearest neighbour elsewhere has the class; "" where nobody asked."""
    if data.nearest is None:
        return ""
    task, columns = data.nearest.task, " and another ".join(data.nearest.task.columns)
    rows = {
        FEATURE_NAMES.get(name, name): f"{found.accuracy:.3f} [{found.interval[0]:.2f}, {found.interval[1]:.2f}]"
        for name, found in data.nearest.results.items()
    }
    return (
        f"\n<h3>The nearest neighbour of another {escape(columns)}</h3>\n"
        f'<p class="quiet">The share of {int(task.judged_N.sum()):,} rows whose nearest neighbour by cosine, among those of another '
        f"{escape(columns)}, has their class, with its 95 % interval.</p>\n" + fact_table({**rows, "by chance": f"{task.chance:.3f}"})
    )


def _score_cells(scores: Scores | None, best: Sequence[float] | None) -> str:
    if scores is None:
        return '<td class="first">&ndash;</td><td>&ndash;</td><td>&ndash;</td>'
    cells = ""
    for place, name in enumerate(SCORES):
        value, interval = getattr(scores, name), scores.intervals.get(name)
        names = [word for word, holds in (("first", place == 0), ("best", best is not None and value >= best[place])) if holds]
        kind = f' class="{" ".join(names)}"' if names else ""
        within = f"<small>[{interval[0]:.2f}, {interval[1]:.2f}]</small>" if interval else ""
        cells += f"<td{kind}>{value:.3f}{within}</td>"
    return cells
