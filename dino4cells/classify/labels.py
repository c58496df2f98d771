"""What a head learns to predict: one class a cell, or any number of labels (HANDBOOK, classification).

Dimensions: N cells, K classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dino4cells.classify.texts import texts_of
from dino4cells.config import Config
from dino4cells.data.metadata import missing_column
from dino4cells.data.strata import classes_in
from dino4cells.errors import ConfigError, DataError

CELL_TYPE, LOCATION = "cell_type", "protein_location"
_LISTED = 8


@dataclass(frozen=True)
class LabelTable:
    """A table of cells and its URL, for messages."""

    frame: pd.DataFrame
    source: str


@dataclass(frozen=True)
class Task:
    """What is predicted.

    Attributes:
        classes: names, in the order of a head's outputs.
        several: whether a cell may have several of them, or none.
        columns: where the table says it: a 0/1 column for every class, or one column of names.
    """

    classes: tuple[str, ...]
    several: bool
    columns: tuple[str, ...]

    @property
    def is_matrix(self) -> bool:
        """Whether every class has a column of its own."""
        return self.columns == self.classes

    def is_in(self, table: LabelTable) -> bool:
        """Whether a table has the columns."""
        return all(name in table.frame for name in self.columns)

    def targets(self, table: LabelTable) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Targets (N, K) of 0 and 1, and (N,) whether the table says a cell's label.

        Raises:
            DataError: a column is missing, or holds something else than 0 and 1.
        """
        if self.is_matrix:
            matrix_NK = np.stack([_zeros_and_ones(table, name) for name in self.columns], axis=1)
            known_N = np.isfinite(matrix_NK).all(axis=1) if self.several else matrix_NK.sum(axis=1) == 1
            return np.nan_to_num(matrix_NK), np.asarray(known_N, dtype=np.bool_)
        names_N = _names(table, self.columns[0], self.several)
        place = {name: index for index, name in enumerate(self.classes)}
        targets_NK = np.zeros((len(names_N), len(self.classes)), np.float32)
        for row, names in enumerate(names_N):
            targets_NK[row, [place[name] for name in names if name in place]] = 1
        return targets_NK, np.array([any(name in place for name in names) for names in names_N])


def task_of(config: Config, tables: Sequence[LabelTable]) -> Task:
    """What a configuration asks for, with the classes of all tables.

    `train_cell_type` reads the column `classification.label`, else `cell_type`. `train_protein` reads the columns in
    `embedding.target_labels`, else all columns of zeros and ones, else the names in `protein_location`.

    Raises:
        ConfigError: both tasks are asked for, or `num_classes` is not the number of classes found.
        DataError: the columns are not there, or there are too few classes to tell apart.
    """
    wanted = config.classification
    if wanted.train_protein and wanted.train_cell_type:
        raise ConfigError(
            f"{config.where('classification', 'train_protein')}: train_protein and train_cell_type are both true; set one of them to false."
        )
    task = _several(config, tables) if wanted.train_protein else _one(wanted.label or CELL_TYPE, tables)
    _check_classes(task, config, tables[0].source)
    return task


def _check_classes(task: Task, config: Config, source: str) -> None:
    count, wanted = len(task.classes), config.classification.num_classes
    found = ", ".join(task.classes[:_LISTED]) + (", …" if count > _LISTED else "")
    if wanted is not None and wanted != count:
        what = "columns of labels" if task.is_matrix else f"classes in the column '{task.columns[0]}'"
        key = "embedding.target_labels" if task.several else "classification.label"
        raise ConfigError(
            f"{config.where('classification', 'num_classes')} is {wanted}, and {source} has {count} {what} ({found}); "
            f"correct num_classes, leave it out, or name the right column in {key}."
        )
    if count < (1 if task.several else 2):
        raise DataError(
            f"{source}: the column '{task.columns[0]}' holds {count} classes ({found or 'every cell is empty'}), and a classifier "
            "needs two; fill it in, or name another column by --label."
        )


def _one(column: str, tables: Sequence[LabelTable]) -> Task:
    one_hot = tuple(name for name in map(str, tables[0].frame.columns) if re.fullmatch(rf"{re.escape(column)}_\d+", name))
    if one_hot and all(column not in table.frame for table in tables):  # the matrix of a published file
        return Task(one_hot, several=False, columns=one_hot)
    names = {name for table in tables for row in _names(table, column, several=False) for name in row}
    return Task(tuple(sorted(names)), several=False, columns=(column,))


def _several(config: Config, tables: Sequence[LabelTable]) -> Task:
    columns = config.embedding.target_labels or [
        name
        for name in tables[0].frame.columns
        if not name.startswith(f"{CELL_TYPE}_") and all(_is_binary(table.frame, name) for table in tables)
    ]
    if columns:
        return Task(tuple(columns), several=True, columns=tuple(columns))
    if any(LOCATION not in table.frame for table in tables):
        without = next(table for table in tables if LOCATION not in table.frame)
        raise DataError(
            f"{without.source}: train_protein needs a 0/1 column for every label, or names in a column '{LOCATION}', and the table has "
            f"neither ({', '.join(without.frame.columns)}); add them, or train_cell_type instead."
        )
    names = {name for table in tables for row in _names(table, LOCATION, several=True) for name in row}
    return Task(tuple(sorted(names)), several=True, columns=(LOCATION,))


def _is_binary(frame: pd.DataFrame, name: str) -> bool:
    """Whether a column holds zeros and ones alone, as numbers."""
    values = frame[name] if name in frame else pd.Series(dtype=object)
    return bool(pd.api.types.is_numeric_dtype(values) and len(values) and values.isin([0, 1]).all())


def _zeros_and_ones(table: LabelTable, name: str) -> NDArray[np.float32]:
    """(N,) 0, 1, or NaN where the cell is empty."""
    if name not in table.frame:
        raise missing_column(table.source, name, "a label, named in embedding.target_labels", list(table.frame.columns))
    numbers = pd.to_numeric(table.frame[name].replace({"True": 1, "False": 0}), errors="coerce")
    values_N: NDArray[np.float32] = numbers.to_numpy(np.float32, na_value=np.nan)
    wrong_N = ~(np.isin(values_N, (0, 1)) | table.frame[name].isna().to_numpy())
    if wrong_N.any():
        row = int(wrong_N.argmax())
        raise DataError(
            f"{table.source}, cell {row + 1}: the column '{name}' holds '{table.frame[name].iloc[row]}' where a label is 0 or 1; "
            "correct it, or name the columns of labels in embedding.target_labels."
        )
    return values_N


def _names(table: LabelTable, column: str, several: bool) -> list[list[str]]:
    """The class names of every cell; none where the cell is empty."""
    if column not in table.frame:
        purpose = "the labels of each cell" if several else "the class of each cell; another column is named by --label"
        raise missing_column(table.source, column, purpose, list(table.frame.columns))
    texts = texts_of(table.frame[column]).tolist()
    if not several:
        return [[text] if text else [] for text in texts]
    return [classes_in(text) if text else [] for text in texts]
