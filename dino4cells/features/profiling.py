"""From features of cells to profiles: normalization by plate, medians of groups, sphering, correction of batches.

Each step changes a matrix in place or gives a smaller one. Rows without features (NaN) stay so, and no number is computed from them.

Dimensions: N rows, D features, G groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from dino4cells.errors import DataError

Normalization = Literal["robust", "standard", "none"]
MAD_OF_NORMAL: Final = 1.4826
"""Standard deviations of a normal distribution in its median absolute deviation."""
COLUMNS_AT_ONCE: Final = 512
COUNT: Final = "cells"
"""The column that a group's profile has for the number of its cells."""

Matrix = NDArray[np.float32]
Rows = NDArray[np.int64]


class Profiling(BaseModel):
    """What is done to features, in this order; `features.json` holds it of what has been done."""

    model_config = ConfigDict(frozen=True)

    normalize: Normalization = Field(default="robust", description="robust: (x − median) / MAD; standard: (x − mean) / deviation; none.")
    by: tuple[str, ...] = Field(default=("plate",), description="Columns; rows that agree in them are normalized together.")
    controls: str | None = Field(default=None, description="Rows that normalization and sphering are measured on; None: all.")
    aggregate: tuple[str, ...] = Field(default=(), description="Columns; the median of rows that agree in them becomes one row.")
    sphere: bool = Field(default=False, description="Decorrelate the features as the controls have them.")
    regularization: float = Field(default=0.01, ge=0, description="Added to the eigenvalues, whose mean is 1, before sphering.")
    harmony: tuple[str, ...] = Field(default=(), description="Columns of batches that Harmony (Korsunsky et al. 2019) aligns.")
    features: str = Field(default="", description="URL of the features that it was done to.")
    features_fingerprint: str = ""


def groups_of(table: pd.DataFrame, columns: Sequence[str]) -> list[Rows]:
    """Rows that agree in the columns, in the order of their first; missing values agree. Without columns, all rows."""
    if not columns:
        return [np.arange(len(table))]
    number_N = table.groupby(list(columns), sort=False, dropna=False, observed=True).ngroup().to_numpy()
    order_N = np.argsort(number_N, kind="stable")
    return np.split(order_N, np.flatnonzero(np.diff(number_N[order_N])) + 1)


def with_features(matrix_ND: Matrix) -> NDArray[np.bool_]:
    """Rows (N,) that are no failed ones."""
    return np.asarray(~np.isnan(matrix_ND).any(axis=1))


def normalize(
    matrix_ND: Matrix, table: pd.DataFrame, by: Sequence[str], kind: Normalization, controls_N: NDArray[np.bool_] | None, where: str
) -> None:
    """Centre and scale the features of each group by those of its controls, in place; one that is constant there is only centred.

    Args:
        matrix_ND: of all rows.
        table: of all rows.
        by: columns of the table; rows that agree in them are a group.
        kind: `robust` is pycytominer's mad_robustize, `standard` its standardize.
        controls_N: the rows to measure on; all where None.
        where: what messages call the rows.

    Raises:
        DataError: a group has fewer than two controls with features.
    """
    if kind == "none":
        return
    known_N = with_features(matrix_ND)
    for rows in groups_of(table, by):
        measured = rows[known_N[rows] & (True if controls_N is None else controls_N[rows])]
        if len(measured) < 2:
            what = "rows with features" if controls_N is None else "controls"
            group = ", ".join(f"{name} {table[name].iloc[rows[0]]}" for name in by) or "the table"
            raise DataError(
                f"{where}: {group} has {len(measured)} {what}, of which normalization takes two and more; choose other controls, or "
                "normalize by other columns (--by)."
            )
        for columns in _columns(matrix_ND.shape[1]):
            sample = matrix_ND[measured, columns].astype(np.float64)
            if kind == "robust":
                centre_D = np.median(sample, axis=0)
                scale_D = MAD_OF_NORMAL * np.median(np.abs(sample - centre_D), axis=0)
            else:
                centre_D, scale_D = sample.mean(axis=0), sample.std(axis=0)
            scale_D[scale_D == 0] = 1
            matrix_ND[rows, columns] = (matrix_ND[rows, columns] - centre_D) / scale_D


def medians(matrix_ND: Matrix, groups: Sequence[Rows]) -> Matrix:
    """The median of each group's rows with features (G, D); NaN where there is none."""
    known_N = with_features(matrix_ND)
    profiles_GD = np.full((len(groups), matrix_ND.shape[1]), np.nan, np.float32)
    for profile_D, rows in zip(profiles_GD, groups, strict=True):
        if known_N[rows].any():
            profile_D[:] = np.median(matrix_ND[rows[known_N[rows]]], axis=0)
    return profiles_GD


def described(table: pd.DataFrame, groups: Sequence[Rows], known_N: NDArray[np.bool_]) -> pd.DataFrame:
    """A row for each group: the columns that are constant within every group, and how many cells its profile is the median of.

    Args:
        table: a row for each cell, or for each profile of cells, which then has the count of them.
        groups: rows.
        known_N: rows with features.
    """
    first_G = np.array([rows[0] for rows in groups], np.int64)
    of_row_N = np.empty(len(table), np.int64)
    for rows in groups:
        of_row_N[rows] = rows[0]
    kept = {}
    for name, column in table.items():
        codes_N, _ = pd.factorize(column, use_na_sentinel=True)
        if name != COUNT and (codes_N == codes_N[of_row_N]).all():
            kept[name] = column.iloc[first_G].reset_index(drop=True)
    counts_N = table[COUNT].to_numpy() if COUNT in table.columns else np.ones(len(table), np.int64)
    counts = [int(counts_N[rows[known_N[rows]]].sum()) for rows in groups]
    profiles: pd.DataFrame = pd.DataFrame({**kept, COUNT: counts}, index=pd.RangeIndex(len(groups)))
    return profiles


def sphere(matrix_ND: Matrix, controls_N: NDArray[np.bool_] | None, regularization: float, where: str) -> None:
    """Make the features of the controls uncorrelated and of unit variance, in place; features that are constant there become 0.

    ZCA of the correlation matrix (Kessy et al. 2018), pycytominer's `ZCA-cor`: x ← z V (Λ + ε)^(−1/2) Vᵀ, where z is x standardized by the
    controls and V Λ Vᵀ their correlation. With ε, directions that controls hardly differ in are not blown up, and fewer controls than
    features are enough.

    Raises:
        DataError: there are fewer than three controls with features.
    """
    known_N = with_features(matrix_ND)
    sample_KD = matrix_ND[known_N if controls_N is None else known_N & controls_N].astype(np.float64)
    if len(sample_KD) < 3:
        raise DataError(
            f"{where}: sphering has {len(sample_KD)} controls and takes three and more; aggregate by less (such as well), or choose others."
        )
    centre_D, scale_D = sample_KD.mean(axis=0), sample_KD.std(axis=0)
    varied_D = scale_D > 0
    scale_D[~varied_D] = 1
    sample_KD -= centre_D
    sample_KD /= scale_D
    eigenvalues_D, vectors_DD = np.linalg.eigh(sample_KD.T @ sample_KD / (len(sample_KD) - 1))
    inverse_D = 1 / np.sqrt(np.maximum(eigenvalues_D, 0) + max(regularization, np.finfo(np.float32).eps))
    sphering_DD = (vectors_DD * inverse_D) @ vectors_DD.T * varied_D
    for start in range(0, len(matrix_ND), 4096):
        rows = slice(start, start + 4096)
        matrix_ND[rows] = (matrix_ND[rows] - centre_D) / scale_D @ sphering_DD


def harmonize(matrix_ND: Matrix, table: pd.DataFrame, batches: Sequence[str], where: str) -> None:
    """Align batches by Harmony (Korsunsky et al. 2019), in place, with harmonypy's settings.

    Raises:
        DataError: there are fewer than two batches or too few rows.
    """
    import harmonypy

    known_N = with_features(matrix_ND)
    labels = table[list(batches)][known_N].astype(str).reset_index(drop=True)
    if labels.drop_duplicates().shape[0] < 2:
        raise DataError(f"{where}: there is one batch of {', '.join(batches)} alone, and nothing to align; leave --harmony out.")
    clusters = min(max(round(len(labels) / 30), 1), 100)  # harmonypy's number, which would be none of a few rows
    data_DN = matrix_ND[known_N].T.astype(np.float64)
    aligned = harmonypy.run_harmony(data_DN, labels, list(batches), nclust=clusters, verbose=False, random_state=0)
    matrix_ND[known_N] = aligned.Z_corr


def _columns(width: int) -> Iterator[slice]:
    for start in range(0, width, COLUMNS_AT_ONCE):
        yield slice(start, start + COLUMNS_AT_ONCE)
