"""Features as one file for other tools: Parquet, AnnData (`.h5ad`), or the published layout (`.pth`).

All but the published layout are written in pieces, so that memory grows with the table of cells and not with its features. The ending of
an output says which is meant; anything without one of these endings is the directory that extraction writes.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dino4cells import storage
from dino4cells.config import Config
from dino4cells.errors import ConfigError
from dino4cells.features import published, store
from dino4cells.features.part_writer import MetadataColumns, PartWriter
from dino4cells.features.store import Features, FeaturesCard
from dino4cells.storage_errors import explain

Format = Literal["parquet", "pth", "h5ad"]
ENDINGS: Final[dict[str, Format]] = {".parquet": "parquet", ".pth": "pth", ".h5ad": "h5ad"}
CARD_KEY: Final = "dino4cells"
"""Where a file holds the features' card: in Parquet's metadata, and in AnnData's `uns`."""
logger = logging.getLogger(__name__)


def format_of(url: str) -> Format | None:
    """The format that a URL's ending says, or None: a directory."""
    return next((form for ending, form in ENDINGS.items() if url.lower().endswith(ending)), None)


def named(url: str, form: str | None) -> str:
    """The URL with the ending of a format that was asked for; Parquet without an ending is a directory.

    Raises:
        ConfigError: no such format, or an ending that says another one.
    """
    if form is None:
        return url
    if form not in ENDINGS.values():
        raise ConfigError(f"--format: there is no format '{form}'; choose parquet, pth or h5ad.")
    said = format_of(url)
    if said is not None and said != form:
        raise ConfigError(f"--format: {form} is asked for and the output {url} ends in .{said}; make them agree.")
    return url if said or form == "parquet" else f"{url}.{form}"


def check_tools(url: str) -> None:
    """Fail before any work, and not after it, where what writes a format is not installed.

    Raises:
        ModuleNotFoundError: for AnnData; names the package.
    """
    if format_of(url) == "h5ad":
        import anndata  # noqa: F401


@dataclass(frozen=True)
class Table:
    """Features whose numbers are read piece by piece.

    Attributes:
        metadata: all rows, as in `Features`.
        pieces: (rows, D) float32 of the following rows, anew at each call.
        card: of the features.
    """

    metadata: pd.DataFrame
    pieces: Callable[[], Iterator[NDArray[np.float32]]]
    card: FeaturesCard

    @property
    def columns(self) -> list[str]:
        """Names of the features."""
        return [f"{store.FEATURE}{number}" for number in range(self.card.embedding_dim)]


def export(features: str, output: str, config: Config | None = None) -> FeaturesCard:
    """Write features as one file, whole or not at all; baselines are left out.

    Args:
        features: URL of a features artifact, or of a file (`.pth`) in the published layout.
        output: URL of the file, whose ending says its format.
        config: says which labels a `.pth` holds, `embedding.embedding_has_labels` and its like.

    Returns:
        The card of the features.

    Raises:
        ConfigError: no such ending.
        DataError: the table lacks a column that the published layout needs.
    """
    form = format_of(output)
    if form is None:
        raise ConfigError(f"{output}: does not say which format is wanted; let it end in .parquet, .h5ad or .pth.")
    if form == "pth":
        return _write_published(store.read_features(features, config), output, config or Config())
    table = _table(features, config)
    with _whole(output) as path:
        (_write_parquet if form == "parquet" else _write_h5ad)(path, table)
    return table.card


def _table(features: str, config: Config | None) -> Table:
    if published.is_features_file(features):
        read = store.read_features(features, config)
        return Table(read.metadata, lambda: iter([read.dino]), read.card)
    artifact, card = store.open_features(features)
    return Table(store.read_metadata_columns(artifact, card), lambda: store.pieces(artifact, store.PART, store.FEATURE), card)


@contextmanager
def _whole(url: str) -> Iterator[Path]:
    """A path on this machine that becomes the file at `url` when the block ends well."""
    directory = storage.staging(storage.parent(url))
    try:
        yield directory / "file"
        storage.move(directory / "file", url)
    except OSError as error:
        raise explain(url if storage.is_local(url) else str(directory), error) from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _write_published(features: Features, output: str, config: Config) -> FeaturesCard:
    """The published layout, which has no place for a reason: a warning says where images could not be read."""
    labels = published.LabelColumns.from_config(config).lists(features.metadata, features.card.data)
    published.write_features_file(output, features.dino, labels)
    failures = features.metadata["dino_error"].dropna()
    if len(failures):
        logger.warning(
            "%s: %s of %s images could not be read; their features are NaN; the first: %s",
            output, f"{len(failures):,}", f"{len(features.dino):,}", failures.iloc[0],
        )  # fmt: skip
    return features.card


def _write_parquet(path: Path, table: Table) -> None:
    """The rows of all parts in one file, with the card in its metadata."""
    errors = table.metadata["dino_error"].astype(object).where(table.metadata["dino_error"].notna(), None).tolist()
    described, first = table.metadata.drop(columns=["dino_model", "dino_error"]), 0
    with PartWriter(path, MetadataColumns.of(described), table.columns) as part:
        part.describe(CARD_KEY, table.card)
        for piece in table.pieces():
            rows = np.arange(first, first + len(piece))
            part.write(piece, rows, table.card.model_fingerprint, errors[first : first + len(piece)])
            first += len(piece)


def _write_h5ad(path: Path, table: Table) -> None:
    """AnnData: `X` float32, `obs` the metadata, `uns` the card. Rows without features are NaN, and `obs.dino_error` says why."""
    import anndata
    import h5py

    obs = _observations(table.metadata)
    said = _plain(table.card.model_dump(mode="json"))
    anndata.AnnData(obs=obs, var=pd.DataFrame(index=table.columns), uns={CARD_KEY: said}).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        if "X" in file:
            del file["X"]
        rows = max(1, min(len(obs), store.ROWS_PER_GROUP))
        shape = (len(obs), len(table.columns))
        numbers = file.create_dataset("X", shape, np.float32, chunks=(rows, shape[1]) if len(obs) else None)
        numbers.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        first = 0
        for piece in table.pieces():
            numbers[first : first + len(piece)] = piece
            first += len(piece)


def _observations(metadata: pd.DataFrame) -> pd.DataFrame:
    """The columns as HDF5 can hold them: text as categories where it repeats or is missing, whatever is neither text nor number as text.

    A `/` in a column's name would be a path there, and `_index` the index; both are changed to a name that can be held.
    """
    columns: dict[str, Any] = {}
    for name, column in metadata.items():
        held = str(name).replace("/", "_")
        held = "index" if held == "_index" else held
        while held in columns:
            held += "_"
        columns[held] = _observed(column)
    observed: pd.DataFrame = pd.DataFrame(columns, index=pd.Index([str(row) for row in range(len(metadata))], dtype=object))
    return observed


def _observed(column: pd.Series[Any]) -> Any:
    """The values of a column of `obs`."""
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        return column.to_numpy()
    known = column.notna()
    text = column.astype(object).map(str)
    if bool(known.all()) and text.nunique() == len(text):
        return text.to_numpy(object)
    categories = pd.Index(sorted(text[known].unique()), dtype=object)
    return pd.Categorical(text.where(known, None), categories=categories)


def _plain(said: dict[str, Any]) -> dict[str, Any]:
    """What a card says as AnnData can hold it: text, numbers, lists of text; other lists as JSON; what is empty left out."""
    plain: dict[str, Any] = {}
    for name, value in said.items():
        if isinstance(value, dict) and value:
            plain[name.replace("/", "_")] = _plain(value)
        elif isinstance(value, list) and value:
            texts = all(isinstance(item, str) for item in value)
            plain[name.replace("/", "_")] = np.array(value, dtype=object) if texts else json.dumps(value)
        elif isinstance(value, (str, int, float)):
            plain[name.replace("/", "_")] = value
    return plain
