"""Features as one file in the published layout (HANDBOOK, Files): what the original's classifiers and notebooks read.

A list, saved by torch: the features (N, D) as float32, then one list of N per label column: of a table with labels the targets (a tensor
of 0/1 per row where `target_labels` names columns, else the text of `protein_location`), `cell_type` and `ID`; of one without, `ID`; of
Cell Painting, `Target`. The layout has no place for a reason: the features of an image that could not be read are NaN.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dino4cells import storage
from dino4cells.config import Config
from dino4cells.data.metadata import Metadata
from dino4cells.errors import ArtifactError, DataError
from dino4cells.torch_files import FEATURES, Unread, load_torch_bytes

ENDING = ".pth"
TARGETS, CELL_TYPE, ID, TREATMENT = "protein_location", "cell_type", "ID", "Target"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelColumns:
    """Which columns of the table a file of features holds, in order.

    Attributes:
        names: a column each; `targets` stand where `protein_location` does, if there are any.
        targets: names of the 0/1 columns whose values form a row of the target matrix, sorted as the original sorts them.
    """

    names: tuple[str, ...]
    targets: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, config: Config) -> LabelColumns:
        """Those that the original writes for this configuration."""
        embedding = config.embedding
        if config.model.datatype == "CellPainting":
            return cls((TREATMENT,))
        if not embedding.embedding_has_labels:
            return cls((ID,))
        return cls((TARGETS, CELL_TYPE, ID), tuple(sorted(embedding.target_labels or ())))

    @property
    def columns(self) -> list[str]:
        """The table's columns that are needed."""
        return [name for name in self.names if name != TARGETS or not self.targets] + list(self.targets)

    def check(self, metadata: Metadata) -> None:
        """Refuse a table without one of the columns, before any image is read.

        Raises:
            DataError: names the column.
        """
        purpose = "written to the features' .pth file; see embedding.embedding_has_labels and embedding.target_labels"
        for name in self.columns:
            metadata.column(name, purpose)
        _target_matrix(metadata.frame, self.targets, metadata.source)

    def lists(self, frame: pd.DataFrame, source: str) -> list[list[Any]]:
        """The lists that follow the features, a value or a row of targets for each row of the table."""
        matrix = _target_matrix(frame, self.targets, source)
        return [list(matrix.unbind()) if name == TARGETS and self.targets else _plain(frame[name]) for name in self.names]


def is_features_file(url: str) -> bool:
    """Whether a URL means one file in the published layout."""
    return url.lower().endswith(ENDING)


def write_features_file(url: str, features: NDArray[np.float32], labels: Sequence[list[Any]]) -> None:
    """Write features (N, D) and the lists of labels as one file, at once."""
    buffer = io.BytesIO()
    torch.save([torch.from_numpy(features), *labels], buffer)
    storage.write_bytes(url, buffer.getvalue())


def read_features_file(url: str) -> tuple[NDArray[np.float32], list[NDArray[Any]], bytes]:
    """Features (N, D), label columns (N,) or (N, L), and the content of a file in the published layout.

    The metadata table that the paper's own files hold as their last item is a program for pandas, and is left out with a warning.

    Raises:
        ArtifactError: damaged, holding code, or of another layout.
        StorageError: not there, or not readable.
    """
    content = storage.read_bytes(url)
    loaded = load_torch_bytes(content, url, FEATURES)
    items = list(loaded) if isinstance(loaded, (list, tuple)) else []
    if items and isinstance(items[-1], Unread):
        logger.warning(
            "%s: the metadata table inside is not read, since reading a table of pandas runs what the file says; labels and IDs are.", url
        )
        items.pop()
    if not items or not isinstance(items[0], (torch.Tensor, np.ndarray)) or items[0].ndim != 2:
        raise _other_layout(url, "its first item is no table of numbers")
    features = np.ascontiguousarray(np.asarray(items[0]), np.float32)
    columns = []
    for number, item in enumerate(items[1:], start=2):
        column = _column(item)
        if column is None or len(column) != len(features):
            raise _other_layout(url, f"item {number} is no list of {len(features)} labels")
        columns.append(column)
    return features, columns, content


def named_columns(columns: Sequence[NDArray[Any]], labels: LabelColumns) -> pd.DataFrame:
    """The label columns of a file as a table; a matrix becomes a column for each of its targets.

    Args:
        columns: as `read_features_file` returns them.
        labels: names, where there are as many.
    """
    names = {1: labels.names if len(labels.names) == 1 else (ID,), 3: (TARGETS, CELL_TYPE, ID)}
    table: dict[str, NDArray[Any]] = {}
    for position, column in enumerate(columns):
        name = names[len(columns)][position] if len(columns) in names else f"label_{position}"
        if column.ndim == 1:
            table[name] = column
            continue
        given = labels.targets if position == 0 and len(labels.targets) == column.shape[1] else ()
        prefix = "label" if name == TARGETS else name
        for index in range(column.shape[1]):
            table[given[index] if given else f"{prefix}_{index}"] = column[:, index]
    frame: pd.DataFrame = pd.DataFrame(table)
    return frame


def _other_layout(url: str, reason: str) -> ArtifactError:
    return ArtifactError(f"{url}: is no file of features ({reason}); give one that `dino4cells extract` or run_get_features.py wrote.")


def _target_matrix(frame: pd.DataFrame, targets: Sequence[str], source: str) -> torch.Tensor:
    """The 0/1 columns as a tensor (N, L), int64."""
    for name in targets:
        values = pd.to_numeric(frame[name], errors="coerce")
        wrong = ~values.isin([0, 1])
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise DataError(
                f"{source}: the column '{name}' of embedding.target_labels is '{frame[name].iloc[row]}' in row {row + 1}; "
                "it must be 0 or 1 everywhere."
            )
    return torch.from_numpy(frame[list(targets)].astype("int64").to_numpy().reshape(len(frame), len(targets)).copy())


def _plain(column: pd.Series) -> list[Any]:
    """Values as text, numbers or truth values; an empty cell is an empty text."""
    return [value.item() if isinstance(value, np.generic) else value for value in column.astype(object).where(column.notna(), "")]


def _column(item: object) -> NDArray[Any] | None:
    """An item of the list as an array (N,) or (N, L), or None where it is none."""
    if isinstance(item, (torch.Tensor, np.ndarray)):
        array = np.asarray(item)
        return array if array.ndim in (1, 2) else None
    if not isinstance(item, (list, tuple)):
        return None
    rows = [value for value in item if isinstance(value, torch.Tensor) and value.ndim == 1]
    if rows:
        alike = len(rows) == len(item) and len({len(row) for row in rows}) == 1
        return torch.stack(rows).numpy() if alike else None
    # The original's batches turn numbers into tensors, empty cells (not a number) among them.
    values = [value.item() if isinstance(value, torch.Tensor) and value.ndim == 0 else value for value in item]
    if not all(isinstance(value, (str, int, float, bool, type(None))) for value in values):
        return None
    return np.array([None if value == "" or value != value else value for value in values], dtype=object)
