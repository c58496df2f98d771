"""Kubernetes' quantities: `500m` cores, `8Gi` bytes."""

from __future__ import annotations

import re
from typing import Final

_SUFFIXES: Final = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:([a-zA-Z]{0,2})|[eE]([-+]?\d{1,2}))")


def parse_quantity(text: str) -> float | None:
    """The number that a quantity stands for, or None where it is none (or negative, which no resource can be).

    Example:
        >>> parse_quantity("500m"), parse_quantity("2Gi")
        (0.5, 2147483648.0)
    """
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        return None
    number, suffix, exponent = match.groups()
    if exponent is not None:
        return float(f"{number}e{exponent}")
    return float(number) * _SUFFIXES[suffix] if suffix in _SUFFIXES else None


def cores(text: str) -> float:
    """Cores of a quantity that was checked."""
    number = parse_quantity(text)
    if number is None:
        raise ValueError(f"{text!r} is no quantity")
    return number
