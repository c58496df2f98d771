"""The report: one HTML file that needs nothing else, for a browser, a frame of the Kubeflow UI, a phone or paper."""

from __future__ import annotations

from html import escape

import numpy as np

from dino4cells.classify import CrossValidation
from dino4cells.report.curves import loss_curve
from dino4cells.report.data import FEATURE_NAMES, TRAINED, ReportData
from dino4cells.report.elements import Fact, document, fact_table, folded, number_of_cells, plot, summary
from dino4cells.report.figures import confusion_figure, scores_figure
from dino4cells.report.findings import findings, headline, largest_class_scores, most_confused, summarize_loss
from dino4cells.report.map_figures import map_by_class, map_by_group, map_class_by_class
from dino4cells.report.sheet import SheetRow, contact_sheet


def render_report(data: ReportData) -> str:
    """The whole page as HTML, a few hundred kilobytes to a few megabytes; every text from the data is escaped.

    Example:
        >>> page = render_report(ReportData("A < B", ["DNA"], np.asarray(["x", "y"]), results={}, split=""))
        >>> "<h1>A &lt; B</h1>" in page
        True
    """
    sections = [_summary(data), _scores(data), _examples(data), _map(data), _confusion(data), _training(data), _origin(data)]
    return document(data.title, sections, data.footer)


def _summary(data: ReportData) -> str:
    facts = [
        Fact("Cells", f"{len(data.labels):,}"),
        Fact("Channels", f"{len(data.channels)}", ", ".join(data.channels)),
        Fact("Classes", f"{len(data.classes)}", _range_of_sizes(data.labels)),
    ]
    if data.groups is not None:
        facts.append(Fact("Groups", f"{len(np.unique(data.groups)):,}", f"values of {data.group_name}"))
    loss = summarize_loss(data.loss)
    if loss is not None:
        facts.append(Fact("Loss, start → end", f"{loss.start:.2f} → {loss.end:.2f}"))
    return summary(data.title, headline(data), facts, findings(data))


def _range_of_sizes(labels: np.ndarray) -> str:
    if not len(labels):
        return ""
    sizes = np.unique(labels, return_counts=True)[1]
    return f"{sizes.min():,} to {sizes.max():,} cells each" if sizes.min() < sizes.max() else f"{sizes[0]:,} cells each"


def _scores(data: ReportData) -> str:
    judged = [result for by_classifier in data.results.values() for result in by_classifier.values()]
    if not judged:
        return ""
    classifiers = {result.classifier: result.name for result in judged}
    table = {
        name: [_three(by_classifier[classifier]) if classifier in by_classifier else None for classifier in classifiers]
        for name, by_classifier in data.results.items()
    }
    best = [
        [max(row[column][score] for row in table.values() if row[column] is not None) for score in range(3)]  # type: ignore[index]
        for column in range(len(classifiers))
    ]
    body = ""
    for name, row in table.items():
        body += f"<tr{' class=trained' if name == TRAINED else ''}><td>{escape(FEATURE_NAMES.get(name, name))}</td>"
        for scores, top in zip(row, best, strict=True):
            body += _score_cells(scores, top if len(table) > 1 else None)
        body += "</tr>"
    guess = largest_class_scores(judged[0].pooled)
    body += "<tr class=guess><td>always the largest class</td>" + _score_cells(guess, None) * len(classifiers) + "</tr>"
    groups = "".join(f'<th class="first" colspan="3" scope="colgroup">{escape(name)}</th>' for name in classifiers.values())
    columns = '<th class="first" scope="col">accuracy</th><th scope="col">balanced</th><th scope="col">macro F1</th>' * len(classifiers)
    left_out = len(data.labels) - judged[0].pooled.cells
    return (
        "<h2>How well can the classes be told apart?</h2>\n"
        f'<p class="quiet">{judged[0].pooled.cells:,} cells, each judged by a classifier that was fitted without it. '
        f"Split: {escape(data.split)}.{f' {left_out:,} cells of classes that cannot be judged are left out.' if left_out else ''} "
        "Balanced accuracy counts every class the same, however rare. The best of each column is blue.</p>\n"
        f'<div class="scroll"><table class="scores"><thead><tr><th></th>{groups}</tr><tr><th scope="col">features</th>{columns}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>\n"
        + plot(
            scores_figure(data.results),
            "svg+xml",
            "Scores of features and classifiers",
            "Dots: the folds. Dashed line: always guessing the largest class.",
            wide=True,
        )
    )


def _three(result: CrossValidation) -> tuple[float, float, float]:
    return result.pooled.accuracy, result.pooled.balanced_accuracy, result.pooled.macro_f1


def _score_cells(scores: tuple[float, float, float] | None, best: list[float] | None) -> str:
    if scores is None:
        return '<td class="first">&ndash;</td><td>&ndash;</td><td>&ndash;</td>'
    cells = ""
    for place, value in enumerate(scores):
        names = [name for name, holds in (("first", place == 0), ("best", best is not None and value >= best[place])) if holds]
        cells += f'<td{f""" class="{" ".join(names)}" """.rstrip() if names else ""}>{value:.3f}</td>'
    return cells


def _examples(data: ReportData) -> str:
    sizes = dict(zip(*(part.tolist() for part in np.unique(data.labels, return_counts=True)), strict=True))
    rows = [SheetRow(name, number_of_cells(int(sizes.get(name, 0))), images) for name, images in data.examples.items()]
    return contact_sheet(rows, list(data.channels))


def _map(data: ReportData) -> str:
    if data.feature_map is None or not len(data.feature_map.rows):
        return ""
    method, note = data.feature_map.method, data.feature_map.note
    what = "the axes are the two directions of largest variation"
    if method == "UMAP":
        what = "neighbours look alike to the network, and distances between islands mean little"
    html = (
        "<h2>Map of the features</h2>\n"
        + plot(
            map_by_class(data.feature_map, data.labels),
            "png",
            f"{method} of the features coloured by class",
            f"{method} of the trained features: a dot is a cell, {what}. {note}".strip(),
            wide=True,
        )
        + "\n<h3>Class by class</h3>\n"
        + plot(map_class_by_class(data.feature_map, data.labels), "png", f"{method}, one panel for each class", "", wide=True)
    )
    if data.groups is not None:
        html += f"\n<h3>By {escape(data.group_name)}</h3>\n" + plot(
            map_by_group(data.feature_map, data.groups, data.group_name),
            "png",
            f"{method} of the features coloured by {data.group_name}",
            f"The same map. Regions of one colour mean that cells of one {data.group_name} look alike to the network: a batch effect, "
            f"unless that {data.group_name} also holds its own classes.",
            width=640,
        )
    return html


def _confusion(data: ReportData) -> str:
    results = list(data.results.get(TRAINED, {}).values())
    if not results:
        return ""
    html = "<h2>What is taken for what</h2>\n"
    for place, result in enumerate(results):
        confused = most_confused(result.pooled)
        caption = f"{result.name} on the trained features. Rows: true class; numbers: cells; colour: share of the row."
        if confused:
            caption += f" Most confused: {'; '.join(confused)}."
        width = min(900, 300 + 48 * len(result.classes))
        picture = plot(
            confusion_figure(result.pooled),
            "svg+xml",
            f"Confusion matrix, {result.name}",
            caption,
            width=width,
            narrowest=300 + 16 * len(result.classes),
        )
        html += picture if place == 0 else f"<details><summary>The same with the {escape(result.name)}</summary>{picture}</details>\n"
    return html


def _training(data: ReportData) -> str:
    if summarize_loss(data.loss) is None:
        return ""
    caption = "Lower means that the student predicts the teacher better; a curve that stays on the dashed line has learned nothing."
    if data.plateau is None:
        caption = "Lower means that the student predicts the teacher better."
    return "<h2>Training</h2>\n" + plot(loss_curve(data.loss, data.plateau), "svg+xml", "Loss over the epochs", caption, wide=True)


def _origin(data: ReportData) -> str:
    shown = fact_table(data.artifacts, code=True) + folded("Settings", data.settings)
    return f"<h2>Where things are</h2>\n{shown}" if shown else ""
