"""What the configuration asks an epoch to draw: groups and classes of the table's rows, as an `Order`.

| model | an epoch |
| --- | --- |
| the default | every row once; packed images in the order of blocks |
| `sample_single_cells` | one row of each `ID`, another one in each epoch |
| `datatype: HPABalanced` | every class equally often, as many samples as rows (a row counted once for each of its classes) |
| both | every class equally often; within a class every `ID` evenly, one of its rows of that class |
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dino4cells.config import Config
from dino4cells.data.block_order import BlockOrder
from dino4cells.data.metadata import Metadata
from dino4cells.data.sampler import Order, Rows, SampleOrder
from dino4cells.errors import DataError

DEFAULT_LABELS: Final = ("protein_location", "cell_type")
"""Columns that hold the classes where nothing names another, the first that is there."""

Classes = NDArray[np.int64]


def sample_order(metadata: Metadata, config: Config) -> Order:
    """The order of an epoch that `model.sample_single_cells` and `model.datatype` ask for.

    The classes are the columns in `embedding.target_labels` where it names any, else the values of the label column
    (`classification.label`, else protein_location, else cell_type); a value such as `['cytosol', 'nucleoli']` is several classes.

    Raises:
        DataError: a column is not there or has a cell that cannot be used, or a class has no row.
    """
    groups_N = None
    if config.model.sample_single_cells:
        groups_N, _ = _distinct(metadata, "ID", "model.sample_single_cells draws one row of each")
    if config.model.datatype == "HPABalanced":
        if config.embedding.target_labels:
            rows_M, classes_M = _members_of_columns(metadata, config.embedding.target_labels, config.where("embedding", "target_labels"))
        else:
            rows_M, classes_M = _members_of_labels(metadata, config)
        return SampleOrder.balanced(rows_M, classes_M, groups_N)
    if groups_N is not None:
        return SampleOrder.of_groups(groups_N)
    if metadata.packed is not None and config.model.shuffle_blocks:
        return BlockOrder.of(metadata.packed, config.model.shuffle_blocks)
    return SampleOrder.of_rows(len(metadata))


def _members_of_columns(metadata: Metadata, names: Sequence[str], where: str) -> tuple[Rows, Classes]:
    """Memberships (row, class) from 0/1 columns, one for each 1.

    Args:
        metadata: the table of cells.
        names: the columns, in the classes' order.
        where: where they are named, to begin a message with.

    Raises:
        DataError: a column is not there, holds something else than 0 and 1 (or True and False), or holds no 1.
    """
    rows: list[Rows] = []
    for name in names:
        codes_N, distinct = _distinct(metadata, name, "a class, named in embedding.target_labels")
        flags = [_FLAGS.get(str(value).strip().lower()) for value in distinct]
        if None in flags:
            row = int((codes_N == flags.index(None)).argmax())
            value = metadata.frame[name].iloc[row]
            raise DataError(f"{_cell(metadata, row)}: the column '{name}' is '{value}'; write 1 where the cell has it, else 0.")
        members = np.flatnonzero(np.array(flags, dtype=bool)[codes_N])
        if not len(members):
            raise DataError(
                f"{where}: names '{name}', of which model.datatype HPABalanced draws as many cells as of the others, and no cell of "
                f"{metadata.source} has a 1 there; take it out of the list."
            )
        rows.append(members)
    return np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(members) for members in rows])


_FLAGS: Final = {"1": True, "0": False, "1.0": True, "0.0": False, "true": True, "false": False}


def _members_of_labels(metadata: Metadata, config: Config) -> tuple[Rows, Classes]:
    found = next((column for column in DEFAULT_LABELS if column in metadata.frame), DEFAULT_LABELS[-1])
    name = config.classification.label or found
    purpose = "model.datatype HPABalanced draws its classes evenly; another column is named by classification.label"
    codes_N, distinct = _distinct(metadata, name, purpose)
    classes_of = [classes_in(str(value).strip()) for value in distinct]
    flat = pd.factorize(np.array([name for classes in classes_of for name in classes], dtype=object), sort=True)[0].astype(np.int64)
    if not len(flat):
        raise DataError(f"{metadata.source}: no cell has a class in the column '{name}'; name another by classification.label.")
    counts = np.array([len(classes) for classes in classes_of])
    counts_N = counts[codes_N]
    rows_M = np.repeat(np.arange(len(codes_N)), counts_N)
    within_M = np.arange(len(rows_M)) - np.repeat(np.cumsum(counts_N) - counts_N, counts_N)
    return rows_M, flat[(np.cumsum(counts) - counts)[codes_N[rows_M]] + within_M]


def classes_in(text: str) -> list[str]:
    """The classes that a cell of a label column names: one, or those of a list as Python writes it (the published tables)."""
    if text.startswith("["):
        # Else it is a name in brackets.
        with contextlib.suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            named = ast.literal_eval(text)
            if isinstance(named, list):
                return list(dict.fromkeys(str(name) for name in named))
    return [text]


def _distinct(metadata: Metadata, name: str, purpose: str) -> tuple[Classes, Sequence[object]]:
    """A column without empty cells as (N,) numbers of its distinct values, from 0 in the order of the rows, and those values."""
    codes_N, distinct = pd.factorize(metadata.column(name, purpose))
    blank = [code for code, value in enumerate(distinct) if not str(value).strip()]
    empty_N = np.isin(codes_N, [-1, *blank])
    if empty_N.any():
        row = int(empty_N.argmax())
        more = f" (and in {empty_N.sum() - 1:,} more)" if empty_N.sum() > 1 else ""
        raise DataError(f"{_cell(metadata, row)}: the column '{name}' is empty{more}; fill it ({purpose}), or delete the cell's row.")
    return codes_N.astype(np.int64), list(distinct)


def _cell(metadata: Metadata, row: int) -> str:
    file = f" ({metadata.frame['file'].iloc[row]})" if "file" in metadata.frame else ""
    return f"{metadata.source}, cell {row + 1}{file}"
