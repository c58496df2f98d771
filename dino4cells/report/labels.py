"""Which columns of a table are worth a colour: classes such as the protein's location, and groups such as plates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

CLASSES = (
    "protein_location", "cell_type", "target", "treatment", "compound", "moa", "perturbation", "gene", "phenotype", "class", "label",
)  # fmt: skip
GROUPS = ("plate", "batch", "donor", "experiment", "week", "replicate", "well")
OTHER_COLUMNS = 2  # taken where no column has one of the names
MOST_VALUES = 35  # told apart by colour and shape
EMPTY = "(empty)"
NOT_JUDGED = "(not judged)"
NO_VALUES = (EMPTY, NOT_JUDGED)
"""What stands where there is no value: never among the colours of those that there are."""


@dataclass(frozen=True)
class LabelColumn:
    """A column whose values are told apart.

    Attributes:
        name: As the table has it.
        values: (N,) str, one a cell; the rarest may be put together.
        is_group: Whether its values are circumstances, such as plates, that features had better not depend on.
        distinct: Number of different values before the rarest were put together.
        rest: What the rarest are called together, or None.
    """

    name: str
    values: np.ndarray
    is_group: bool
    distinct: int
    rest: str | None = None


def label_columns(frame: pd.DataFrame, *, most: int = 3) -> list[LabelColumn]:
    """The columns to colour by, at most `most`: those with a usual name, classes first and at most two of them where groups follow;
    where there are none, other columns of text with a few values each.

    A column of a single value is kept only where it is the first, as one that says what all cells are.
    """
    by_name = {str(column).lower(): str(column) for column in reversed(frame.columns)}
    classes = _telling(frame, [by_name[name] for name in CLASSES if name in by_name])
    groups = _telling(frame, [by_name[name] for name in GROUPS if name in by_name])
    if not classes and not groups:
        return [_column(frame, name, is_group=False) for name in _with_few_values(frame)[:OTHER_COLUMNS]]
    classes = classes[: most - 1] if groups else classes[:most]
    return [_column(frame, name, is_group=False) for name in classes] + [
        _column(frame, name, is_group=True) for name in groups[: most - len(classes)]
    ]


def _telling(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Those with more than one value; the first one where there is none, if it has any."""
    several = [name for name in names if frame[name].nunique() > 1]
    return several or [name for name in names if frame[name].notna().any()][:1]


def _with_few_values(frame: pd.DataFrame) -> list[str]:
    """Columns of text whose values repeat, the fewest values first; not the reasons of failures."""
    found = []
    for name in frame.columns:
        if str(name).startswith("dino_") or pd.api.types.is_numeric_dtype(frame[name]):
            continue
        distinct = frame[name].nunique()
        if 2 <= distinct <= min(10 * MOST_VALUES, len(frame) // 2):
            found.append((distinct, name))
    return [name for _, name in sorted(found, key=lambda pair: pair[0])]


def _column(frame: pd.DataFrame, name: str, *, is_group: bool) -> LabelColumn:
    text = frame[name].astype(object).where(frame[name].notna(), EMPTY).astype(str).str.strip().replace("", EMPTY)
    counts, rest = text.value_counts(), None
    if not is_group and len(counts) > MOST_VALUES:
        kept = set(sorted(counts.index, key=lambda value: (-counts[value], value))[: MOST_VALUES - 1])
        rest = f"({len(counts) - len(kept):,} others)"
        text = text.where(text.isin(kept), rest)
    return LabelColumn(str(name), text.to_numpy(dtype=str), is_group, len(counts), rest)


def by_number(name: str) -> list[tuple[int, str]]:
    """Sorting key under which "Week9" comes before "Week10"."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]
