"""Bars and matrices as SVG, and what all pictures share. Functions take plain data and return the bytes of a file; nothing is kept."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from io import BytesIO

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from dino4cells.classify import Classifier, CrossValidation, Scores
from dino4cells.classify.batch_effect import BatchEffect
from dino4cells.report.data import FEATURE_NAMES
from dino4cells.report.labels import by_number
from dino4cells.report.palette import COLOURS, luminance
from dino4cells.report.text import visible

INK, QUIET, FAINT, BASELINE = "#222222", "#666666", "#d9d9d9", "#87929e"
LONGEST_NAME = 26
EQUAL_CONTRAST = 0.18  # luminance on which black and white are read equally well
FEW_CLASSES = 15  # of which a matrix fits a page


def new_figure(width: float, height: float, *, fitted: bool = True) -> Figure:
    """A transparent figure (inches) that belongs to no window and no global state; fitted: all that is written lies within it."""
    figure = Figure(figsize=(width, height), layout="constrained" if fitted else None)
    figure.patch.set_alpha(0.0)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, kind: str, dpi: int = 170, *, trim: bool = False) -> bytes:
    """The file's bytes, the same for the same figure: no date, no random identifiers.

    Text in an SVG stays text: a browser has letters of every script, where matplotlib's own font has boxes.
    """
    buffer = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "dino4cells", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata, bbox_inches="tight" if trim else None, pad_inches=0.05)
    return buffer.getvalue()


def width_of_svg(picture: bytes) -> float:
    """In points."""
    found = re.search(rb'<svg [^>]*?\bwidth="([0-9.]+)pt"', picture)
    assert found is not None
    return float(found[1])


def quiet_axes(axes: Axes, grid: str | None = None) -> None:
    """Lines only where they help to read a value."""
    axes.patch.set_alpha(0.0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=QUIET, labelsize=9, length=0, pad=4)
    if grid:
        axes.grid(axis=grid, color=FAINT, linewidth=0.6, alpha=0.7)  # type: ignore[arg-type]
        axes.set_axisbelow(True)


def shorten(name: str, longest: int = LONGEST_NAME) -> str:
    """A name that fits an axis, with its beginning and its end, and that matplotlib does not take for a formula."""
    shown = visible(name)
    if len(shown) > longest:
        tail = (longest - 1) // 3
        shown = f"{shown[: longest - 1 - tail].rstrip()}…{shown[-tail:].lstrip()}"
    return shown.replace("$", r"\$")


def confusion_figure(scores: Scores) -> bytes:
    """SVG: rows are true classes, columns predictions; numbers are cells, colour is the share of the row."""
    order = sorted(range(len(scores.classes)), key=lambda place: by_number(scores.classes[place]))
    counts = np.asarray(scores.confusion, dtype=np.int64)[np.ix_(order, order)]
    totals = counts.sum(axis=1)
    share = counts / np.maximum(totals, 1)[:, None]
    size = len(counts)
    cell, letters = (0.46, 9.5) if size <= FEW_CLASSES else (0.36, 9.0)
    figure = new_figure(cell * size, cell * size, fitted=False)  # names stand outside, and are cut off nowhere
    axes = figure.add_axes((0, 0, 1, 1))
    axes.patch.set_alpha(0.0)
    # Marine to white is read by every kind of colour vision, and in print.
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    for row, column in np.argwhere(counts > 0):
        weight = "bold" if row == column else "normal"
        axes.text(
            column,
            row,
            f"{counts[row, column]}",
            ha="center",
            va="center",
            fontsize=letters - (1.5 if counts[row, column] > 999 else 0) - (1.5 if counts[row, column] > 9999 else 0),
            color="black" if luminance(picture.cmap(share[row, column])[:3]) > EQUAL_CONTRAST else "white",
            fontweight=weight,
        )
    names = [shorten(scores.classes[place]) for place in order]
    axes.set_xticks(range(size), names, rotation=45, ha="left", rotation_mode="anchor", fontsize=letters, color=INK)
    axes.set_yticks(range(size), [f"{name}  ({total:,})" for name, total in zip(names, totals, strict=True)], fontsize=letters, color=INK)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=3)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("true class (cells)", color=QUIET, fontsize=letters)
    axes.set_xlabel("predicted class", color=QUIET, fontsize=letters)
    axes.xaxis.set_label_position("bottom")
    if size > FEW_CLASSES:
        return save(figure, "svg", trim=True)  # the numbers say what the colour says
    tall = max(size, 5)  # cells
    beside = figure.add_axes((1 + 0.5 / size, (size - tall) / size, 0.3 / size, tall / size))
    bar = figure.colorbar(picture, cax=beside, format=FuncFormatter(lambda value, _: f"{value:.0%}"))
    bar.set_label("share of the true class", color=QUIET, fontsize=letters)
    bar.ax.tick_params(length=0, labelsize=letters - 1, colors=QUIET)
    bar.outline.set_visible(False)
    return save(figure, "svg", trim=True)


def scores_figure(results: Mapping[str, Mapping[Classifier, CrossValidation]]) -> bytes:
    """SVG: a bar for each feature set and classifier, a dot for each fold, a dashed line where guessing the largest class gets."""
    features = list(results)
    first = next(iter(next(iter(results.values())).values()))
    classifiers = list(dict.fromkeys(name for of_features in results.values() for name in of_features))
    members = np.asarray(first.pooled.confusion).sum(axis=1)
    panels = [
        ("accuracy", "accuracy (share of cells)", float(members.max() / members.sum())),
        ("balanced_accuracy", "balanced accuracy (mean over classes)", 1.0 / max(1, int(np.sum(members > 0)))),
    ]
    figure = new_figure(9.0, 0.75 + 0.27 * len(features) * len(classifiers) + 0.25 * len(classifiers))
    all_axes = figure.subplots(1, len(panels), sharey=True)
    for axes, (field, title, chance) in zip(all_axes, panels, strict=True):
        quiet_axes(axes, "x")
        ticks, names = [], []
        place = 0.0
        for classifier in classifiers:
            for index, name in enumerate(features):
                result = results[name].get(classifier)
                if result is None:
                    continue
                value = getattr(result.pooled, field)
                folds = [getattr(scores, field) for scores in result.fold_scores]
                colour = COLOURS[0] if index == 0 else BASELINE
                axes.barh(place, value, height=0.74, color=colour)
                interval = result.pooled.intervals.get(field)
                if interval:
                    axes.plot(interval, [place, place], color=INK, linewidth=1.4, solid_capstyle="butt")
                axes.plot(folds, [place] * len(folds), "o", markersize=3.2, color=INK, alpha=0.55, markeredgewidth=0)
                weight = "bold" if index == 0 else "normal"
                axes.text(
                    max(value, *folds, *(interval or ()), 0.0) + 0.035,
                    place,
                    f"{value:.2f}",
                    va="center",
                    fontsize=9,
                    color=INK,
                    fontweight=weight,
                )
                ticks.append(place)
                names.append(f"{FEATURE_NAMES.get(name, shorten(name))} · {result.name.removesuffix(' (cosine)')}")
                place += 1.0
            place += 0.6
        axes.axvline(chance, color=COLOURS[1], linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_xlim(0, 1.08)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "0.25", "0.5", "0.75", "1"])
        axes.set_yticks(ticks, names, color=INK)
        axes.set_title(title, fontsize=10, color=INK, loc="left")
        axes.spines["left"].set_visible(False)
    all_axes[0].invert_yaxis()
    return save(figure, "svg")


def batch_figure(batch: BatchEffect, class_scores: Mapping[str, float], class_chance: float) -> bytes:
    """SVG: beside each other how well the class is told (the more the better) and how well the group is (the less the better)."""
    figure = new_figure(9.0, 0.95 + 0.3 * len(batch.scores))
    panels: list[tuple[str, Mapping[str, float], float, float | None]] = [
        ("class (more is better)", class_scores, class_chance, None),
        (f"{shorten(batch.group_name)} (less is better)", batch.scores, batch.chance, batch.by_class),
    ]
    for place, (axes, (title, scores, chance, by_class)) in enumerate(zip(figure.subplots(1, 2, sharey=True), panels, strict=True)):
        quiet_axes(axes, "x")
        names = [name for name in batch.scores if name in scores]
        for row, name in enumerate(names):
            axes.barh(row, scores[name], height=0.72, color=(COLOURS[0], COLOURS[4])[place] if row == 0 else BASELINE)
            lines = [line for line in (chance, by_class) if line is not None and -0.02 < line - scores[name] < 0.11]
            beside = max([scores[name], *lines]) + 0.02  # no line through the number
            axes.text(beside, row, f"{scores[name]:.2f}", va="center", fontsize=9, color=INK, fontweight="normal" if row else "bold")
        axes.axvline(chance, color=COLOURS[1], linewidth=1.2, linestyle=(0, (4, 3)))
        if by_class is not None:
            axes.axvline(by_class, color=INK, linewidth=1.2, linestyle=(0, (1, 2)))
        axes.set_xlim(0, 1.12)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "0.25", "0.5", "0.75", "1"])
        axes.set_yticks(range(len(names)), [FEATURE_NAMES.get(name, shorten(name)) for name in names], color=INK)
        axes.set_title(title, fontsize=10, color=INK, loc="left")
        axes.spines["left"].set_visible(False)
        if place == 0:
            axes.invert_yaxis()
    return save(figure, "svg")
