"""The report: one HTML file that needs nothing else, for a browser, a frame of the Kubeflow UI, a phone or paper."""

from __future__ import annotations

from base64 import b64encode
from html import escape

import numpy as np

from dino4cells.classify import CrossValidation
from dino4cells.report.cells import merge, stretch, stretch_limits, strip_png
from dino4cells.report.data import FEATURE_NAMES, TRAINED, ReportData
from dino4cells.report.figures import confusion_figure, loss_curve, scores_figure
from dino4cells.report.findings import findings, headline, largest_class_scores, most_confused, summarize_loss
from dino4cells.report.map_figures import map_by_class, map_by_group, map_class_by_class
from dino4cells.report.palette import channel_colours, css
from dino4cells.report.style import CSS

MOST_EXAMPLES = 4
SHEET_WIDTH = 690  # CSS pixels for the pictures of one row
SHEET_TILES = 12


def render_report(data: ReportData) -> str:
    """The whole page as HTML, a few hundred kilobytes to a few megabytes; every text from the data is escaped.

    Example:
        >>> page = render_report(ReportData("A < B", ["DNA"], np.asarray(["x", "y"]), results={}, split=""))
        >>> "<h1>A &lt; B</h1>" in page
        True
    """
    sections = [_summary(data), _scores(data), _examples(data), _map(data), _confusion(data), _training(data), _origin(data)]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # The browser itself is told that nothing may be loaded from elsewhere.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(data.title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main>\n"
        + (f"<footer>{escape(data.footer)}</footer>\n" if data.footer else "")
        + "</body>\n</html>\n"
    )


def _summary(data: ReportData) -> str:
    facts = [
        ("Cells", f"{len(data.labels):,}", ""),
        ("Channels", f"{len(data.channels)}", ", ".join(data.channels)),
        ("Classes", f"{len(data.classes)}", _range_of_sizes(data.labels)),
    ]
    if data.groups is not None:
        facts.append(("Groups", f"{len(np.unique(data.groups)):,}", f"values of {data.group_name}"))
    loss = summarize_loss(data.loss)
    if loss is not None:
        facts.append(("Loss, start → end", f"{loss.start:.2f} → {loss.end:.2f}", ""))
    cards = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}{f'<small>{escape(more)}</small>' if more else ''}</dd></div>"
        for name, value, more in facts
    )
    warnings = "".join(f"<li>{escape(sentence)}</li>" for sentence in findings(data))
    return f'<h1>{escape(data.title)}</h1>\n<p class="lead">{escape(headline(data))}</p>\n<dl class="facts">{cards}</dl>' + (
        f'\n<ul class="warnings" aria-label="Warnings">{warnings}</ul>' if warnings else ""
    )


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
        + _plot(
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
    shown = {name: list(images) for name, images in data.examples.items() if len(images)}
    if not shown:
        return ""
    channels = list(data.channels)
    limits = stretch_limits((image for images in shown.values() for image in images), channels)
    columns = len(channels) + (len(channels) > 1)
    count = min(max(1, SHEET_TILES // columns), MOST_EXAMPLES, max(len(images) for images in shown.values()))
    side = max(max(image.shape[1:]) for images in shown.values() for image in images[:count])
    tile = min(96, max(56, SHEET_WIDTH // (columns * count)))
    head = "<th></th>" + ("<th scope=col>merged</th>" if len(channels) > 1 else "")
    for channel, colour in zip(channels, channel_colours(channels), strict=True):
        swatch = f'<span class="swatch" style="background:{css(colour)}"></span>' if len(channels) > 1 else ""
        head += f"<th scope=col>{swatch}{escape(channel)}</th>"
    sizes = dict(zip(*(part.tolist() for part in np.unique(data.labels, return_counts=True)), strict=True))
    body = ""
    for name, images in shown.items():
        stretched = [stretch(image, limits) for image in images[:count]]
        cells = int(sizes.get(name, 0))
        body += f"<tr><th scope=row>{escape(name)}<small>{cells:,} {'cell' if cells == 1 else 'cells'}</small></th>"
        width = tile * len(stretched)
        if len(channels) > 1:
            body += f"<td>{_image(strip_png([merge(image, channels) for image in stretched], side), 'png', f'{name}, merged', width)}</td>"
        for index, channel in enumerate(channels):
            body += f"<td>{_image(strip_png([image[index] for image in stretched], side), 'png', f'{name}, {channel}', width)}</td>"
        body += "</tr>"
    cells_word = "the same cell" if count == 1 else f"the same {count} cells"
    merged = "; dots mark the colour of a channel in the merged picture" if len(channels) > 1 else ""
    return (
        "<h2>Example cells</h2>\n"
        f'<p class="quiet">In a row, every column shows {cells_word}{merged}. Black and white mean the same intensity in all rows, '
        "so brightness can be compared.</p>\n"
        f'<div class="scroll"><table class="cells"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _map(data: ReportData) -> str:
    if data.feature_map is None or not len(data.feature_map.rows):
        return ""
    method, note = data.feature_map.method, data.feature_map.note
    what = "the axes are the two directions of largest variation"
    if method == "UMAP":
        what = "neighbours look alike to the network, and distances between islands mean little"
    html = (
        "<h2>Map of the features</h2>\n"
        + _plot(
            map_by_class(data.feature_map, data.labels),
            "png",
            f"{method} of the features coloured by class",
            f"{method} of the trained features: a dot is a cell, {what}. {note}".strip(),
            wide=True,
        )
        + "\n<h3>Class by class</h3>\n"
        + _plot(map_class_by_class(data.feature_map, data.labels), "png", f"{method}, one panel for each class", "", wide=True)
    )
    if data.groups is not None:
        html += f"\n<h3>By {escape(data.group_name)}</h3>\n" + _plot(
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
        plot = _plot(
            confusion_figure(result.pooled),
            "svg+xml",
            f"Confusion matrix, {result.name}",
            caption,
            width=width,
            narrowest=300 + 16 * len(result.classes),
        )
        html += plot if place == 0 else f"<details><summary>The same with the {escape(result.name)}</summary>{plot}</details>\n"
    return html


def _training(data: ReportData) -> str:
    if summarize_loss(data.loss) is None:
        return ""
    caption = "Lower means that the student predicts the teacher better; a curve that stays on the dashed line has learned nothing."
    if data.plateau is None:
        caption = "Lower means that the student predicts the teacher better."
    return "<h2>Training</h2>\n" + _plot(loss_curve(data.loss, data.plateau), "svg+xml", "Loss over the epochs", caption, wide=True)


def _origin(data: ReportData) -> str:
    rows = "".join(f"<tr><td>{escape(what)}</td><td><code>{escape(where)}</code></td></tr>" for what, where in data.artifacts.items())
    settings = f"<details><summary>Settings</summary><pre>{escape(data.settings)}</pre></details>" if data.settings else ""
    if not rows and not settings:
        return ""
    return "<h2>Where things are</h2>\n" + (f'<div class="scroll"><table class="where">{rows}</table></div>\n' if rows else "") + settings


def _plot(
    picture: bytes, kind: str, alternative: str, caption: str, *, wide: bool = False, width: int | None = None, narrowest: int = 0
) -> str:
    style = f' style="max-width:{width}px; min-width:{min(width, narrowest)}px"' if width else ""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure class="plot{" wide" if wide else ""}"><div class="scroll"><img{style} src="{_data_url(picture, kind)}" '
        f'alt="{escape(alternative)}"></div>{below}</figure>'
    )


def _image(picture: bytes, kind: str, alternative: str, width: int) -> str:
    return f'<img src="{_data_url(picture, kind)}" alt="{escape(alternative)}" width="{width}">'


def _data_url(picture: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(picture).decode('ascii')}"
