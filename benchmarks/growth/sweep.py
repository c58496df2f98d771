"""A sweep: one number made larger, what it costs, and how fast that grows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from benchmarks.measuring import Row

ROUNDS, SECONDS = 5, 4.0


@dataclass(frozen=True)
class Sweep:
    """Cost over size.

    Attributes:
        work: what is done.
        over: what is made larger, as an axis is labelled.
        unit: of `costs`.
        sizes, costs: the measurements, from small to large.
        explained: the largest exponent that the algorithm explains: 1 where the cost may be proportional to the size.
        note: why, where it is not 1.
    """

    work: str
    over: str
    unit: str
    sizes: Sequence[float] = field(repr=False)
    costs: Sequence[float] = field(repr=False)
    explained: float = 1.0
    note: str = ""

    @property
    def upper_half(self) -> slice:
        """The larger half of the sizes, at least two: where what does not depend on the size counts least."""
        return slice(min(len(self.sizes) // 2, len(self.sizes) - 2), None)

    @property
    def exponent(self) -> float:
        """Slope of log cost over log size in the upper half, by least squares."""
        return exponent(self.sizes[self.upper_half], self.costs[self.upper_half])

    def rows(self) -> list[Row]:
        """As lines of results.json: the exponent, in the place of a reference what is explained, and the cost of the largest size."""
        work = f"growth: {self.work}"
        return [
            Row(f"{work} over {self.over}", self.explained, self.exponent, "exponent", None, note=self.note),
            Row(f"{work}, {self.sizes[-1]:,.0f} {self.over}", None, self.costs[-1], self.unit, None),
        ]


@contextmanager
def one_core() -> Iterator[None]:
    """Tensor operations by one thread, so that CPU time is what a core needs, whatever else runs on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cpu_seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """CPU time of a call by one core: after one to warm up, the least of `rounds` rounds, of fewer where they take long."""
    with one_core():
        work()
        taken: list[float] = []
        while len(taken) < rounds and sum(taken) < SECONDS:
            started = time.process_time()
            work()
            taken.append(time.process_time() - started)
    return min(taken)


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of log cost over log size, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def table(sweeps: Sequence[Sweep]) -> str:
    """A table in Markdown: both ends of each sweep, its exponent and the explained one."""
    lines = [
        "| what | over | from | to | cost, from | to | exponent | explained | |",
        "| --- | --- | --: | --: | --: | --: | --: | --: | --- |",
    ]
    for sweep in sweeps:
        ends = [f"{sweep.sizes[place]:,.0f}" for place in (0, -1)]
        costs = [f"{_short(sweep.costs[0])}", f"{_short(sweep.costs[-1])} {sweep.unit}"]
        cells = [sweep.work, sweep.over, *ends, *costs, f"{sweep.exponent:.2f}", f"≤ {sweep.explained:.2f}", sweep.note]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _short(value: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{digits}f}"
