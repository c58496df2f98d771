"""Features as one file for other tools: Parquet, AnnData (`.h5ad`), or the published layout (`.pth`).

All but the published layout are written in pieces, so that memory grows with the table of cells and not with its features. The ending of
an output says which is meant; anything without one of these endings is the directory that extraction writes.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from dino4cells import storage
from dino4cells.config import Config
from dino4cells.errors import ConfigError
from dino4cells.features import published, store
from dino4cells.features.anndata_file import write_h5ad
from dino4cells.features.card import ERROR, FeaturesCard
from dino4cells.features.parquet_file import write_parquet
from dino4cells.features.store import Features
from dino4cells.storage_errors import explain

Format = Literal["parquet", "pth", "h5ad"]
ENDINGS: Final[dict[str, Format]] = {".parquet": "parquet", ".pth": "pth", ".h5ad": "h5ad"}
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


def export(features: str, output: str, config: Config | None = None) -> FeaturesCard:
    """Write features as one file, whole or not at all; baselines are left out.

    Args:
        features: URL of features, as `store.open_table` takes them.
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
    table = store.open_table(features, config)
    with _whole(output) as path:
        (write_parquet if form == "parquet" else write_h5ad)(path, table)
    return table.card


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
    failures = features.metadata[ERROR].dropna()
    if len(failures):
        logger.warning(
            "%s: %s of %s images could not be read; their features are NaN; the first: %s",
            output, f"{len(failures):,}", f"{len(features.dino):,}", failures.iloc[0],
        )  # fmt: skip
    return features.card
