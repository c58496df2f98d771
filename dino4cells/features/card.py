"""What features say of themselves (`features.json`), and how their columns are called: the convention of image-based profiling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dino4cells.data.layout import Layout
from dino4cells.features.profiling import Profiling

PREFIX = "Metadata_"
FEATURE, UNTRAINED, INTENSITY = "dino_", "untrained_", "intensity_"
MODEL, ERROR = "dino_model", "dino_error"
"""Columns that the store adds to the table of cells."""
MODEL_COLUMN, ERROR_COLUMN = f"{PREFIX}{MODEL}", f"{PREFIX}{ERROR}"


class FeaturesCard(BaseModel):
    """`features.json`: what the numbers are and where they come from."""

    model_config = ConfigDict(protected_namespaces=())

    rows: int
    failed_rows: int = Field(description="Rows whose image could not be read; their features are missing and Metadata_dino_error says why.")
    embedding_dim: int = Field(description="Number of features of a row, D.")
    columns: tuple[str, ...] = Field(
        default=(), description="Names of the features where they are not dino_0 … dino_{D-1}, since another tool has left some out."
    )
    described: bool = Field(default=True, description="Whether what follows is known; false: of a file that does not say it.")
    tokens: str = Field(default="class", description="Tokens of a vision transformer that they are: class, patches (mean) or both.")
    last_blocks: int = Field(default=1, description="Last blocks of it whose tokens stand side by side, from the earliest to the last.")
    channels: tuple[str, ...] = Field(description="Names of the model's channels, in order.")
    channels_of_data: tuple[str, ...] = Field(default=(), description="What the data call each of them.")
    blocks: tuple[tuple[str, ...], ...] = Field(
        default=(),
        description="Channels behind each of the equally long blocks of features that stand side by side; one block of all, mostly.",
    )
    black_channels: tuple[str, ...] = Field(default=(), description="The data's channels that were black, by embedding.keep_channels.")
    layout: Layout = Field(default_factory=Layout, description="Which columns of the table name the images, and whether they are strips.")
    transforms: list[list[object]] = Field(description="Transforms applied to each image: name and parameters.")
    precision: str = Field(default="float32", description="Arithmetic of the network's matrix products.")
    baselines: bool
    profiling: tuple[Profiling, ...] = Field(default=(), description="What was done to the features since, in order; see profiles.")
    data: str
    data_fingerprint: str
    model: str
    model_fingerprint: str
    model_card: dict[str, Any] = Field(default_factory=dict, description="What the model says of itself, in `model.json`.")
    images_per_second: float
    extraction: str = Field(default="", description="Fingerprint of what decided them: parts of the same belong together.")
    versions: dict[str, str]

    @classmethod
    def of_file(cls, url: str, *, rows: int, failed_rows: int, columns: Sequence[str], model_fingerprint: str = "") -> FeaturesCard:
        """What is known of features in a file that says nothing about the model and the data."""
        return cls(
            rows=rows,
            failed_rows=failed_rows,
            embedding_dim=len(columns),
            columns=other_names(columns),
            described=False,
            channels=(),
            transforms=[],
            baselines=False,
            data=url,
            data_fingerprint="",
            model="",
            model_fingerprint=model_fingerprint,
            images_per_second=0.0,
            versions={},
        )

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in order."""
        return list(self.columns) or usual_names(self.embedding_dim)


def usual_names(count: int) -> list[str]:
    """`dino_0`, `dino_1`, …"""
    return [f"{FEATURE}{number}" for number in range(count)]


def other_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names as a card has them: none where they are the usual ones."""
    return () if list(names) == usual_names(len(names)) else tuple(names)
