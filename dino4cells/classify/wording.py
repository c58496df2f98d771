"""How scores of a `metrics.json` are written for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def beside(value: float, interval: Sequence[float] | None, separator: str = " ") -> str:
    """A score and its interval, such as `0.826 [0.81, 0.84]`."""
    return f"{value:.3f}{separator}[{interval[0]:.2f}, {interval[1]:.2f}]" if interval else f"{value:.3f}"


def compared(name: str, difference: Mapping[str, Any]) -> str:
    """By how much something is better than a baseline, such as `better than guessing by 0.120 [0.08, 0.16]`."""
    value, (low, high) = difference["value"], difference["interval"]
    if value < 0:
        return f"worse than {name} by {beside(-value, (-high, -low))}"
    return f"better than {name} by {beside(value, (low, high))}"
