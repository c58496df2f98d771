"""The features artifact: Parquet files with a row per cell, in the order of the table of cells.

`part-*.parquet` holds `Metadata_*` columns and `dino_0 … dino_{D-1}` (float32), the convention of image-based profiling
(pycytominer); `baseline-*.parquet`, if asked for, holds what to compare with, row for row: `untrained_*` and `intensity_*`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dino4cells.artifacts import Artifact, SingleFile, open_artifact
from dino4cells.config import Config
from dino4cells.data.layout import Layout
from dino4cells.errors import ArtifactError, DataError
from dino4cells.features.profiling import Profiling
from dino4cells.features.published import LabelColumns, is_features_file, named_columns, read_features_file
from dino4cells.printable import printable

KIND = "features"
CARD = "features.json"
PREFIX = "Metadata_"
PART, BASELINE = "part-", "baseline-"
FEATURE, UNTRAINED, INTENSITY = "dino_", "untrained_", "intensity_"
MODEL_COLUMN, ERROR_COLUMN = "Metadata_dino_model", "Metadata_dino_error"
ROWS_PER_GROUP = 4096


class FeaturesCard(BaseModel):
    """`features.json`: what the numbers are and where they come from."""

    model_config = ConfigDict(protected_namespaces=())

    rows: int
    failed_rows: int = Field(description="Rows whose image could not be read; their features are missing and Metadata_dino_error says why.")
    embedding_dim: int = Field(description="Number of features of a row, D.")
    tokens: str = Field(default="class", description="Tokens of a vision transformer that they are: class, patches (mean) or both.")
    last_blocks: int = Field(default=1, description="Last blocks of it whose tokens stand side by side, from the earliest to the last.")
    channels: tuple[str, ...] = Field(description="Names of the model's channels, in order.")
    channels_of_data: tuple[str, ...] = Field(default=(), description="What the data call each of them.")
    blocks: tuple[tuple[str, ...], ...] = Field(
        default=(),
        description="Channels behind each of the equally long blocks of features that stand side by side; one block of all, mostly.",
    )
    black_channels: tuple[str, ...] = Field(default=(), description="The data's channels that were black, by embedding.keep_channels.")
    layout: Layout = Field(default_factory=Layout, description="Which columns of the table name the images, and whether they are strips.")
    transforms: list[list[object]] = Field(description="Transforms applied to each image: name and parameters.")
    precision: str = Field(default="float32", description="Arithmetic of the network's matrix products.")
    baselines: bool
    profiling: tuple[Profiling, ...] = Field(default=(), description="What was done to the features since, in order; see profiles.")
    data: str
    data_fingerprint: str
    model: str
    model_fingerprint: str
    model_card: dict[str, Any] = Field(default_factory=dict, description="What the model says of itself, in `model.json`.")
    images_per_second: float
    extraction: str = Field(default="", description="Fingerprint of what decided them: parts of the same belong together.")
    versions: dict[str, str]


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


def load_features_card(url: str) -> FeaturesCard:
    """The card of a features artifact alone, or what a file in the published layout says about itself.

    Raises:
        ArtifactError: no complete features there, or the card cannot be read.
    """
    if is_features_file(url):
        return _read_file(url, LabelColumns(())).card
    return open_features(url)[1]


def open_features(url: str) -> tuple[Artifact, FeaturesCard]:
    """A features artifact, of which nothing but the card is read.

    Raises:
        ArtifactError: no complete features there, or the card cannot be read.
    """
    if url.lower().endswith((".parquet", ".h5ad")):
        raise ArtifactError(f"{url}: is a file of features for other tools; give the directory that it was made of.")
    artifact = open_artifact(url, KIND)
    return artifact, _card(artifact)


def read_features(url: str, config: Config | None = None) -> Features:
    """Read a features artifact, or a file (`.pth`) in the published layout.

    Args:
        url: of the directory or the file.
        config: says what the columns of labels in a file are, which has no names for them: `embedding.target_labels`, `model.datatype`.

    Raises:
        ArtifactError: no complete features there, fewer rows than they announce, or a file that holds code.
    """
    if is_features_file(url):
        return _read_file(url, LabelColumns.from_config(config) if config else LabelColumns(()))
    artifact, card = open_features(url)
    metadata = read_metadata_columns(artifact, card)
    wanted = (UNTRAINED, INTENSITY) if card.baselines else ()
    baselines = {prefix.rstrip("_"): _matrix(artifact, BASELINE, prefix, card.rows) for prefix in wanted}
    return Features(metadata, _matrix(artifact, PART, FEATURE, card.rows), baselines, card, artifact)


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
            for batch in file.iter_batches(ROWS_PER_GROUP, columns=columns, use_threads=False):
                piece = np.empty((batch.num_rows, batch.num_columns), np.float32)
                for place, column in enumerate(batch.columns):
                    piece[:, place] = column.to_numpy(zero_copy_only=False)
                yield piece


def _card(artifact: Artifact) -> FeaturesCard:
    try:
        return FeaturesCard.model_validate_json(artifact.read_bytes(CARD))
    except ValidationError as error:
        raise ArtifactError(f"{artifact.url}/{CARD}: cannot be read ({str(error).splitlines()[0]}); extract the features again.") from error


def _read_file(url: str, labels: LabelColumns) -> Features:
    """Features in the published layout, which says nothing about the model and the data."""
    dino, columns, content = read_features_file(url)
    failed: NDArray[np.bool_] = np.asarray(np.isnan(dino).any(axis=1))
    metadata = named_columns(columns, labels)
    metadata = metadata.reindex(range(len(dino))) if metadata.empty else metadata
    metadata["dino_model"] = ""
    metadata["dino_error"] = [f"{url}: has no features in row {row + 1}" if empty else None for row, empty in enumerate(failed)]
    card = FeaturesCard(
        rows=len(dino),
        failed_rows=int(failed.sum()),
        embedding_dim=dino.shape[1],
        channels=(),
        transforms=[],
        baselines=False,
        data=url,
        data_fingerprint="",
        model="",
        model_fingerprint="",
        images_per_second=0.0,
        versions={},
    )
    return Features(metadata, dino, {}, card, SingleFile(url, hashlib.sha256(content).hexdigest()))


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


def _matrix(artifact: Artifact, part: str, prefix: str, rows: int) -> NDArray[np.float32]:
    """All numbers (rows, columns); their table is never held twice."""
    with _whole(artifact):
        found = sum(file.metadata.num_rows for file in _files(artifact, part))
    if found != rows:
        raise _other_rows(artifact, found, rows)
    matrix, first = np.empty((rows, len(column_names(artifact, part, prefix))), np.float32), 0
    for piece in pieces(artifact, part, prefix):
        matrix[first : first + len(piece)] = piece
        first += len(piece)
    return matrix
