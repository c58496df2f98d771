"""A split that a column of the table gives: each cell says whether it trains, validates or tests."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dino4cells.classify.splits import LEFT_OUT, TRAINS, VALIDATES, Folds
from dino4cells.data.metadata import missing_column
from dino4cells.errors import DataError

TRAIN, VALID, TEST = PARTS = ("train", "valid", "test")
Parts = NDArray[np.str_]


def parts_in(frame: pd.DataFrame, column: str, source: str) -> Parts:
    """(N,) `train`, `valid` or `test`, as a column says in any case.

    Raises:
        DataError: the column is not there, or says something else of a cell.
    """
    if column not in frame:
        raise missing_column(source, column, "train, valid or test of each cell, named by --split", list(frame.columns))
    parts = frame[column].map(lambda value: "" if pd.isna(value) else str(value).strip().lower())
    other = ~parts.isin(PARTS)
    if other.any():
        row = int(other.to_numpy().argmax())
        more = f" (and {other.sum() - 1:,} more cells hold another)" if other.sum() > 1 else ""
        raise DataError(
            f"{source}, cell {row + 1}: the column '{column}' holds '{frame[column].iloc[row]}'{more} where train, valid or test is "
            "needed; correct it, or name another column by --split."
        )
    return parts.to_numpy(dtype=np.str_)


def given_folds(
    parts_N: Parts,
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    column: str = "split",
    label_name: str = "cell_type",
    group_name: str = "group",
) -> Folds:
    """One fold: what is fitted on the cells of `train` and `valid` is judged on those of `test`; without any, `train` and `valid`.

    A class that no cell trains is left out and named in `Folds.warnings`, as are groups on both sides.

    Args:
        parts_N: of every cell.
        labels: (N,) class of each cell.
        groups: (N,) group of each cell, to look for some that straddle.
        column, label_name, group_name: columns, for messages.

    Raises:
        DataError: no cell trains or none is left to judge, or those that train have one class.
    """
    names = np.asarray([str(name) for name in labels], dtype=np.str_)
    judging = TEST if (parts_N == TEST).any() else VALID
    trains_N, judged_N = parts_N == TRAIN, parts_N == judging
    for part, found in ((TRAIN, trains_N), (f"{TEST} or {VALID}", judged_N)):
        if not found.any():
            raise DataError(f"Column {column!r} says {part} of no cell: correct it, or leave the split out for folds.")
    fitted_N = trains_N | (~judged_N & (parts_N == VALID))
    if len(classes := np.unique(names[trains_N])) < 2:
        raise DataError(
            f"Column {column!r} lets cells of the single class {str(classes[0])!r} train, and a classifier needs two: correct it, or name "
            "another column of classes by --label."
        )
    assignment = np.where(judged_N, 0, np.where(trains_N, TRAINS, VALIDATES)).astype(np.int64)
    warnings, left_out = [], []
    for name in np.unique(names[judged_N]):
        members = names == name
        if not (fitted_N & members).any():
            left_out.append((str(name), int(members.sum())))
            assignment[members] = LEFT_OUT
            warnings.append(f"Class {str(name)!r} ({members.sum()} cells) has no cell that trains, and is not judged.")
    if not (assignment == 0).any():
        raise DataError(f"Column {column!r} lets no class both train and be judged: correct it, or name other classes by --label.")
    if groups is not None:
        shared = sorted({str(name) for name in groups[fitted_N]} & {str(name) for name in groups[judged_N]})
        if shared:
            warnings.append(
                f"{len(shared)} values of {group_name} (the first: {shared[0]!r}) are in {TRAIN} and in {judging}, so that the scores are "
                f"too good: let each be in one part of {column!r}."
            )
    counts = ", ".join(f"{(parts_N == part).sum():,} {part}" for part in PARTS if (parts_N == part).any())
    given = f"given by the column {column} ({counts}); judged on {judging}"
    return Folds(assignment, 1, group_name if groups is not None else None, tuple(left_out), tuple(warnings), given)
