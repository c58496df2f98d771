"""The table of cells: a CSV in one of the handbook's layouts and the directory or URL that its names of files are relative to."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import overload

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dino4cells import storage
from dino4cells.cache import Cache
from dino4cells.config import Config, ModelConfig
from dino4cells.data.containment import first_outside, first_with_control_character, first_with_secret
from dino4cells.data.layout import CHANNEL, CHANNEL_WIDTH, FILE, IMAGE_NAME, Layout
from dino4cells.data.shards import CARD, PackedImages, Shards
from dino4cells.errors import ConfigError, DataError
from dino4cells.printable import printable

METADATA_FILE = "metadata.csv"
CHANNELS_FILE = "channels.txt"
MAX_COLUMNS = 10_000
LONGEST_SHOWN = 200
"""Characters of a table's cell that messages show."""


@dataclass(frozen=True, eq=False)
class Urls(Sequence[str]):
    """URLs of many files, made when they are asked for: a table of millions of cells keeps their names alone, side by side.

    Attributes:
        root: URL that the names are joined to.
        files: the names, as Arrow's `large_string`.
    """

    root: str
    files: pa.Array

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Urls: ...
    def __getitem__(self, place: int | slice) -> str | Urls:
        if isinstance(place, slice):
            return Urls(self.root, self.files[place])
        return storage.join(self.root, self.files[place].as_py())


@dataclass(frozen=True)
class Metadata:
    """One row a cell, in the order of the CSV.

    Attributes:
        frame: every column of the CSV; `ID` and the columns that name files are text.
        source: URL of the CSV, for messages.
        root: URL that names of files are joined to.
        channels: channel names in order, when the data names them (`channels.txt`, one a line, at the root or beside the CSV), else None.
        fingerprint: SHA-256 of the CSV's bytes and the channel names; changes when the set of cells or their labels change.
        layout: which columns name the files, and whether these are strips.
        shards: what a packed directory holds; None where the images are files of their own.
        cache: keeps images that come from a store; None: each is read whenever it is wanted.
    """

    frame: pd.DataFrame
    source: str
    root: str
    channels: tuple[str, ...] | None
    fingerprint: str
    layout: Layout = field(default_factory=Layout)
    shards: Shards | None = None
    cache: Cache | None = None

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def urls(self) -> Urls:
        """URL of each cell's image, in row order; holds `{channel}` where each channel has its own file."""
        return Urls(self.root, self.layout.files(self.frame))

    @cached_property
    def has_file_per_channel(self) -> bool:
        """Whether each channel of some image has a file of its own."""
        return bool(pc.any(pc.match_substring(self.urls.files, CHANNEL)).as_py())

    @cached_property
    def packed(self) -> PackedImages | None:
        """Where the images are in the shards of a packed directory; None where they are files of their own."""
        return PackedImages.of(self.shards, self.urls.files) if self.shards else None

    def column(self, name: str, purpose: str) -> pd.Series:
        """The column `name`, or a DataError that names the columns there are and what `name` was wanted for."""
        if name not in self.frame.columns:
            raise missing_column(self.source, name, purpose, list(self.frame.columns))
        return self.frame[name]


def missing_column(source: str, name: str, purpose: str, columns: list[str]) -> DataError:
    """The error for a column that a table does not have."""
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"it has: {', '.join(columns)}."
    return DataError(f"{source}: there is no column '{name}' ({purpose}); {hint}")


def read_metadata(data: str, root: str | None = None, layout: Layout | None = None, cache: Cache | None = None) -> Metadata:
    """Read the table of cells.

    Args:
        data: a directory or URL that holds a `metadata.csv`, or the URL of a CSV itself.
        root: where the images are; the CSV's directory when None.
        layout: what the columns mean; a column `file` when None.
        cache: keeps images that come from a store.

    Raises:
        DataError: no CSV there, no rows, no column that names the files, an empty cell in it, or a file outside `root` (with its line).
        StorageError: the URL cannot be reached.
    """
    layout = layout or Layout()
    source = data if data.lower().endswith(".csv") else storage.join(data, METADATA_FILE)
    if not storage.exists(source):
        raise DataError(
            f"{source}: no such file; give a directory or URL that holds a {METADATA_FILE} with a column '{layout.columns[0]}', "
            "one row a cell."
        )
    content = storage.read_bytes(source)
    directory = root or storage.parent(source)
    frame = _parse(content, source, layout)
    is_packed = storage.exists(storage.join(directory, CARD))
    if not is_packed:  # whose names are looked up and never opened
        _check_files(layout, frame, content, source, directory)
    channels = _read_channels(directory) or _read_channels(storage.parent(source))
    fingerprint = hashlib.sha256(content + repr(channels).encode()).hexdigest()
    shards = Shards.read_index(directory, cache) if is_packed else None
    return Metadata(frame, source, directory, channels, fingerprint, layout, shards, cache)


def image_cache(model: ModelConfig) -> Cache | None:
    """What keeps the images of a run that come from a store; None where `model.cache_dir` names no directory."""
    return Cache(Path(model.cache_dir).expanduser(), round(model.cache_gb * 1e9)) if model.cache_dir else None


def read_table(config: Config, data: str | None = None, csv: str | None = None) -> Metadata:
    """Read the table of cells that a configuration means.

    Args:
        config: `model.data_path`, `model.root`, the layout and the cache are used.
        data: directory or URL that holds a `metadata.csv`, in place of the configuration's.
        csv: a table in place of `model.data_path`.

    Raises:
        ConfigError: nobody says where the table is, or the layout contradicts itself.
        DataError: as `read_metadata`.
    """
    layout, cache = Layout.of(config.model), image_cache(config.model)
    if data:
        return read_metadata(data, layout=layout, cache=cache)
    path = csv or config.model.data_path
    if not path:
        raise ConfigError("model.data_path: is not given; say where the table of cells (metadata.csv) is, there or by --data.")
    return read_metadata(path, config.model.root, layout, cache)


def _parse(content: bytes, source: str, layout: Layout) -> pd.DataFrame:
    header = content[: (content.find(b"\n") + 1) or len(content)]
    if header.count(b",") >= MAX_COLUMNS:
        raise DataError(
            f"{source}: the first line has {header.count(b',') + 1:,} columns, and at most {MAX_COLUMNS:,} are read; leave some out."
        )
    if (place := content.find(b"\0")) >= 0:  # where pandas would end the cell without a word; UTF-16 has many
        line = content.count(b"\n", 0, place) + 1
        raise DataError(f"{source}: not a CSV that can be read (a NUL byte in line {line}); save it as comma-separated UTF-8 text.")
    try:
        with warnings.catch_warnings():
            # Rows longer than the header; without `index_col` pandas would take their first cell for a row name, and shift the columns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # Only an empty cell is missing: 'NA' and 'None' are class names somewhere.
            text = dict.fromkeys((FILE, IMAGE_NAME, "ID", *layout.columns, *([CHANNEL_WIDTH] if layout.has_strips else [])), str)
            frame = pd.read_csv(io.BytesIO(content), dtype=text, keep_default_na=False, na_values=[""], low_memory=False, index_col=False)
    except (ValueError, LookupError, OverflowError, pd.errors.ParserWarning) as error:  # pandas' errors are ValueErrors
        reason = printable(" ".join(str(error).split()), LONGEST_SHOWN)
        raise DataError(f"{source}: not a CSV that can be read ({reason}); save it as comma-separated UTF-8 text.") from error
    purpose = "the image of each cell" if layout.file_pattern is None else f"model.file_pattern '{layout.file_pattern}'"
    for column in layout.columns:
        if column not in frame.columns:
            raise missing_column(source, column, purpose, list(frame.columns))
    if layout.has_strips and CHANNEL_WIDTH not in frame.columns:
        raise missing_column(source, CHANNEL_WIDTH, "the width of one channel in a CellPainting strip", list(frame.columns))
    if frame.empty:
        raise DataError(f"{source}: the table has no rows; it needs one row a cell.")
    for column in layout.columns:
        empty = frame[column].isna() | (frame[column].str.strip() == "")
        if empty.any():
            line = _line(content, int(empty.argmax()))
            raise DataError(f"{source}, line {line}: the column '{column}' is empty; name the image of this cell or delete the row.")
    if layout.has_strips:
        frame[CHANNEL_WIDTH] = _widths(frame[CHANNEL_WIDTH], content, source)
    return frame


def _check_files(layout: Layout, frame: pd.DataFrame, content: bytes, source: str, directory: str) -> None:
    """Refuse names that no file has, and, where it is not allowed, those of files outside of the images' directory."""
    files = layout.files(frame)
    if (row := first_with_control_character(files)) is not None:
        what = "has a control character in it and is no name of a file; correct the row, or delete it"
    elif (row := first_with_secret(files)) is not None:
        what = "holds a password, a token or a signature, which features and logs would show; give the address without"
    elif not layout.files_outside_root and (row := first_outside(directory, files)) is not None:
        what = (
            f"is not below {directory}, where the images are; correct it, set model.root to a directory that is above all images, or "
            "set model.files_outside_root to true"
        )
    else:
        return
    raise DataError(f"{source}, line {_line(content, row)}: the file '{printable(files[row].as_py(), LONGEST_SHOWN)}' {what}.")


def _widths(cells: pd.Series, content: bytes, source: str) -> pd.Series:
    """The column `channel_width` as whole numbers of pixels."""
    widths = pd.to_numeric(cells, errors="coerce")
    wrong = ~((widths >= 1) & (widths % 1 == 0))
    if wrong.any():
        row = int(wrong.argmax())
        value = "empty" if pd.isna(cells.iloc[row]) else f"'{cells.iloc[row]}'"
        raise DataError(
            f"{source}, line {_line(content, row)}: the column '{CHANNEL_WIDTH}' is {value} and must be the width of one channel in "
            "pixels, a whole number; correct it or delete the row."
        )
    return widths.astype("int64")


def _line(content: bytes, row: int) -> int:
    """Line of a row as an editor counts: blank lines and line breaks in quotes included; the last line of a row that has many."""
    rows = csv.reader(io.StringIO(content.decode("utf-8-sig", "replace"), newline=""))
    filled = (rows.line_num for cells in rows if cells)
    try:
        return next(itertools.islice(filled, row + 1, None), rows.line_num)
    except csv.Error:  # a cell of more than 131,072 characters
        return row + 2


def _read_channels(directory: str) -> tuple[str, ...] | None:
    url = storage.join(directory, CHANNELS_FILE)
    if not storage.exists(url):
        return None
    names = tuple(line.strip() for line in storage.read_text(url).splitlines() if line.strip())
    if len(set(names)) != len(names):
        raise DataError(f"{url}: a channel name occurs twice ({', '.join(names)}); give each channel its own name, one a line.")
    return names or None
