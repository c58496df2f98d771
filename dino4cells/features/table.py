"""Features whose numbers are read piece by piece, wherever they are, and what is known of a file of them that other tools have written.

Dimensions: N rows, D features.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dino4cells.artifacts import Artifact, SingleFile
from dino4cells.errors import ArtifactError, Dino4CellsError
from dino4cells.features.card import ERROR, FEATURE, MODEL, FeaturesCard, other_names
from dino4cells.printable import printable

ROWS_PER_GROUP = 4096
"""Rows that are read or written at once."""

Pieces = Callable[[], Iterator[NDArray[np.float32]]]
"""The numbers (rows, D) of some rows after the other, anew at each call."""
_FEATURE = re.compile(rf"{FEATURE}(\d+)")


@dataclass(frozen=True)
class Table:
    """Features of N rows in the order of the table of cells.

    Attributes:
        metadata: the table's columns without prefix, and `dino_model`, `dino_error` (missing where all is well).
        pieces: their numbers.
        card: what they are.
        artifact: where they are.
    """

    metadata: pd.DataFrame
    pieces: Pieces
    card: FeaturesCard
    artifact: Artifact | SingleFile

    def matrix(self) -> NDArray[np.float32]:
        """All numbers (N, D); they are never held twice."""
        return joined(self.pieces(), (self.card.rows, self.card.embedding_dim))


def joined(pieces: Iterator[NDArray[np.float32]], shape: tuple[int, int]) -> NDArray[np.float32]:
    """The matrix of this shape that the pieces make."""
    matrix_ND, first = np.empty(shape, np.float32), 0
    for piece in pieces:
        if len(piece) == len(matrix_ND):
            return piece
        matrix_ND[first : first + len(piece)] = piece
        first += len(piece)
    return matrix_ND


def feature_names(names: Sequence[str], url: str) -> list[str]:
    """Those of a file's columns that are features, by their numbers: `dino_2` before `dino_10`, whatever their order in the file.

    Raises:
        ArtifactError: there is none, or one twice.
    """
    found = [name for name in names if _FEATURE.fullmatch(name)]
    if not found:
        some = printable(", ".join(names[:5]), 200)
        raise not_features(url, f"it has no columns {FEATURE}0, {FEATURE}1, …, but {some or 'none'}")
    if len(set(found)) != len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise not_features(url, f"it has the column {twice} twice")
    return sorted(found, key=lambda name: int(name.removeprefix(FEATURE)))


def not_features(url: str, reason: str) -> ArtifactError:
    """The error for a file that holds no features."""
    return ArtifactError(
        f"{url}: is no file of features ({reason}); give one that dino4cells features export wrote, or that was made of it."
    )


@contextmanager
def readable(url: str) -> Iterator[None]:
    """Inside, whatever a reader raises of a file is an error that names it."""
    try:
        yield
    except (Dino4CellsError, ModuleNotFoundError):
        raise
    except Exception as error:  # damage comes to light wherever a reader stumbles over it
        reason = printable(str(error).partition("\n")[0], 200) or type(error).__name__
        raise ArtifactError(f"{url}: cannot be read as features ({reason}); write it again.") from error


def table_of_file(
    url: str, fingerprint: str, names: Sequence[str], metadata: pd.DataFrame, pieces: Pieces, said: FeaturesCard | None
) -> Table:
    """The features of one file, which another tool may have changed since they were exported: rows left out, columns left out or added.

    What its card says of rows and columns is therefore counted anew. A row without a number in some feature has none, as one whose image
    could not be read.

    Args:
        url: of the file.
        fingerprint: SHA-256 of its content.
        names: of its features, in the order of `pieces`.
        metadata: its other columns, without prefix.
        pieces: its numbers.
        said: the card in it, or None: it has none.

    Raises:
        ArtifactError: it has no rows, or features of several models, or a feature that is no number in any row.
    """
    metadata = metadata.reset_index(drop=True)
    reasons = _reasons(url, names, metadata, pieces)
    models = _models(metadata)
    if len(models) > 1:
        raise ArtifactError(f"{url}: holds features of {len(models)} models; write those of each model into a file of their own.")
    model = next(iter(models), "")
    failed = sum(reason is not None for reason in reasons)
    if said is None or (model and model != said.model_fingerprint):
        card = FeaturesCard.of_file(url, rows=len(metadata), failed_rows=failed, columns=names, model_fingerprint=model)
    else:
        counted = {"rows": len(metadata), "failed_rows": failed, "embedding_dim": len(names), "columns": other_names(names)}
        card = said.model_copy(update={**counted, "baselines": False})
    columns = metadata.drop(columns=[name for name in (MODEL, ERROR) if name in metadata])
    columns = columns.assign(**{MODEL: card.model_fingerprint, ERROR: pd.Series(reasons, dtype=object)})
    return Table(columns, pieces, card, SingleFile(url, fingerprint))


def _models(metadata: pd.DataFrame) -> set[str]:
    """Fingerprints of the models that the rows come from, as far as they say so."""
    return {str(model) for model in metadata[MODEL].dropna().unique()} - {""} if MODEL in metadata else set()


def _reasons(url: str, names: Sequence[str], metadata: pd.DataFrame, pieces: Pieces) -> list[str | None]:
    """Why each row has no features: what the file says, or which of them is no number."""
    said = metadata[ERROR] if ERROR in metadata else pd.Series([None] * len(metadata), dtype=object)
    reasons: list[str | None] = [None if pd.isna(reason) or not str(reason) else str(reason) for reason in said]
    known_D, first = np.zeros(len(names), bool), 0
    for piece in pieces():
        finite = np.isfinite(piece)
        known_D |= finite.any(axis=0)
        for row in np.flatnonzero(~finite.all(axis=1)):
            name = names[int(np.argmin(finite[row]))]
            reasons[first + row] = reasons[first + row] or f"{url}: row {first + row + 1} has no number in {name}"
        first += len(piece)
    if not first:
        raise not_features(url, "it has no rows")
    if not known_D.all() and known_D.any():
        empty = [name for name, known in zip(names, known_D, strict=True) if not known]
        more = f", nor has {'one' if len(empty) == 2 else f'any of {len(empty) - 1:,}'} more" if len(empty) > 1 else ""
        raise ArtifactError(f"{url}: the feature {empty[0]} has no number in any row{more}; leave such features out of the file.")
    return reasons
