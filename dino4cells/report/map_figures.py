"""The map of the features class by class, for paper, and for eyes that tell few colours: an SVG whose dots are pixels, since thousands of
dots are heavy, and whose names are text."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes

from dino4cells.report.figures import FAINT, INK, new_figure, save, shorten
from dino4cells.report.labels import by_number
from dino4cells.report.palette import COLOURS, PALE
from dino4cells.report.projection import FeatureMap

MOST_PANELS = 60
MOST_DOTS = 20_000  # of a panel


def map_class_by_class(feature_map: FeatureMap, labels: np.ndarray, rest: str | None = None) -> bytes:
    """SVG of one small map for each class but `rest`, its cells on top of all others in grey; of the 60 largest where there are more.

    Args:
        feature_map: M cells in the plane.
        labels: (N,) str, of all cells.
        rest: one of the labels, of cells of no class worth a panel.
    """
    classes = _classes(labels, rest)
    rows_drawn = feature_map.rows[:MOST_DOTS]
    drawn, xy = np.asarray(labels)[rows_drawn], feature_map.xy[:MOST_DOTS]
    columns = min(5, max(3, len(classes)))
    rows = math.ceil(len(classes) / columns)
    figure = new_figure(9.0, 1.95 * rows * 5 / columns)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for index, axes in enumerate(panels):
        if index >= len(classes):
            axes.set_axis_off()
            continue
        _bare(axes)
        mine = drawn == classes[index]
        axes.scatter(xy[~mine][:, 0], xy[~mine][:, 1], s=_dot(len(drawn)) / 3, c=PALE, linewidths=0, rasterized=True)
        axes.scatter(xy[mine][:, 0], xy[mine][:, 1], s=_dot(len(drawn)) / 1.6, c=COLOURS[0], linewidths=0, rasterized=True)
        axes.set_title(f"{shorten(classes[index], 26)}", fontsize=8.5, color=INK, pad=3)
    return save(figure, "svg", dpi=110)


def _classes(labels: np.ndarray, rest: str | None) -> list[str]:
    names, counts = np.unique(labels[labels != rest] if rest is not None else labels, return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")[:MOST_PANELS]]
    return sorted((str(name) for name in largest), key=by_number)


def _bare(axes: Axes) -> None:
    """The axes of a map mean nothing: no ticks, only a frame."""
    axes.patch.set_alpha(0.0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(FAINT)
    axes.margins(0.03)


def _dot(cells: int) -> float:
    """Area of a dot (points squared) that neither drowns few cells nor blots many."""
    return float(np.clip(26_000 / max(cells, 1), 7, 45))
