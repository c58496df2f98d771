"""The step from features of cells to profiles: normalized, aggregated, sphered, corrected for batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dino4cells import storage
from dino4cells.artifacts import Artifact, ArtifactWriter
from dino4cells.config import Config
from dino4cells.data.metadata import missing_column
from dino4cells.errors import ConfigError, DataError
from dino4cells.features import profiling, store
from dino4cells.features.exports import format_of
from dino4cells.features.part_writer import MetadataColumns, PartWriter
from dino4cells.features.profiling import COUNT, Normalization, Profiling
from dino4cells.features.query import matching_rows
from dino4cells.features.store import Features, FeaturesCard, read_features
from dino4cells.features.table import ROWS_PER_GROUP
from dino4cells.steps.inputs import check_output

LEVELS = {"well": ("well",), "image": ("ID",), "compound": ("compound",)}
"""What `aggregate` calls a column, a well together with those of `by`; any other word is a column itself."""


def profile(
    features: str,
    *,
    output: str,
    normalize: Normalization = "robust",
    by: Sequence[str] = ("plate",),
    controls: str | None = None,
    aggregate: str | Sequence[str] = (),
    sphere: bool = False,
    regularization: float = 0.01,
    harmony: Sequence[str] = (),
    config: Config | None = None,
    overwrite: bool = False,
) -> FeaturesCard:
    """Make profiles out of features: normalize, then aggregate, then sphere, then align batches, whichever of these is asked for.

    The same is done to the baselines that stand beside the features, so that what is compared with each other stays comparable.

    Args:
        features: URL of a features artifact, or of a file (`.pth`) in the published layout.
        output: URL of the features artifact that is written; its `features.json` says what was done.
        normalize: by median and median absolute deviation (`robust`), by mean and deviation (`standard`), or not (`none`).
        by: columns of the metadata that tell plates; rows that agree in them are normalized together, all rows where there are none.
        controls: condition on the metadata (`matching_rows`); normalization and sphering are measured on these rows, else on all.
        aggregate: `well` (of a plate as `by` tells it), `image`, `compound`, or columns: the median of rows that agree in them becomes
            one row.
        sphere: decorrelate the features as the controls have them.
        regularization: of the sphering.
        harmony: columns of batches to align.
        config: says which labels a `.pth` holds.
        overwrite: replace other features that are at `output`.

    Raises:
        Dino4CellsError: what the user can fix.

    Example:
        >>> profile("features", output="wells", controls="compound == 'DMSO'", aggregate="well", sphere=True)  # doctest: +SKIP
    """
    output = storage.absolute(output)
    if format_of(output):
        raise ConfigError(f"{output}: profiles are a directory; write one, and then a file of it by dino4cells features export.")
    check_output(output, overwrite)
    columns = LEVELS.get(aggregate, (aggregate,)) if isinstance(aggregate, str) else tuple(aggregate)
    columns = (*by, *columns) if aggregate == "well" else columns
    table = read_features(features, config)
    wanted = Profiling(
        normalize=normalize,
        by=tuple(by) if normalize != "none" else (),
        controls=controls,
        aggregate=tuple(name for name in columns if name),
        sphere=sphere,
        regularization=regularization,
        harmony=tuple(harmony),
        features=table.artifact.url,
        features_fingerprint=table.artifact.fingerprint,
    )
    _check_columns(table, wanted)
    matrices, metadata, errors = _profiles(table, wanted)
    card = _card(table, wanted, len(metadata), sum(error is not None for error in errors))
    with ArtifactWriter(output, store.KIND) as writer:
        with PartWriter(writer.path(store.part_name(0)), MetadataColumns.of(metadata), _names(table, "dino")) as part:
            for rows in _slices(len(metadata)):
                part.write(matrices["dino"][rows], np.arange(len(metadata))[rows], card.model_fingerprint, errors[rows])
        if table.baselines:
            names = [name for kind in table.baselines for name in _names(table, kind)]
            with PartWriter(writer.path(store.baseline_name(0)), None, names) as part:
                for rows in _slices(len(metadata)):
                    part.write(np.hstack([matrices[kind][rows] for kind in table.baselines]))
        writer.write_text(store.CARD, card.model_dump_json(indent=2) + "\n")
    return card


def _check_columns(table: Features, wanted: Profiling) -> None:
    """Refuse columns that the table does not have, before anything is computed."""
    purposes = {"by": "rows that are normalized together, see --by", "aggregate": "see --aggregate", "harmony": "batches, see --harmony"}
    for key, purpose in purposes.items():
        for name in getattr(wanted, key):
            if name not in table.metadata.columns:
                raise missing_column(table.artifact.url, name, purpose, [str(column) for column in table.metadata.columns])
    counted = any(done.aggregate for done in table.card.profiling)
    if wanted.aggregate and COUNT in table.metadata.columns and not counted:
        raise DataError(
            f"{table.artifact.url}: the column '{COUNT}' has the name of the one that counts a profile's cells; rename it in the table."
        )


def _profiles(table: Features, wanted: Profiling) -> tuple[dict[str, NDArray[np.float32]], pd.DataFrame, list[str | None]]:
    """The matrices by their names, the metadata, and why rows have no features."""
    where, described = table.artifact.url, table.metadata
    matrices = {"dino": table.dino, **table.baselines}
    controls_N = matching_rows(described, wanted.controls, "--controls") if wanted.controls else None
    for matrix_ND in matrices.values():
        profiling.normalize(matrix_ND, described, wanted.by, wanted.normalize, controls_N, where)
    errors = [None if pd.isna(error) else str(error) for error in described["dino_error"]]
    described = described.drop(columns=["dino_model", "dino_error"])
    if wanted.aggregate:
        groups = profiling.groups_of(described, wanted.aggregate)
        known_N = profiling.with_features(matrices["dino"])
        described = profiling.described(described, groups, known_N)
        errors = [None if known_N[rows].any() else f"none of {len(rows)} cells has features" for rows in groups]
        for name in list(matrices):
            matrices[name] = profiling.medians(matrices[name], groups)
    if wanted.sphere:
        left = "--controls, on profiles, which have the columns that are the same for all their cells"
        controls_N = matching_rows(described, wanted.controls, left) if wanted.controls else None
    for matrix_ND in matrices.values():
        if wanted.sphere:
            profiling.sphere(matrix_ND, controls_N, wanted.regularization, where)
        if wanted.harmony:
            profiling.harmonize(matrix_ND, described, wanted.harmony, where)
    return matrices, described, errors


def _card(table: Features, wanted: Profiling, rows: int, failed: int) -> FeaturesCard:
    """The card of the features, with what was done; rows that are no cells have no images any more."""
    changes: dict[str, object] = {"rows": rows, "failed_rows": failed, "profiling": (*table.card.profiling, wanted)}
    if wanted.aggregate:
        changes["data_fingerprint"] = ""
    return table.card.model_copy(update=changes)


def _names(features: Features, kind: str) -> list[str]:
    """Names of the columns of a matrix."""
    if isinstance(features.artifact, Artifact):
        part = store.PART if kind == "dino" else store.BASELINE
        return store.column_names(features.artifact, part, f"{kind}_")
    return features.card.feature_names


def _slices(rows: int) -> list[slice]:
    return [slice(start, start + ROWS_PER_GROUP) for start in range(0, rows, ROWS_PER_GROUP)]
