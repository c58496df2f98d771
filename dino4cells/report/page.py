"""The report: one HTML file that needs nothing else, for a browser, a frame of the Kubeflow UI, a phone or paper."""

from __future__ import annotations

import numpy as np

from dino4cells.report.attention import attention_section
from dino4cells.report.curves import loss_caption, loss_curve, schedule_curves, speed_curve
from dino4cells.report.data import TRAINED, ReportData
from dino4cells.report.elements import Fact, document, fact_table, folded, number_of_cells, plot, summary
from dino4cells.report.figures import FEW_CLASSES, batch_figure, confusion_figure, width_of_svg
from dino4cells.report.findings import about_batches, findings, headline, largest_class_scores, most_confused, summarize_loss
from dino4cells.report.map_figures import map_class_by_class
from dino4cells.report.map_section import map_caption, map_section
from dino4cells.report.score_table import class_table, scores_section
from dino4cells.report.scripts import page_scripts
from dino4cells.report.sheet import SheetRow, contact_sheet
from dino4cells.report.text import escape

POINT = 1.25  # CSS pixels, of the matrices


def render_report(data: ReportData) -> str:
    """The whole page as HTML, a few megabytes; every text from the data is shown as text.

    Example:
        >>> page = render_report(ReportData("A < B", ["DNA"], np.asarray(["x", "y"]), results={}, split=""))
        >>> "<h1>A &lt; B</h1>" in page
        True
    """
    sheet = _examples(data)
    sections = [
        _summary(data), _map(data), sheet, scores_section(data), _confusion(data), _batches(data), _attention(data), _training(data),
        _origin(data),
    ]  # fmt: skip
    return document(data.title, sections, data.footer, page_scripts(cell_map=data.cells is not None, sheet=bool(sheet)))


def _summary(data: ReportData) -> str:
    facts = [
        Fact("Cells", f"{len(data.labels):,}"),
        Fact("Channels", f"{len(data.channels)}", ", ".join(data.channels)),
        Fact("Classes", f"{len(data.classes)}", _range_of_sizes(data.labels)),
    ]
    if data.groups is not None:
        facts.append(Fact("Groups", f"{len(np.unique(data.groups)):,}", f"values of {data.group_name}"))
    loss = summarize_loss(data.log)
    if loss is not None:
        facts.append(Fact("Loss, start → end", f"{loss.start:.2f} → {loss.end:.2f}"))
    return summary(data.title, headline(data), facts, findings(data))


def _range_of_sizes(labels: np.ndarray) -> str:
    if not len(labels):
        return ""
    sizes = np.unique(labels, return_counts=True)[1]
    return f"{sizes.min():,} to {sizes.max():,} cells each" if sizes.min() < sizes.max() else f"{sizes[0]:,} cells each"


def _examples(data: ReportData) -> str:
    sizes = dict(zip(*(part.tolist() for part in np.unique(data.labels, return_counts=True)), strict=True))
    rows = [SheetRow(name, number_of_cells(int(sizes.get(name, 0))), images) for name, images in data.examples.items()]
    return contact_sheet(rows, list(data.channels))


def _map(data: ReportData) -> str:
    if data.cells is None:
        return ""
    plane = data.cells.plane
    panels = plot(map_class_by_class(plane, data.labels), "svg+xml", f"{plane.method}, one panel for each class", "", wide=True)
    return map_section(data.cells, map_caption(plane)) + f"<details><summary>Class by class</summary>{panels}</details>\n"


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
        matrix = confusion_figure(result.pooled)
        # Letters stay legible: a matrix of few classes shrinks a little on a phone, one of many is scrolled.
        width = round(POINT * width_of_svg(matrix))
        narrowest = round(0.7 * width) if len(result.classes) <= FEW_CLASSES else width
        picture = plot(matrix, "svg+xml", f"Confusion matrix, {result.name}", caption, width=width, narrowest=narrowest)
        if place == 0:
            html += picture + class_table(result.pooled)
        else:
            html += f"<details><summary>The same with the {escape(result.name)}</summary>{picture}</details>\n"
    return html


def _batches(data: ReportData) -> str:
    trained = next(iter(data.results.get(TRAINED, {}).values()), None)
    if data.batch is None or trained is None:
        return ""
    classes = {name: result.pooled.balanced_accuracy for name, by in data.results.items() for result in list(by.values())[:1]}
    chance = largest_class_scores(trained.pooled)[1]
    name = data.batch.group_name
    return (
        f"<h2>Does {escape(name)} show in the features?</h2>\n"
        f"<p>{escape(about_batches(data.batch, classes.get(TRAINED, 0.0), chance))}</p>\n"
        + plot(
            batch_figure(data.batch, classes, chance),
            "svg+xml",
            f"How well the class and {name} are told from each set of features",
            f"{trained.name}. Class: cells of one {name} never in training and test at once. {name}: {data.batch.cells:,} cells of "
            f"{data.batch.groups:,} values, split at random. Dashed: guessing. Dotted: who knows a cell's class alone.",
            wide=True,
        )
    )


def _attention(data: ReportData) -> str:
    return "" if data.attention is None else attention_section(data.attention)


def _training(data: ReportData) -> str:
    if summarize_loss(data.log) is None:
        return ""
    caption = loss_caption(data.plateau)
    schedules, speed = schedule_curves(data.log), speed_curve(data.log) if any("data_wait" in record for record in data.log) else None
    loss = loss_curve(data.log, data.plateau, speed=speed is None)
    html = "<h2>Training</h2>\n" + plot(loss, "svg+xml", "Loss over the epochs", caption, wide=True)
    if schedules:
        what = "Learning rate, weight decay, momentum and temperature of the teacher over the images seen"
        html += "\n<h3>Schedules</h3>\n" + plot(schedules, "svg+xml", what, "", wide=True)
    if speed:
        html += "\n<h3>Speed, and waiting for images</h3>\n" + plot(speed, "svg+xml", "Images per second, share of waiting", "", wide=True)
    return html


def _origin(data: ReportData) -> str:
    run = f"<h2>What was run</h2>\n{fact_table(data.run)}{folded('Settings', data.settings)}" if data.run or data.settings else ""
    places = f"<h2>Where things are</h2>\n{fact_table(data.artifacts, code=True)}" if data.artifacts else ""
    return run + places
