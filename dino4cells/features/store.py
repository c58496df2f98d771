"""Features wherever they are: the artifact, which is described here, or one file.

The artifact is a directory of Parquet files with a row per cell, in the order of the table of cells. `part-*.parquet` holds `Metadata_*`
columns and `dino_0 … dino_{D-1}` (float32), the convention of image-based profiling (pycytominer); `baseline-*.parquet`, if asked for,
holds what to compare with, row for row: `untrained_*` and `intensity_*`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from dino4cells import storage
from dino4cells.artifacts import Artifact, SingleFile, open_artifact
from dino4cells.config import Config
from dino4cells.errors import ArtifactError, DataError
from dino4cells.features.anndata_file import open_h5ad
from dino4cells.features.card import ERROR, ERROR_COLUMN, FEATURE, INTENSITY, MODEL, MODEL_COLUMN, PREFIX, UNTRAINED, usual_names
from dino4cells.features.card import FeaturesCard as FeaturesCard
from dino4cells.features.parquet_file import numbers, open_parquet
from dino4cells.features.published import LabelColumns, is_features_file, named_columns, read_features_file
from dino4cells.features.table import Table, joined
from dino4cells.printable import printable

KIND = "features"
CARD = "features.json"
PART, BASELINE = "part-", "baseline-"
OF_OTHER_TOOLS = (".csv", ".csv.gz", ".tsv", ".feather", ".h5", ".npy", ".npz")
"""Endings of files that hold features elsewhere."""


def part_name(number: int) -> str:
    """Name of the file of the part `number`; sorted names give the order of rows."""
    return f"{PART}{number:05d}.parquet"


def baseline_name(number: int) -> str:
    """As `part_name`, for the baselines."""
    return f"{BASELINE}{number:05d}.parquet"


def check_columns(frame: pd.DataFrame, source: str) -> None:
    """Refuse a table that has a column of a name that the store adds.

    Raises:
        DataError: names the column.
    """
    for taken in (MODEL_COLUMN, ERROR_COLUMN):
        name = taken.removeprefix(PREFIX)
        if name in frame.columns:
            raise DataError(f"{source}: the column '{name}' has the name of one that extraction adds to the table; rename it.")


@dataclass(frozen=True)
class Features:
    """Features read into memory, N rows in the order of the table of cells.

    Attributes:
        metadata: the table's columns without prefix, and `dino_model`, `dino_error` (missing where all is well).
        dino: (N, D) float32; NaN in failed rows.
        baselines: name → (N, …) float32: `untrained` and `intensity`, or empty.
    """

    metadata: pd.DataFrame
    dino: NDArray[np.float32]
    baselines: dict[str, NDArray[np.float32]]
    card: FeaturesCard
    artifact: Artifact | SingleFile

    @property
    def first_failure(self) -> str:
        """Why the first row without features has none, in brackets for a sentence; nothing where nobody says."""
        reasons = self.metadata[ERROR].dropna()
        return f" (the first: {reasons.iloc[0]})" if len(reasons) else ""


def load_features_card(url: str) -> FeaturesCard:
    """The card of a features artifact alone, or what a file says about itself.

    Raises:
        ArtifactError: no complete features there, or the card cannot be read.
    """
    return open_table(url).card if is_one_file(url) else open_features(url)[1]


def is_one_file(url: str) -> bool:
    """Whether a URL means features in one file: Parquet, AnnData, or the published layout."""
    return is_features_file(url) or url.lower().endswith((".parquet", ".h5ad"))


def open_features(url: str) -> tuple[Artifact, FeaturesCard]:
    """A features artifact, of which nothing but the card is read.

    Raises:
        ArtifactError: no complete features there, or the card cannot be read.
    """
    if url.lower().endswith(OF_OTHER_TOOLS):
        raise ArtifactError(f"{url}: is no file that features are read from; save them as .parquet (pandas' to_parquet) or .h5ad.")
    artifact = open_artifact(url, KIND)
    return artifact, _card(artifact)


def read_features(url: str, config: Config | None = None) -> Features:
    """Read features into memory.

    Args:
        url: as `open_table`.
        config: as `open_table`.

    Raises:
        ArtifactError: as `open_table`, or fewer rows than they announce.
    """
    table = open_table(url, config)
    baselines: dict[str, NDArray[np.float32]] = {}
    if isinstance(table.artifact, Artifact):
        _check_rows(table.artifact, PART, table.card.rows)
        for prefix in (UNTRAINED, INTENSITY) if table.card.baselines else ():
            baselines[prefix.rstrip("_")] = _baseline(table.artifact, prefix, table.card.rows)
    return Features(table.metadata, table.matrix(), baselines, table.card, table.artifact)


def open_table(url: str, config: Config | None = None) -> Table:
    """Features whose numbers are not read yet (of the published layout, which cannot be read in pieces, they are).

    Args:
        url: of a features artifact, or of one file: `.parquet`, `.h5ad`, or `.pth` in the published layout.
        config: says what the columns of labels in a `.pth` are, which has no names for them: `embedding.target_labels`, `model.datatype`.

    Raises:
        ArtifactError: no complete features there, or a file of something else.
    """
    if is_one_file(url):
        if not storage.exists(url):
            raise ArtifactError(f"{url}: there is no file of features here; check the path.")
        if is_features_file(url):
            return _published(url, LabelColumns.from_config(config) if config else LabelColumns(()))
        return open_h5ad(url) if url.lower().endswith(".h5ad") else open_parquet(url)
    artifact, card = open_features(url)
    width = len(column_names(artifact, PART, FEATURE))
    if width != card.embedding_dim:
        raise ArtifactError(f"{url}: holds {width} features a row and announces {card.embedding_dim}; extract the features again.")
    return Table(read_metadata_columns(artifact, card), lambda: pieces(artifact, PART, FEATURE), card, artifact)


def read_metadata_columns(artifact: Artifact, card: FeaturesCard) -> pd.DataFrame:
    """The metadata of all rows, without prefix.

    Raises:
        ArtifactError: fewer rows than the card announces.
    """
    names = column_names(artifact, PART, PREFIX)
    with _whole(artifact):
        tables = [file.read(names).to_pandas() for file in _files(artifact, PART)]
    frame = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if len(frame) != card.rows:
        raise _other_rows(artifact, len(frame), card.rows)
    renamed: pd.DataFrame = frame.rename(columns=lambda name: name.removeprefix(PREFIX))
    return renamed


def column_names(artifact: Artifact, part: str, prefix: str) -> list[str]:
    """Names of the columns that begin so, in the files whose names begin with `part`."""
    with _whole(artifact), closing(_files(artifact, part)) as files:
        first = next(files, None)
        return [name for name in first.schema_arrow.names if name.startswith(prefix)] if first is not None else []


def pieces(artifact: Artifact, part: str, prefix: str) -> Iterator[NDArray[np.float32]]:
    """The numbers of some rows after the other (rows, columns): as `column_names` names them."""
    columns = column_names(artifact, part, prefix)
    with _whole(artifact):
        for file in _files(artifact, part):
            yield from numbers(file, columns)


def _card(artifact: Artifact) -> FeaturesCard:
    try:
        return FeaturesCard.model_validate_json(artifact.read_bytes(CARD))
    except ValidationError as error:
        raise ArtifactError(f"{artifact.url}/{CARD}: cannot be read ({str(error).splitlines()[0]}); extract the features again.") from error


def _published(url: str, labels: LabelColumns) -> Table:
    """Features in the published layout, which says nothing about the model and the data."""
    dino, columns, content = read_features_file(url)
    failed: NDArray[np.bool_] = np.asarray(np.isnan(dino).any(axis=1))
    metadata = named_columns(columns, labels)
    metadata = metadata.reindex(range(len(dino))) if metadata.empty else metadata
    metadata[MODEL] = ""
    metadata[ERROR] = [f"{url}: has no features in row {row + 1}" if empty else None for row, empty in enumerate(failed)]
    card = FeaturesCard.of_file(url, rows=len(dino), failed_rows=int(failed.sum()), columns=usual_names(dino.shape[1]))
    return Table(metadata, lambda: iter([dino]), card, SingleFile(url, hashlib.sha256(content).hexdigest()))


def _other_rows(artifact: Artifact, found: int, announced: int) -> ArtifactError:
    return ArtifactError(f"{artifact.url}: holds {found} rows and announces {announced}; extract the features again.")


@contextmanager
def _whole(artifact: Artifact) -> Iterator[None]:
    """Inside, a file that Parquet cannot read is an error that names the features."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:  # pandas reads what the file says of its columns
        reason = printable(str(error).partition("\n")[0], 200)
        raise ArtifactError(f"{artifact.url}: a file of these features cannot be read ({reason}); extract the features again.") from error


def _files(artifact: Artifact, prefix: str) -> Generator[pq.ParquetFile]:
    """The files whose names begin so, one open at a time: there may be more of them than a process may open."""
    for name in artifact.names:
        if name.startswith(prefix):
            # Buffered ahead, a file that is read piece by piece would be in memory as a whole in the end.
            with pq.ParquetFile(artifact.local(name), pre_buffer=False) as file:
                yield file


def _check_rows(artifact: Artifact, part: str, announced: int) -> None:
    with _whole(artifact):
        found = sum(file.metadata.num_rows for file in _files(artifact, part))
    if found != announced:
        raise _other_rows(artifact, found, announced)


def _baseline(artifact: Artifact, prefix: str, rows: int) -> NDArray[np.float32]:
    """The numbers (rows, columns) of a baseline."""
    _check_rows(artifact, BASELINE, rows)
    return joined(pieces(artifact, BASELINE, prefix), (rows, len(column_names(artifact, BASELINE, prefix))))
