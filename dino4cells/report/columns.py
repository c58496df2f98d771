"""The columns of a table as a page's scripts read them: values once and numbers for each cell, packed.

A column is a *category* (values, and for each cell which; the first `known` are values, the others say that there is none; `ordered` where
they are steps of a series), a *number*, or *text* (what hardly repeats, such as a file).
"""

from __future__ import annotations

from base64 import b64encode
from itertools import takewhile

import numpy as np
import pandas as pd

from dino4cells.report.labels import EMPTY, NO_VALUES, by_number

FEW_NUMBERS = 12
"""Whole numbers of so few values are names, such as those of plates; others are the steps of a series, such as doses."""
REPEATED = 4
"""Text is a category where a value has this many cells on average."""
CATEGORIES = 5000


def packed(values: np.ndarray) -> dict[str, str]:
    """An array of floats or unsigned integers for the page: `{"type": "Float32", "data": base64}`, little-endian."""
    array = np.ascontiguousarray(values)
    name = f"{'Float' if array.dtype.kind == 'f' else 'Uint'}{8 * array.dtype.itemsize}"
    return {"type": name, "data": b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode("ascii")}


def packed_columns(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Every column of a table, in its order."""
    return [{"name": str(name), **_column(frame.iloc[:, place])} for place, name in enumerate(frame.columns)]


def smallest(codes: np.ndarray, count: int) -> np.ndarray:
    """Numbers from 0 to count − 1 in as few bytes as they need."""
    return codes.astype(np.min_scalar_type(max(count - 1, 0)))


def _series(numbers: np.ndarray, steps: np.ndarray) -> dict[str, object]:
    """A category of few numbers that have an order, such as the doses of a series."""
    lacking = ~np.isfinite(numbers)
    codes = np.where(lacking, len(steps), np.searchsorted(steps, numbers))
    values = [f"{number:.7g}" for number in steps] + ([EMPTY] if lacking.any() else [])
    content = {"values": values, "known": len(steps), "ordered": True}
    return {"kind": "category", **content, "codes": packed(smallest(codes, len(values)))}


def _are_codes(values: pd.Series) -> bool:
    """Whether these are whole numbers too long for a script's numbers, such as bar codes: every digit counts."""
    return pd.api.types.is_integer_dtype(values) and bool((values.abs() > 2**53).any())


def _column(values: pd.Series) -> dict[str, object]:
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values) and not _are_codes(values):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        known = numbers[np.isfinite(numbers)]
        whole = bool((known == known.round()).all()) and bool((np.abs(known) < 2**53).all())
        steps = np.unique(known)
        if len(steps) > (FEW_NUMBERS if whole else min(FEW_NUMBERS, len(known) // REPEATED)):
            exact = whole and bool((np.abs(known) < 2**24).all())
            return {"kind": "number", "numbers": packed(numbers.astype(np.float32) if exact else numbers)}
        if not whole:
            return _series(numbers, steps)
        text = pd.Series([EMPTY if not np.isfinite(number) else str(int(number)) for number in numbers])
    else:
        text = values.astype(object).where(values.notna(), "").astype(str)
    distinct = text.nunique()
    if distinct > min(CATEGORIES, max(len(text) // REPEATED, 2)):
        first, last = text.min(), text.max()
        prefix = first[: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))]
        return {"kind": "text", "prefix": prefix, "texts": [cell[len(prefix) :] for cell in text]}
    codes, names = pd.factorize(text.str.strip().replace("", EMPTY))
    order = sorted(range(len(names)), key=lambda code: (names[code] in NO_VALUES, by_number(str(names[code]))))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    ordered = [str(names[code]) for code in order]
    known = sum(value not in NO_VALUES for value in ordered)
    return {"kind": "category", "values": ordered, "known": known, "codes": packed(smallest(place[codes], len(order)))}
