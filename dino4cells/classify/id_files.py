"""Files that list the `ID`s of cells: how the paper splits its cells into training and validation."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd

from dino4cells import storage
from dino4cells.errors import DataError
from dino4cells.torch_files import FEATURES, read_torch_file

ID = "ID"
TORCH_FILES = (".pth", ".pt")


def is_torch_file(url: str) -> bool:
    """Whether a URL ends as a file that `torch.save` wrote."""
    return url.lower().endswith(TORCH_FILES)


def listed_ids(url: str) -> list[str] | None:
    """The IDs in a text file, one a line, or in a CSV's column `ID` or only column; None where the file is a table of images or no text.

    Raises:
        DataError: no IDs in it.
    """
    if url.lower().endswith(".txt"):
        return _not_empty([line.strip() for line in storage.read_text(url).splitlines()], url)
    if not url.lower().endswith(".csv"):
        return None
    try:
        frame = pd.read_csv(io.BytesIO(storage.read_bytes(url)), dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{url}: not a CSV that can be read ({str(error).strip()}); write one ID a line.") from error
    if "file" in frame:
        return None
    if ID not in frame and frame.shape[1] > 1:
        raise DataError(f"{url}: there is no column '{ID}'; it has: {', '.join(frame.columns)}.")
    # A file of one column without a header begins with an ID.
    return _not_empty(list(frame[ID]) if ID in frame else [*frame.columns, *frame.iloc[:, 0]], url)


def ids_of_table(url: str) -> list[str]:
    """The IDs in the column `ID` of a table of images."""
    frame = pd.read_csv(io.BytesIO(storage.read_bytes(url)), dtype=str, keep_default_na=False)
    if ID not in frame:
        raise DataError(f"{url}: there is no column '{ID}'; it has: {', '.join(frame.columns)}.")
    return _not_empty(list(frame[ID]), url)


def ids_of_torch_file(url: str) -> list[str] | None:
    """The IDs of a list or an array that `torch.save` wrote; None where it holds anything else.

    Raises:
        ArtifactError: damaged, or holding code.
    """
    content = read_torch_file(url, FEATURES)
    values = content.tolist() if isinstance(content, np.ndarray) else content
    if isinstance(values, (list, tuple)) and values and all(isinstance(value, (str, int)) for value in values):
        return [str(value) for value in values]
    return None


def _not_empty(ids: list[str], url: str) -> list[str]:
    ids = [name for name in ids if name]
    if not ids:
        raise DataError(f"{url}: lists no IDs; write one a line.")
    return ids
