"""How well the classes are told apart: every set of features beside the others, in numbers and bars."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dino4cells.classify import Scores
from dino4cells.report.data import FEATURE_NAMES, TRAINED, ReportData
from dino4cells.report.elements import fact_table, plot
from dino4cells.report.figures import scores_figure
from dino4cells.report.findings import largest_class_scores
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
        body += f"<tr{' class=trained' if name == TRAINED else ''}><td>{escape(FEATURE_NAMES.get(name, name))}</td>"
        for scores, top in zip(row, best, strict=True):
            body += _score_cells(scores, top if len(table) > 1 else None)
        body += "</tr>"
    guess = largest_class_scores(judged[0].pooled)
    cells = "".join(f"<td{' class=first' if place == 0 else ''}>{value:.3f}</td>" for place, value in enumerate(guess))
    body += f"<tr class=guess><td>always the largest class</td>{cells * len(classifiers)}</tr>"
    drawn = f" In brackets: 95 % intervals, by drawing {data.resampled} anew." if data.resampled else ""
    groups = "".join(f'<th class="first" colspan="3" scope="colgroup">{escape(name)}</th>' for name in classifiers.values())
    columns = '<th class="first" scope="col">accuracy</th><th scope="col">balanced</th><th scope="col">macro F1</th>' * len(classifiers)
    left_out = int((~np.isin(data.labels, judged[0].classes)).sum())
    return (
        "<h2>How well can the classes be told apart?</h2>\n"
        f'<p class="quiet">{judged[0].pooled.cells:,} cells, each judged by a classifier that was fitted without it. '
        f"Split: {escape(data.split)}.{f' {left_out:,} cells of classes that cannot be judged are left out.' if left_out else ''} "
        f"Balanced accuracy counts every class the same, however rare. The best of each column is blue.{drawn}</p>\n"
        f'<div class="scroll"><table class="scores"><thead><tr><th></th>{groups}</tr><tr><th scope="col">features</th>{columns}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>\n"
        + plot(
            scores_figure(data.results),
            "svg+xml",
            "Scores of features and classifiers",
            f"{'Lines: 95 % intervals. ' if data.resampled else ''}Dots: the folds. Dashed line: always guessing the largest class.",
            wide=True,
        )
        + _nearest(data)
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
