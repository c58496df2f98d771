"""Folds that keep class proportions and, if asked, never let a group (plate, donor, well) straddle training and test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

from dino4cells.errors import DataError

LEFT_OUT, TRAINS, VALIDATES = -1, -2, -3
"""Instead of a fold: a cell that nobody sees, and, of a split that is given, one that always trains, and one that also calibrates."""


@dataclass(frozen=True)
class Folds:
    """One split of N cells, to be shared by all features and classifiers that are compared.

    Attributes:
        assignment: (N,) int64, the fold that tests each cell, or -1 for a cell of a class that cannot be judged; of a split that is given,
            -2 or -3 for a cell that trains and is never judged.
        count: Number of folds.
        group_name: The column whose values never straddle, or None for a random split.
        left_out: Classes that cannot be judged, with their number of cells.
        warnings: Sentences for the user, one for each thing that was left out or is uncertain.
        given: What the split was given by, in words, or None for one that was drawn.
    """

    assignment: np.ndarray
    count: int
    group_name: str | None = None
    left_out: tuple[tuple[str, int], ...] = ()
    warnings: tuple[str, ...] = ()
    given: str | None = None

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (training rows, test rows) of each fold."""
        for fold in range(self.count):
            yield (
                np.flatnonzero((self.assignment != fold) & (self.assignment != LEFT_OUT)),
                np.flatnonzero(self.assignment == fold),
            )

    @property
    def judged(self) -> np.ndarray:
        """(M,) rows that are tested once."""
        return np.flatnonzero(self.assignment >= 0)

    @property
    def kept(self) -> np.ndarray:
        """(N,) whether a cell's class can be judged."""
        return np.asarray(self.assignment != LEFT_OUT)

    @property
    def description(self) -> str:
        """How the cells were split, to be printed beside every score."""
        if self.given is not None:
            return self.given
        if self.group_name is None:
            return f"{self.count}-fold, stratified by class, cells split at random"
        return f"{self.count}-fold, stratified by class, groups = {self.group_name} never straddle"


def make_folds(
    labels: Sequence[Any] | np.ndarray,
    groups: Sequence[Any] | np.ndarray | None = None,
    *,
    count: int = 5,
    seed: int = 0,
    label_name: str = "cell_type",
    group_name: str = "group",
) -> Folds:
    """Split cells into folds with similar class proportions.

    A class that cannot be judged does not stop the run, because a rare class in a large screen should not cost the others their
    result: it is left out of the folds and named in `Folds.warnings`. That is a class with fewer cells than folds, or, with groups, a
    class that occurs in one group only (it would never be in training and test at once, and would count as pure error).

    Args:
        labels: (N,) class of each cell.
        groups: (N,) group of each cell (plate, well, donor), or None for a random split.
        count: Number of folds, at least 2.
        seed: Seed of the shuffle.
        label_name: Column of the labels, for messages.
        group_name: Column of the groups, for messages.

    Raises:
        DataError: Labels or groups are missing, fewer than two classes can be judged, or there are fewer groups than folds.

    Example:
        >>> folds = make_folds(["a", "b"] * 10, groups=["p1", "p1", "p2", "p2"] * 5, count=2, group_name="plate")
        >>> folds.description
        '2-fold, stratified by class, groups = plate never straddle'
    """
    if count < 2:
        raise DataError(f"Cross-validation with {count} folds is not possible: use at least 2.")
    names = _as_text(labels, label_name, "a class")
    group_names = None if groups is None else _as_text(groups, group_name, "a group")
    if group_names is not None and len(group_names) != len(names):
        raise DataError(f"Column {group_name!r} has {len(group_names)} values for {len(names)} cells: give one for each cell.")

    classes, members = np.unique(names, return_counts=True)
    if len(classes) < 2:
        found = f"one class only ({str(classes[0])!r}, {members[0]} cells)" if len(classes) else "no cells"
        raise DataError(
            f"Column {label_name!r} holds {found}, and a classifier needs two classes: name another column or add cells of a second class."
        )

    left_out: dict[str, int] = {}
    warnings: list[str] = []
    for name, size in zip(classes.tolist(), members.tolist(), strict=True):
        if size < count:
            left_out[name] = size
            remedy = "merge it with a related class" + (", or use fewer folds" if size > 1 else "")
            warnings.append(
                f"Class {name!r} has {size} {'cell' if size == 1 else 'cells'}, fewer than the {count} folds, and is not judged: "
                f"add cells, {remedy}."
            )
        elif group_names is not None and len(on := np.unique(group_names[names == name])) == 1:
            left_out[name] = size
            warnings.append(
                f"Class {name!r} ({size} cells) occurs in one {group_name} only ({str(on[0])!r}) and is not judged: "
                f"a classifier cannot tell the class from the {group_name}."
            )
    remaining = [name for name in classes.tolist() if name not in left_out]
    if len(remaining) < 2:
        raise DataError(
            f"Column {label_name!r} leaves {len(remaining)} of {len(classes)} classes to judge, and two are needed: {warnings[0]}"
            + (f" The same holds for {len(warnings) - 1} more." if len(warnings) > 1 else "")
        )

    judged = np.flatnonzero(np.isin(names, remaining))
    assignment = np.full(len(names), LEFT_OUT, dtype=np.int64)
    assignment[judged] = _assign(names[judged], None if group_names is None else group_names[judged], count, seed, group_name)

    kept = assignment[judged]
    for fold in range(count):
        seen = np.unique(names[judged][kept != fold])
        if len(seen) < 2:
            raise DataError(
                f"Fold {fold + 1} of {count} would train on the single class {str(seen[0])!r}, because the values of {group_name!r} hold "
                "too few classes each: use another group column, or none."
            )
    for name in remaining:
        if len(np.unique(assignment[names == name])) == 1:
            warnings.append(
                f"All {np.sum(names == name)} cells of class {name!r} fall in one fold, so they are always predicted wrongly: "
                f"use more folds or a group column with more values than {group_name!r}."
            )
    return Folds(assignment, count, None if groups is None else group_name, tuple(left_out.items()), tuple(warnings))


def _assign(names: np.ndarray, groups: np.ndarray | None, count: int, seed: int, group_name: str) -> np.ndarray:
    """(N,) fold that tests each cell."""
    rows = np.zeros((len(names), 1))
    if groups is None:
        return _fold_numbers(StratifiedKFold(count, shuffle=True, random_state=seed).split(rows, names), len(names))
    found = np.unique(groups).tolist()
    if len(found) < count:
        listed = ", ".join(found[:5])
        what_to_do = f"use {len(found)} folds or another group column" if len(found) >= 2 else "use another group column, or none"
        raise DataError(
            f"Column {group_name!r} has {len(found)} {'value' if len(found) == 1 else 'values'} ({listed}) among the cells that can be "
            f"judged, and {count} folds need {count}: {what_to_do}."
        )
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    assignment = _fold_numbers(splitter.split(rows, names, groups), len(names))
    if len(np.unique(assignment)) < count:
        # The greedy search for equal proportions may leave a fold empty when groups are few; balancing by size never does.
        assignment = _fold_numbers(GroupKFold(count).split(rows, names, groups), len(names))
    return assignment


def _fold_numbers(splits: Iterator[tuple[np.ndarray, np.ndarray]], cells: int) -> np.ndarray:
    assignment = np.full(cells, LEFT_OUT, dtype=np.int64)
    for fold, (_, test) in enumerate(splits):
        assignment[test] = fold
    return assignment


def _as_text(values: Sequence[Any] | np.ndarray, column: str, what: str) -> np.ndarray:
    """(N,) str; raises DataError where a value is missing (None, NaN, pandas' NA or blank)."""
    items = list(values)
    missing = [row for row, value in enumerate(items) if pd.isna(value) or not str(value).strip()]
    if missing:
        raise DataError(
            f"Column {column!r} is empty in {len(missing)} of {len(items)} rows (the first is row {missing[0] + 1}): "
            f"give every cell {what}, or remove those rows from the metadata."
        )
    return np.asarray([str(value) for value in items], dtype=np.str_)
