"""Features of cells of known classes, written as extraction would."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dino4cells.artifacts import ArtifactWriter
from dino4cells.features import store
from dino4cells.features.part_writer import MetadataColumns, PartWriter
from dino4cells.features.store import FeaturesCard

WIDTH = 16


def around_centres(labels_NK: NDArray[np.int64], seed: int = 0, noise: float = 1.0) -> NDArray[np.float32]:
    """(N, 16) features: the sum of the centres of a cell's classes, and noise."""
    centres_KD = np.random.default_rng(99).normal(scale=1.5, size=(labels_NK.shape[1], WIDTH))
    return (labels_NK @ centres_KD + np.random.default_rng(seed).normal(scale=noise, size=(len(labels_NK), WIDTH))).astype(np.float32)


def cells_of_lines(count: int, classes: int = 4, cells_per_id: int = 3, seed: int = 0) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """A table with one cell line a cell, the same for the cells of an ID, and features that tell it."""
    line = np.random.default_rng(seed).integers(0, classes, size=-(-count // cells_per_id)).repeat(cells_per_id)[:count]
    frame = pd.DataFrame({"file": [f"{row}.png" for row in range(count)], "ID": [f"field-{row // cells_per_id}" for row in range(count)]})
    frame["cell_type"] = [f"line {name}" for name in line]
    return frame, around_centres(np.eye(classes, dtype=np.int64)[line], seed)


def cells_of_places(count: int, classes: int = 4, seed: int = 0) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """A table with a 0/1 column for each of several places that a protein may be in at once, and features that tell them."""
    places_NK = (np.random.default_rng(seed).random((count, classes)) < [0.4, 0.3, 0.2, 0.1][:classes]).astype(np.int64)
    frame = pd.DataFrame({"file": [f"{row}.png" for row in range(count)], "ID": [f"cell-{row}" for row in range(count)]})
    for place in range(classes):
        frame[f"place {place}"] = places_NK[:, place]
    return frame, around_centres(places_NK, seed)


def write_features(url: str, frame: pd.DataFrame, values_ND: NDArray[np.float32], model: str = "one model") -> str:
    """A features artifact, whose URL is returned."""
    width = values_ND.shape[1]
    card = FeaturesCard(
        rows=len(frame),
        failed_rows=int(np.isnan(values_ND).any(axis=1).sum()),
        embedding_dim=width,
        channels=("protein",),
        transforms=[],
        baselines=False,
        data="metadata.csv",
        data_fingerprint="",
        model="model",
        model_fingerprint=model,
        images_per_second=1.0,
        versions={},
    )
    with ArtifactWriter(url, store.KIND) as writer:
        columns = [f"{store.FEATURE}{column}" for column in range(width)]
        with PartWriter(writer.path(store.part_name(0)), MetadataColumns.of(frame), columns) as part:
            part.write(values_ND, np.arange(len(frame)), model, [None] * len(frame))
        writer.write_text(store.CARD, card.model_dump_json())
    return url
