"""The table of cells: a CSV in the handbook's layout and the directory or URL that its `file` column is relative to."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import warnings
from dataclasses import dataclass

import pandas as pd

from dino4cells import storage
from dino4cells.errors import DataError

METADATA_FILE = "metadata.csv"
CHANNELS_FILE = "channels.txt"


@dataclass(frozen=True)
class Metadata:
    """One row a cell, in the order of the CSV.

    Attributes:
        frame: every column of the CSV; `file` and `ID` are text.
        source: URL of the CSV, for messages.
        root: URL that the `file` column is joined to.
        channels: channel names in order, when the data names them (`channels.txt`, one a line, at the root or beside the CSV), else None.
        fingerprint: SHA-256 of the CSV's bytes and the channel names; changes when the set of cells or their labels change.
    """

    frame: pd.DataFrame
    source: str
    root: str
    channels: tuple[str, ...] | None
    fingerprint: str

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def urls(self) -> list[str]:
        """URL of each cell's image, in row order."""
        return [storage.join(self.root, file) for file in self.frame["file"]]

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


def read_metadata(data: str, root: str | None = None) -> Metadata:
    """Read the table of cells.

    Args:
        data: a directory or URL that holds a `metadata.csv`, or the URL of a CSV itself.
        root: where the images are; the CSV's directory when None.

    Raises:
        DataError: no CSV there, no rows, no `file` column, or an empty `file` cell (with its row).
        StorageError: the URL cannot be reached.
    """
    source = data if data.lower().endswith(".csv") else storage.join(data, METADATA_FILE)
    if not storage.exists(source):
        raise DataError(
            f"{source}: no such file; give a directory or URL that holds a {METADATA_FILE} with a column 'file', one row a cell."
        )
    content = storage.read_bytes(source)
    directory = root or storage.parent(source)
    frame = _parse(content, source)
    channels = _read_channels(directory) or _read_channels(storage.parent(source))
    fingerprint = hashlib.sha256(content + repr(channels).encode()).hexdigest()
    return Metadata(frame, source, directory, channels, fingerprint)


def _parse(content: bytes, source: str) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            # Rows longer than the header; without `index_col` pandas would take their first cell for a row name, and shift the columns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # Only an empty cell is missing: 'NA' and 'None' are class names somewhere.
            text = {"file": str, "ID": str}
            frame = pd.read_csv(io.BytesIO(content), dtype=text, keep_default_na=False, na_values=[""], low_memory=False, index_col=False)
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{source}: not a CSV that can be read ({str(error).strip()}); save it as comma-separated UTF-8 text.") from error
    if "file" not in frame.columns:
        raise missing_column(source, "file", "the image of each cell", list(frame.columns))
    if frame.empty:
        raise DataError(f"{source}: the table has no rows; it needs one row a cell.")
    if (frame["file"].isna() | (frame["file"].str.strip() == "")).any():
        line = _line_without_file(content)
        raise DataError(f"{source}, line {line}: the column 'file' is empty; name the image of this cell or delete the row.")
    return frame


def _line_without_file(content: bytes) -> int:
    """Line of the first empty `file` cell as an editor counts: blank lines and line breaks in quotes included."""
    rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    return next((rows.line_num for row in rows if not (row["file"] or "").strip()), rows.line_num)


def _read_channels(directory: str) -> tuple[str, ...] | None:
    url = storage.join(directory, CHANNELS_FILE)
    if not storage.exists(url):
        return None
    names = tuple(line.strip() for line in storage.read_text(url).splitlines() if line.strip())
    if len(set(names)) != len(names):
        raise DataError(f"{url}: a channel name occurs twice ({', '.join(names)}); give each channel its own name, one a line.")
    return names or None
