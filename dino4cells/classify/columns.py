"""What the table says about the cells that are judged: classes, groups, the split, and other columns, checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dino4cells.classify.given_split import given_folds, parts_in
from dino4cells.classify.splits import Folds, make_folds
from dino4cells.classify.texts import texts_of
from dino4cells.config import ClassificationConfig
from dino4cells.data.metadata import missing_column
from dino4cells.data.strata import DEFAULT_LABELS
from dino4cells.errors import DataError

NOT_OF_THE_TABLE = ("dino_model", "dino_error")


@dataclass(frozen=True)
class JudgedCells:
    """Cells whose class is known.

    Attributes:
        label: name of the column of classes.
        labels_N: class of each cell, str.
        groups_N: group of each cell, str, or None.
        parts_N: `train`, `valid` or `test`, or None where no column gives the split.
        others: (N,) str of each column that neighbours must differ in.
        source: URL of the table, for messages.
    """

    label: str
    labels_N: np.ndarray
    groups_N: np.ndarray | None
    parts_N: np.ndarray | None
    others: tuple[np.ndarray, ...]
    source: str

    @classmethod
    def of(cls, frame: pd.DataFrame, source: str, config: ClassificationConfig, then: str = "") -> JudgedCells:
        """The columns that a configuration names.

        Args:
            frame: a row a cell.
            source: URL of the table.
            config: names the columns.
            then: what else is to do after the table was mended, for messages.

        Raises:
            DataError: a column is not there, is empty in a cell, or says no part of the split.
        """
        label = config.label or next((name for name in DEFAULT_LABELS if name in frame), DEFAULT_LABELS[-1])
        table = _Table(frame, source, then)
        purpose = "neighbours differ in it, named by --nearest-not-same"
        return cls(
            label,
            table.column(label, "the class of each cell; another column is named by --label"),
            table.column(config.group, "the group that never straddles a split, named by --group") if config.group else None,
            parts_in(frame, config.split, source) if config.split else None,
            tuple(table.column(name, purpose) for name in config.not_same or ()),
            source,
        )

    def take(self, rows: np.ndarray) -> JudgedCells:
        """These rows, in their order."""
        optional = [None if given is None else given[rows] for given in (self.groups_N, self.parts_N)]
        others = tuple(given[rows] for given in self.others)
        return JudgedCells(self.label, self.labels_N[rows], optional[0], optional[1], others, self.source)

    def folds(self, config: ClassificationConfig) -> Folds:
        """The split of these cells: by the column that gives one, else drawn.

        Raises:
            DataError: it cannot be.
        """
        names = {"label_name": self.label, "group_name": config.group or "group"}
        try:
            if self.parts_N is not None:
                return given_folds(self.parts_N, self.labels_N, self.groups_N, column=config.split or "split", **names)
            return make_folds(self.labels_N, self.groups_N, count=config.folds, seed=config.seed, **names)
        except DataError as error:
            raise DataError(f"{self.source}: {error}") from error


@dataclass(frozen=True)
class _Table:
    frame: pd.DataFrame
    source: str
    then: str

    def column(self, name: str, purpose: str) -> np.ndarray:
        """(N,) str."""
        if name not in self.frame:
            columns = [column for column in self.frame.columns if column not in NOT_OF_THE_TABLE]
            raise missing_column(self.source, name, purpose, columns)
        texts = texts_of(self.frame[name])
        empty = texts == ""
        if empty.any():
            row = int(empty.argmax())
            # Features in one file have labels alone.
            said = next((f" ({self.frame[column].iloc[row]})" for column in ("file", "Image_Name", "ID") if column in self.frame), "")
            place = f"{self.source}, cell {row + 1}{said}"
            more = f" (and in {empty.sum() - 1:,} more)" if empty.sum() > 1 else ""
            raise DataError(f"{place}: the column '{name}' is empty{more}; fill it in metadata.csv or delete the cell's row{self.then}.")
        return texts.astype(np.str_)
