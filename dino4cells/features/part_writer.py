"""Writes rows of the features artifact to a Parquet file, in groups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel

from dino4cells.features import table
from dino4cells.features.card import ERROR_COLUMN, MODEL_COLUMN, PREFIX


@dataclass(frozen=True)
class MetadataColumns:
    """The table of cells as every file holds its rows.

    Attributes:
        frame: all rows, with the prefix.
        schema: types that hold for all of them, whichever rows a file has; model and error last.
    """

    frame: pd.DataFrame
    schema: pa.Schema

    @classmethod
    def of(cls, metadata: pd.DataFrame) -> MetadataColumns:
        """The columns of a table whose names have no prefix."""
        frame = metadata.add_prefix(PREFIX)
        fields = list(pa.Schema.from_pandas(frame, preserve_index=False))
        # A column without a single value has no type of its own.
        fields = [pa.field(field.name, pa.string()) if pa.types.is_null(field.type) else field for field in fields]
        return cls(frame, pa.schema([*fields, pa.field(MODEL_COLUMN, pa.string()), pa.field(ERROR_COLUMN, pa.string())]))


class PartWriter:
    """Writes rows to one Parquet file in groups, so that memory does not grow with their number.

    Args:
        path: local file to write.
        metadata: all rows of the table of cells (for the column types), or None for a file of numbers alone.
        columns: names of the float32 columns.
    """

    def __init__(self, path: Path, metadata: MetadataColumns | None, columns: list[str]) -> None:
        self.columns = columns
        self._metadata = metadata
        described = [] if metadata is None else list(metadata.schema)
        self._schema = pa.schema([*described, *(pa.field(name, pa.float32()) for name in columns)])
        # Numbers that hardly ever repeat are not looked up in a dictionary.
        names = [field.name for field in described]
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=names)
        self._waiting: list[NDArray[np.float32]] = []
        self._waiting_rows: list[NDArray[np.int64]] = []
        self._waiting_added: list[tuple[str, str | None]] = []  # model and error

    def write(
        self,
        values: NDArray[np.float32],
        rows: NDArray[np.int64] | None = None,
        model: str = "",
        errors: list[str | None] | None = None,
    ) -> None:
        """Add rows: values (rows, columns) and, for a file with metadata, which rows of the table they belong to."""
        if not len(values):
            return
        self._waiting.append(values)
        if rows is not None and errors is not None:
            self._waiting_rows.append(rows)
            self._waiting_added += [(model, error) for error in errors]
        if sum(len(waiting) for waiting in self._waiting) >= table.ROWS_PER_GROUP:
            self._flush()

    def describe(self, key: str, card: BaseModel) -> None:
        """Put a card into the file's own metadata, as JSON."""
        self._writer.add_key_value_metadata({key: card.model_dump_json()})

    def _flush(self) -> None:
        if not self._waiting:
            return
        by_column = np.ascontiguousarray(np.concatenate(self._waiting).T)
        self._writer.write_table(pa.Table.from_arrays([*self._described(), *map(pa.array, by_column)], schema=self._schema))
        self._waiting, self._waiting_rows, self._waiting_added = [], [], []

    def _described(self) -> list[pa.ChunkedArray]:
        """Columns of the metadata of the rows that wait."""
        if self._metadata is None:
            return []
        models, errors = (pd.Series(column, dtype=object).to_numpy() for column in zip(*self._waiting_added, strict=True))
        rows = self._metadata.frame.iloc[np.concatenate(self._waiting_rows)]
        described = rows.assign(**{MODEL_COLUMN: models, ERROR_COLUMN: errors})
        columns: list[pa.ChunkedArray] = pa.Table.from_pandas(described, schema=self._metadata.schema, preserve_index=False).columns
        return columns

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._flush()
        self._writer.close()
