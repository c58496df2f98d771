"""Training over time as SVG: the loss, the values that follow a schedule, the speed.

A record is one logged step: "samples" seen, "epoch", "loss", and, where known, "lr", "weight_decay", "momentum", "teacher_temp",
"images_per_second" and "data_wait" (a share of the time). What is missing or not finite is not drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from dino4cells.report.figures import INK, new_figure, quiet_axes, save
from dino4cells.report.palette import COLOURS

Records = Sequence[Mapping[str, float]]

SCHEDULES = {"lr": "learning rate", "weight_decay": "weight decay", "momentum": "teacher momentum", "teacher_temp": "teacher temperature"}
FEW = 25  # points that are marked one by one
SMOOTHED_FROM = 40  # points that a running mean is worth


def loss_caption(plateau: float | None) -> str:
    """What a curve of the loss says, for those who do not train networks every day."""
    rule = "" if plateau is None else "; a curve that stays on the dashed line has learned nothing"
    return f"Lower: from one view of a cell the network tells better what it sees in another{rule}."


def loss_curve(records: Records, plateau: float | None = None, *, speed: bool = True) -> bytes:
    """SVG of the loss, and below it of the speed, over the epochs.

    Args:
        records: Logged steps.
        plateau: Loss of uniform outputs, ln(out_dim): as long as the curve lies there, nothing has been learned.
        speed: Whether to draw the speed, where it was logged.
    """
    rates = _series(records if speed else (), "images_per_second")
    figure = new_figure(9.0, 3.9 if len(rates) else 2.9)
    rows = figure.subplots(2 if len(rates) else 1, 1, sharex=True, squeeze=False, height_ratios=[3, 1] if len(rates) else [1])[:, 0]
    _draw_loss(rows[0], _series(records, "loss"), plateau)
    if len(rates):
        _draw_speed(rows[1], rates)
    samples = records[-1].get("samples") if records else None
    rows[-1].set_xlabel("epoch" if samples is None else f"epoch ({samples:,.0f} images seen at the end)", color=INK)
    return save(figure, "svg")


def loss_over_images(records: Records, plateau: float | None = None) -> bytes:
    """SVG of the loss alone over the images seen; arguments as of `loss_curve`."""
    figure = new_figure(9.0, 3.3)
    axes = figure.subplots()
    _draw_loss(axes, _series(records, "loss", over="samples"), plateau)
    _images_seen(axes, records)
    return save(figure, "svg")


def schedule_curves(records: Records) -> bytes | None:
    """SVG of a small curve for each value that follows a schedule, over the images seen; None where none was logged."""
    curves = {name: _series(records, key, over="samples") for key, name in SCHEDULES.items()}
    curves = {name: curve for name, curve in curves.items() if len(curve)}
    if not curves:
        return None
    figure = new_figure(9.0, 1.9)
    for axes, (name, curve) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        quiet_axes(axes, "y")
        axes.plot(curve[:, 0], curve[:, 1], color=COLOURS[0], linewidth=1.8, marker="o" if len(curve) == 1 else "", markersize=4)
        axes.set_title(name, fontsize=9.5, color=INK, loc="left")
        low, high = float(curve[:, 1].min()), float(curve[:, 1].max())
        if high - low <= 1e-6 * abs(high):  # else rounding errors would fill the picture
            axes.set_ylim(sorted((0.0, 1.3 * high)) if high else (-1.0, 1.0))
            axes.set_yticks([0.0, high] if high else [0.0])
        else:
            axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
        _images_seen(axes, records, ticks=3, label="")
    figure.supxlabel("images seen", fontsize=9, color=INK)
    return save(figure, "svg")


def speed_curve(records: Records) -> bytes | None:
    """SVG of the images per second and, where known, of the share of waiting for images, over the images seen; None without a speed."""
    speed, waiting = (_series(records, key, over="samples") for key in ("images_per_second", "data_wait"))
    if not len(speed):
        return None
    figure = new_figure(9.0, 2.9 if len(waiting) else 1.7)
    rows = figure.subplots(2 if len(waiting) else 1, 1, sharex=True, squeeze=False)[:, 0]
    _draw_speed(rows[0], speed)
    if len(waiting):
        _draw_waiting(rows[1], waiting)
    _images_seen(rows[-1], records)
    return save(figure, "svg")


def _draw_loss(axes: Axes, loss: np.ndarray, plateau: float | None) -> None:
    quiet_axes(axes, "y")
    if len(loss) >= SMOOTHED_FROM:
        axes.plot(loss[:, 0], loss[:, 1], color=COLOURS[0], linewidth=0.7, alpha=0.35)
        axes.plot(loss[:, 0], _smooth(loss[:, 1]), color=COLOURS[0], linewidth=2.0, label="loss (running mean)")
    else:
        marker = "o" if len(loss) < FEW else ""
        axes.plot(loss[:, 0], loss[:, 1], color=COLOURS[0], linewidth=2.0, marker=marker, markersize=4, label="loss")
    if plateau is not None:
        axes.axhline(plateau, color=COLOURS[1], linewidth=1.2, linestyle=(0, (4, 3)), label=f"nothing learned: ln(out_dim) = {plateau:.2f}")
    axes.set_ylabel("DINO loss", color=INK)
    axes.margins(x=0.01, y=0.1)
    if len(loss) or plateau is not None:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best")


def _draw_speed(axes: Axes, speed: np.ndarray) -> None:
    quiet_axes(axes, "y")
    axes.plot(speed[:, 0], speed[:, 1], color=COLOURS[2], linewidth=1.4, marker="o" if len(speed) < FEW else "", markersize=3)
    axes.set_ylim(0, 1.15 * max(float(speed[:, 1].max()), 1e-9))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.set_ylabel("images/s", color=INK)


def _draw_waiting(axes: Axes, waiting: np.ndarray) -> None:
    quiet_axes(axes, "y")
    axes.fill_between(waiting[:, 0], 100 * waiting[:, 1], color=COLOURS[1], alpha=0.3, linewidth=0)
    axes.plot(waiting[:, 0], 100 * waiting[:, 1], color=COLOURS[1], linewidth=1.4, marker="o" if len(waiting) < FEW else "", markersize=3)
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 50, 100])
    axes.set_ylabel("waiting, %", color=INK)


def _images_seen(axes: Axes, records: Records, *, ticks: int = 8, label: str = "images seen") -> None:
    """An axis from the first image to the last: the same for all pictures of a run."""
    last = max((record["samples"] for record in records if math.isfinite(record.get("samples", math.nan))), default=0.0)
    axes.set_xlim(0, 1.02 * max(last, 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel(label, color=INK)


def _series(records: Records, key: str, over: str = "epoch") -> np.ndarray:
    """(M, 2) position and value where both are there and finite."""
    pairs = [(record.get(over, math.nan), record.get(key, math.nan)) for record in records]
    series = np.asarray(pairs, dtype=np.float64).reshape(-1, 2)
    return series[np.isfinite(series).all(axis=1)]


def _smooth(values: np.ndarray) -> np.ndarray:
    """Mean over a window of a twentieth of the curve, narrower at both ends so that the ends are not bent."""
    half = max(1, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    reach = np.minimum(half, np.minimum(places, len(values) - 1 - places))
    return np.asarray((sums[places + reach + 1] - sums[places - reach]) / (2 * reach + 1))
