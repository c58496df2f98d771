"""The map of the features as PNG (thousands of dots would make an SVG heavy): by class, class by class, by group."""

from __future__ import annotations

import math

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from dino4cells.report.data import FeatureMap
from dino4cells.report.figures import FAINT, INK, QUIET, new_figure, save, shorten
from dino4cells.report.labels import by_number
from dino4cells.report.palette import COLOURS, class_style

PALE = "#d5d9de"


def map_by_class(feature_map: FeatureMap, labels: np.ndarray, rest: str | None = None) -> bytes:
    """PNG of all cells, a colour and shape for each class, with a legend.

    Args:
        feature_map: M cells in the plane.
        labels: (N,) str, of all cells.
        rest: One of the labels, of cells of no class worth a colour: pale, and below all others.
    """
    classes = _classes(labels, rest)
    drawn = np.asarray(labels)[feature_map.rows]
    figure = new_figure(9.0, max(5.4, 0.21 * len(classes) + 0.6))
    axes = figure.subplots()
    _bare(axes)
    beneath = feature_map.xy[drawn == rest]
    axes.scatter(beneath[:, 0], beneath[:, 1], s=_dot(len(drawn)), c=PALE, linewidths=0)
    # Classes are drawn in one shuffled order, cell by cell in batches: none hides another only because its name comes last.
    order = np.random.default_rng(0).permutation(np.flatnonzero(drawn != rest))
    for batch in np.array_split(order, max(1, min(20, len(order)))):
        for index, name in enumerate(classes):
            members = batch[drawn[batch] == name]
            colour, marker = class_style(index)
            axes.scatter(
                feature_map.xy[members][:, 0],
                feature_map.xy[members][:, 1],
                s=_dot(len(drawn)),
                c=colour,
                marker=marker,
                alpha=0.75,
                linewidths=0,
            )
    entries = []
    for index, name in enumerate(classes):
        colour, marker = class_style(index)
        label = f"{shorten(name, 30)} ({np.sum(labels == name):,})"
        entries.append(Line2D([], [], linestyle="", marker=marker, color=colour, markersize=7, markeredgewidth=0, label=label))
    if rest is not None:
        label = f"{shorten(rest, 30)} ({np.sum(labels == rest):,})"
        entries.append(Line2D([], [], linestyle="", marker="o", color=PALE, markersize=7, markeredgewidth=0, label=label))
    figure.legend(handles=entries, loc="outside right upper", frameon=False, fontsize=9.5, labelcolor=INK, handletextpad=0.2)
    return save(figure, "png")


def map_class_by_class(feature_map: FeatureMap, labels: np.ndarray, rest: str | None = None) -> bytes:
    """PNG of one small map for each class but `rest`, its cells on top of all others in grey: readable for any number of classes and any
    eyes."""
    classes = _classes(labels, rest)
    drawn = np.asarray(labels)[feature_map.rows]
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
        axes.scatter(feature_map.xy[~mine][:, 0], feature_map.xy[~mine][:, 1], s=_dot(len(drawn)) / 3, c=PALE, linewidths=0)
        axes.scatter(feature_map.xy[mine][:, 0], feature_map.xy[mine][:, 1], s=_dot(len(drawn)) / 1.6, c=COLOURS[0], linewidths=0)
        axes.set_title(f"{shorten(classes[index], 26)}", fontsize=8.5, color=INK, pad=3)
    return save(figure, "png")


def map_by_group(feature_map: FeatureMap, groups: np.ndarray, group_name: str) -> bytes:
    """PNG of the cells coloured by plate, donor or well: islands of one colour are a batch effect.

    Up to seven groups get a legend; more are coloured along a scale in the order of their names, so that neighbours by name look alike.
    """
    names = sorted((str(name) for name in np.unique(groups)), key=by_number)
    drawn = np.asarray(groups)[feature_map.rows]
    place = {name: index for index, name in enumerate(names)}
    codes = np.asarray([place[str(name)] for name in drawn])
    order = np.random.default_rng(0).permutation(len(drawn))
    figure = new_figure(6.2, 4.2)
    axes = figure.subplots()
    _bare(axes)
    xy = feature_map.xy[order]
    if len(names) <= len(COLOURS):
        palette = np.asarray(COLOURS)
        axes.scatter(xy[:, 0], xy[:, 1], s=_dot(len(drawn)) * 0.7, c=palette[codes[order]].tolist(), alpha=0.75, linewidths=0)
        entries = [
            Line2D([], [], linestyle="", marker="o", color=COLOURS[index], markersize=7, markeredgewidth=0, label=shorten(name))
            for index, name in enumerate(names)
        ]
        figure.legend(
            handles=entries, title=shorten(group_name), alignment="left", loc="outside right upper", frameon=False, fontsize=9.5,
            labelcolor=INK, handletextpad=0.2,
        )  # fmt: skip
    else:
        cloud = axes.scatter(
            xy[:, 0], xy[:, 1], s=_dot(len(drawn)) * 0.7, c=codes[order], cmap=colormaps["viridis"], alpha=0.8, linewidths=0
        )
        bar = figure.colorbar(cloud, ax=axes, shrink=0.6, aspect=22, ticks=[0, len(names) - 1])
        bar.ax.set_yticklabels([shorten(names[0]), shorten(names[-1])], fontsize=9, color=INK)
        bar.set_label(f"{len(names)} values of {shorten(group_name)}, by name", color=QUIET, fontsize=9, labelpad=-20)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)
    return save(figure, "png")


def _classes(labels: np.ndarray, rest: str | None) -> list[str]:
    return sorted((str(name) for name in np.unique(labels) if name != rest), key=by_number)


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
