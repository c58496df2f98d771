"""Features as one Parquet file: `Metadata_*` columns and `dino_0 …`, the convention of image-based profiling; the card in its metadata.

pandas, polars and pycytominer read it, and what they write of it is read here again: with rows or features left out, columns added, and
without the card, which they do not keep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from dino4cells.artifacts import LocalCopies
from dino4cells.features import table as tables
from dino4cells.features.card import ERROR, MODEL, PREFIX, FeaturesCard
from dino4cells.features.part_writer import MetadataColumns, PartWriter
from dino4cells.features.table import Table, feature_names, not_features, readable, table_of_file
from dino4cells.manifest import hash_of

CARD_KEY: Final = "dino4cells"
"""Where the file's metadata hold the card."""
_INDEX: Final = re.compile(r"__index_level_\d+__")
"""Columns that pandas writes of an index without a name."""


def write_parquet(path: Path, table: Table) -> None:
    """Write the rows of all parts to one file, with the card in its metadata."""
    errors = table.metadata[ERROR].astype(object).where(table.metadata[ERROR].notna(), None).tolist()
    described, first = table.metadata.drop(columns=[MODEL, ERROR]), 0
    with PartWriter(path, MetadataColumns.of(described), table.card.feature_names) as part:
        part.describe(CARD_KEY, table.card)
        for piece in table.pieces():
            rows = np.arange(first, first + len(piece))
            part.write(piece, rows, table.card.model_fingerprint, errors[first : first + len(piece)])
            first += len(piece)


def open_parquet(url: str) -> Table:
    """The features in a file whose numbers are not read yet.

    Columns that are no features are the table's, with the prefix `Metadata_` or without.

    Raises:
        ArtifactError: no Parquet file, or none of features.
        StorageError: not there, or not readable.
    """
    copies = LocalCopies()
    path = copies.of(url)

    def pieces() -> Iterator[NDArray[np.float32]]:
        # Other tools write a million rows in one group, whose columns would else be in memory as a whole.
        with readable(url), pq.ParquetFile(copies.of(url), pre_buffer=False, buffer_size=2**16) as file:
            yield from numbers(file, names)

    with readable(url), pq.ParquetFile(path, pre_buffer=False) as file:
        schema = file.schema_arrow
        names = feature_names(schema.names, url)
        for name in names:
            _check_type(schema.field(name), url)
        others = [field.name for field in schema if field.name not in set(names) and not _is_left_out(field)]
        metadata = file.read(others).to_pandas(ignore_metadata=True) if others else pd.DataFrame(index=range(file.metadata.num_rows))
        said = _card(file.metadata.metadata or {})
    return table_of_file(url, hash_of(path), names, _without_prefix(metadata, url), pieces, said)


def numbers(file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[NDArray[np.float32]]:
    """The numbers of some rows after the other (rows, columns); missing ones are NaN."""
    for batch in file.iter_batches(tables.ROWS_PER_GROUP, columns=list(columns), use_threads=False):
        piece = np.empty((batch.num_rows, batch.num_columns), np.float32)
        with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite, which is none
            for place, name in enumerate(columns):
                piece[:, place] = batch.column(name).to_numpy(zero_copy_only=False)
        yield piece


def _check_type(field: pa.Field, url: str) -> None:
    if not (pa.types.is_floating(field.type) or pa.types.is_integer(field.type)):
        raise not_features(url, f"its column {field.name} holds {field.type} and no numbers")


def _is_left_out(field: pa.Field) -> bool:
    """Whether a column says nothing of a cell that a table can hold."""
    return bool(pa.types.is_nested(field.type) or _INDEX.fullmatch(field.name))


def _card(said: dict[bytes, bytes]) -> FeaturesCard | None:
    try:
        return FeaturesCard.model_validate_json(said[CARD_KEY.encode()])
    except (KeyError, ValidationError):
        return None


def _without_prefix(frame: pd.DataFrame, url: str) -> pd.DataFrame:
    """The table's columns by their names; categories as the values that they are."""
    names = [str(name).removeprefix(PREFIX) for name in frame.columns]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise not_features(url, f"it has both a column '{twice}' and a column '{PREFIX}{twice}'; rename one")
    plain: pd.DataFrame = frame.set_axis(names, axis=1)
    values = {name: plain[name].astype(object) for name in names if isinstance(plain[name].dtype, pd.CategoricalDtype)}
    held: pd.DataFrame = plain.assign(**values)
    return held
