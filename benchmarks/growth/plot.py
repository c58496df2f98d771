"""The sweeps as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

from benchmarks.growth.sweep import Sweep
from dino4cells.report.figures import INK, QUIET, new_figure, quiet_axes, save
from dino4cells.report.palette import COLOURS

COLUMNS = 4


def picture(sweeps: Sequence[Sweep]) -> bytes:
    """SVG of a double-logarithmic panel for each sweep: what was measured, its slope, and the steepest that is explained."""
    rows = -(-len(sweeps) // COLUMNS)
    figure = new_figure(3.1 * COLUMNS, 2.6 * rows)
    figure.patch.set(facecolor="white", alpha=1.0)  # it is looked at in pages of either colour
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for axes, sweep in zip(panels, sweeps, strict=False):
        _panel(axes, sweep)
    for axes in panels[len(sweeps) :]:
        axes.remove()
    return save(figure, "svg")


def _panel(axes: Axes, sweep: Sweep) -> None:
    quiet_axes(axes, "both")
    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes, costs = np.asarray(sweep.sizes, float), np.asarray(sweep.costs, float)
    upper = sizes[sweep.upper_half]
    middle, level = np.exp(np.log(upper).mean()), np.exp(np.log(costs[sweep.upper_half]).mean())
    axes.plot(upper, level * (upper / middle) ** sweep.explained, color=COLOURS[1], linewidth=1.4, linestyle=(0, (4, 3)))
    axes.plot(sizes, costs, color=COLOURS[0], linewidth=1.6, marker="o", markersize=4)
    axes.set_title(sweep.work, fontsize=9, color=INK, loc="left", wrap=True)
    axes.set_xlabel(sweep.over, fontsize=9, color=INK)
    axes.set_ylabel(sweep.unit, fontsize=9, color=INK)
    axes.set_xticks(sizes[:: max(1, len(sizes) // 2)])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if costs.max() < 30 * costs.min() else (1,), numticks=8))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_short))
    axes.minorticks_off()
    found = f"exponent {sweep.exponent:.2f}".replace("-", "−")
    for height, colour, text in ((0.93, COLOURS[0], found), (0.81, COLOURS[1], f"explained ≤ {sweep.explained:.2f}")):
        axes.text(0.04, height, text, transform=axes.transAxes, fontsize=9, color=colour, va="top")
    low, high = costs.min(), costs.max()
    if high < 30 * low:  # so that flat curves look flat
        centre = np.sqrt(low * high)
        axes.set_ylim(centre / 8, centre * 8)
    axes.tick_params(labelcolor=QUIET)


def _short(value: float, place: int | None = None) -> str:
    for scale, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:.3g}"
