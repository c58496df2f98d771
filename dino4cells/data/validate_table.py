"""What is wrong with a table of cells, found without opening an image: the files that there are are listed once.

A table of a million cells takes seconds where its images would take hours.
"""

from __future__ import annotations

import posixpath
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dino4cells import storage
from dino4cells.config import Config
from dino4cells.data.findings import EXAMPLES, Findings, Problem
from dino4cells.data.layout import CHANNEL
from dino4cells.data.metadata import Metadata
from dino4cells.data.stored import StoredImages
from dino4cells.data.validate import label_columns
from dino4cells.storage_s3 import plain


def validate_table(metadata: Metadata, config: Config) -> Findings:
    """Look at a table, and which of its files there are, and at no image.

    Args:
        metadata: the table of cells.
        config: names of the channels and labels.

    Raises:
        ConfigError: each channel has its own file, and nobody names the channels.
        StorageError: the directory of the images cannot be listed.
    """
    begun = time.monotonic()
    names = StoredImages.of(metadata, metadata.channels or config.model.channels).names
    files = metadata.urls.files
    problems = [
        _problem("missing", "there is no such file", _missing(metadata, files, names), files),
        _problem("same file", "several cells have the same file", _repeated(files), files),
    ]
    labels, binary = label_columns(metadata, config)
    return Findings(
        data=metadata.source,
        rows=len(metadata),
        images_seen=False,
        readable=0,
        channel_names=list(names) if names else None,
        channels={},
        heights=None,
        widths=None,
        distinct_sizes=0,
        kinds={},
        constant_channels={},
        labels=labels,
        binary_labels=binary,
        problems=[problem for problem in problems if problem.count],
        seconds=round(time.monotonic() - begun, 3),
        images_per_second=0.0,
    )


def _problem(kind: str, meaning: str, rows: NDArray[np.int64], files: pa.Array) -> Problem:
    examples = [f"cell {row + 1}: {files[row].as_py()}" for row in rows[:EXAMPLES].tolist()]
    return Problem(kind=kind, count=len(rows), meaning=meaning, examples=examples)


def _repeated(files: pa.Array) -> NDArray[np.int64]:
    """Rows whose file an earlier row has too."""
    return np.flatnonzero(pd.Series(files.dictionary_encode().indices.to_numpy()).duplicated())


def _missing(metadata: Metadata, files: pa.Array, channels: tuple[str, ...] | None) -> NDArray[np.int64]:
    """Rows of which a file is not there."""
    if metadata.packed is not None:
        return np.flatnonzero(metadata.packed.row_N < 0)
    there = pa.array(storage.list_files(metadata.root), pa.large_string())
    missing_N = np.zeros(len(files), np.bool_)
    for channel in (channels or ("",)) if metadata.has_file_per_channel else ("",):
        named = pc.replace_substring(files, CHANNEL, channel) if channel else files
        found_N = pc.is_in(named, value_set=there).to_numpy(zero_copy_only=False)
        missing_N |= ~found_N
    # Names that are written otherwise than they are listed, such as ./a.png or with the directory before them.
    rows = np.flatnonzero(missing_N)
    listed = set(there.to_pylist()) if len(rows) else set()
    left = [row for row in rows.tolist() if not all(name in listed for name in _names(metadata, files[row].as_py(), channels))]
    return np.asarray(left, np.int64)


def _names(metadata: Metadata, file: str, channels: tuple[str, ...] | None) -> list[str]:
    """The files of a row as a listing of the root has them."""
    base = posixpath.normpath(plain(storage.absolute(metadata.root)))
    whole = posixpath.normpath(plain(storage.join(storage.absolute(metadata.root), file)))
    name = whole.removeprefix(f"{base}/")
    return [name.replace(CHANNEL, channel) for channel in channels or ()] if CHANNEL in name else [name]
