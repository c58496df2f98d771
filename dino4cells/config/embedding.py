"""Section `embedding` of the handbook's configuration: features of every cell."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from dino4cells.config.section import Section
from dino4cells.config.values import read_names_or_false

Tokens = Literal["class", "patches", "class_and_patches"]


class EmbeddingConfig(Section):
    """Section `embedding`: features of every cell."""

    pretrained_weights: str | None = Field(default=None, description="Model artifact or checkpoint, path or URL; empty: just trained.")
    output_path: str | None = Field(default=None, description="Where the features go, path or URL.")
    df_path: str | None = Field(default=None, description="Metadata (CSV) of the cells; empty: model.data_path.")
    channels: list[str] | None = Field(
        default=None,
        description="The data's channel for each of the model's, in the model's order, or pairs such as 'nucleus=DAPI'; empty: by name.",
    )
    image_size: int = Field(
        default=224,
        ge=8,
        description="Side in pixels that positions are made for, where neither a checkpoint nor model.image_size says it.",
    )
    num_workers: int = Field(default=10, ge=0, description="Processes that read images, per process.")
    batch_size: int = Field(default=128, ge=1, description="Images per step and process.")
    rows_per_part: int = Field(
        default=16384,
        ge=1,
        description="Most cells in a file of the result; what an interrupted extraction has in finished files it keeps.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Arithmetic; auto: bfloat16 where the hardware has it, but float32, as published, of a checkpoint or into a .pth.",
    )
    tokens: Tokens = Field(
        default="class",
        description="What of a vision transformer is a feature: its class token, the mean of its patches, or both side by side.",
    )
    blocks: int = Field(default=1, ge=1, description="Last blocks of a vision transformer whose tokens stand side by side, normalized.")
    keep_channels: list[str] | None = Field(
        default=None, description="The model's channels that it is shown; the others are black, as remove_channel makes them; empty: all."
    )
    embedding_has_labels: bool = Field(default=False, description="Whether the metadata hold label columns.")
    target_labels: Annotated[list[str] | Literal[False], BeforeValidator(read_names_or_false)] = Field(
        default=False, description="Names of the 0/1 label columns, or false."
    )
    num_augmentation_repetitions: int = Field(default=1, ge=0, description="Augmented copies of each image whose features are averaged.")
    baselines: bool = Field(default=True, description="Also write features of the untrained network and intensity statistics.")
