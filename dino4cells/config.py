"""The handbook's configuration as typed models: every key once, with its default, its range and a line of help.

`dino4cells.config_file` reads a `config.yaml` into these models; command-line help and the reference page are generated from them.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Final, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from dino4cells.config_values import (
    Parameters,
    TransformChoice,
    check_transform_name,
    is_empty,
    read_field_text,
    read_names_or_false,
    read_pair,
)

ARCHITECTURE_ALIASES: Final = {"deit_tiny": "vit_tiny", "deit_small": "vit_small", "deit_base": "vit_base"}

ImageMode = Literal[
    "normalized",
    "normalized_3_channels",
    "normalized_4_channels",
    "unnormalized_4_channels",
    "single_channel_r",
    "single_channel_g",
    "single_channel_b",
    "single_channel_y",
    "single_channel_r_no_triple",
    "single_channel_g_no_triple",
    "single_channel_b_no_triple",
    "single_channel_y_no_triple",
    "one_channel",
    "two_channels",
    "protein_channel",
]
IMAGE_MODES: Final[tuple[ImageMode, ...]] = get_args(ImageMode)

IMAGE_MODES_NOT_SUPPORTED_YET: Final = IMAGE_MODES[3:]
"""Valid names, which the reader of images answers with a ConfigError until they are built."""

IGNORED_SECTIONS: Final = ("kaggle_test_data", "plot_embedding", "visualize", "pipeline")
"""Sections of the paper's files that steered its own scripts."""

CLASSIFICATION_KEYS_NOT_SUPPORTED_YET: Final = (
    "train_path",
    "valid_path",
    "test_path",
    "cells_train_path",
    "cells_valid_path",
    "averaged_features",
    "averaged_features_path",
    "averaged_train_path",
    "averaged_valid_path",
    "averaged_test_path",
    "use_pretrained_features",
    "train_feature_extractor",
    "feature_extractor_state_dict",
    "train_classifier_head",
    "load_classifier_head",
    "classifier_state_dict",
    "classifier_type",
    "num_classes",
    "n_layers",
    "n_units",
    "norm_layer",
    "skip",
    "dropout",
    "loss",
    "optimizer",
    "lr",
    "min_lr",
    "wd",
    "wd_end",
    "schedule",
    "epochs",
    "batch_size_per_gpu",
    "num_workers",
    "balance",
    "train_protein",
    "train_cell_type",
    "whole_images",
    "output_dir",
    "output_prefix",
    "overwrite",
    "early_stopping",
    "competition_type",
    "prepare_kaggle_submission",
    "protein_classifier",
    "cell_type_classifier",
    "train_statistics",
    "protein_task",
    "use_pretrained_cell_type_classifier",
    "use_pretrained_repro_classifier",
    "training_features_paths_list",
    "whole_image_submission_file",
    "verbose",
    "train_inds",
    "test_inds",
    "use_pretrained_protein_classifier",
    "full_image_train",
    "aggregate_result_by_single_cell",
    "output_file",
)
"""Keys of the paper's classification sections that nothing here reads so far."""

TRANSFORM_SECTIONS: Final = (
    "flip_and_color_jitter_transforms",
    "normalization",
    "global_transfo1",
    "global_aug1",
    "global_transfo2",
    "global_aug2",
    "local_transfo",
    "local_aug",
    "testing_transfo",
)

_NOT_FOR_TRAINING: Final = frozenset(
    {"root", "data_path", "output_dir", "saveckp_freq", "checkpoint_minutes", "num_workers", "max_bad_images", "local_crops_scale"}
)
"""Keys of `model` that say where and how a run happens, not what is learnt (`local_crops_scale` acts through `local_transfo`)."""


class _Section(BaseModel):
    """A section of scalars: closed, immutable, lenient about text that stands for a value."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if not is_empty(value)}

    @field_validator("*", mode="before")
    @classmethod
    def _read_text(cls, value: object, info: ValidationInfo) -> object:
        field: FieldInfo = cls.model_fields[info.field_name or ""]
        return read_field_text(value, field.annotation)


def _resolve_arch(value: object) -> object:
    return ARCHITECTURE_ALIASES.get(value, value) if isinstance(value, str) else value


class ModelConfig(_Section):
    """Section `model`: the network, its training, and where the data are."""

    model_type: Literal["DINO"] = Field(default="DINO", description="Method of training.")
    arch: Annotated[Literal["vit_tiny", "vit_small", "vit_base"], BeforeValidator(_resolve_arch)] = Field(
        default="vit_tiny", description="Backbone; deit_tiny, deit_small and deit_base are other names of the same three."
    )
    patch_size: Literal[8, 16] = Field(default=16, description="Side of a patch, in pixels.")
    image_size: int = Field(default=224, ge=8, description="Side in pixels that positions are made for; a multiple of patch_size.")
    num_channels: int | None = Field(default=None, ge=1, description="Channels of an image; empty: as many as the data have.")
    channels: list[str] | None = Field(default=None, description="Names of the channels, in order; empty: as the data say.")

    root: str | None = Field(default=None, description="Directory or URL that the metadata's file names start from.")
    data_path: str | None = Field(default=None, description="Metadata (CSV), path or URL.")
    output_dir: str | None = Field(default=None, description="Where the model artifact goes, path or URL.")
    datatype: Literal["HPA", "HPABalanced", "CellPainting"] = Field(default="HPA", description="Layout of the metadata, draw of samples.")
    image_mode: ImageMode = Field(default="normalized", description="How an image becomes channels in [0, 1].")
    sample_single_cells: bool = Field(default=False, description="Group rows by ID and draw one row of each group per epoch.")
    max_bad_images: float = Field(default=0.01, ge=0, le=1, description="Fraction of images that may be unreadable before training stops.")
    num_workers: int = Field(default=10, ge=0, description="Processes that read images, per training process.")

    epochs: int = Field(default=100, ge=1, description="Passes over the data.")
    batch_size_per_gpu: int = Field(default=64, ge=1, description="Images per step and process.")
    batch_size: int | None = Field(default=None, ge=1, description="Images per step over all processes; empty: by batch_size_per_gpu.")
    optimizer: Literal["adamw", "sgd", "lars"] = Field(default="adamw", description="Optimizer.")
    lr: float = Field(default=0.0005, gt=0, description="Peak learning rate for a batch of 256; scaled by the batch over all processes.")
    min_lr: float = Field(default=1e-6, ge=0, description="Learning rate at the end of the cosine.")
    warmup_epochs: float = Field(default=10, ge=0, description="Epochs of linear growth of the learning rate.")
    adam_beta2: float = Field(default=0.999, gt=0, lt=1, description="Decay of AdamW's second moment; lower suits short runs.")
    weight_decay: float = Field(default=0.04, ge=0, description="Weight decay at the start.")
    weight_decay_end: float = Field(default=0.4, ge=0, description="Weight decay at the end of the cosine.")
    clip_grad: float = Field(default=3.0, ge=0, description="Largest norm of one parameter's gradient; 0: no clipping.")
    freeze_last_layer: float = Field(default=1, ge=0, description="Epochs during which the head's last layer stays as it is.")
    drop_path_rate: float = Field(default=0.1, ge=0, lt=1, description="Stochastic depth of the student.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="Arithmetic; auto: bfloat16 where the hardware has it."
    )
    seed: int = Field(default=0, ge=0, description="Seed of weights, order and views.")

    momentum_teacher: float = Field(default=0.996, ge=0, le=1, description="Momentum of the teacher at the start.")
    momentum_teacher_end: float = Field(default=1.0, ge=0, le=1, description="Momentum of the teacher at the end of the cosine.")
    center_momentum: float = Field(default=0.9, ge=0, le=1, description="Momentum of the centre of the teacher's outputs.")
    student_temp: float = Field(default=0.1, gt=0, description="Temperature of the student.")
    teacher_temp: float = Field(default=0.04, gt=0, description="Temperature of the teacher after its warm-up.")
    warmup_teacher_temp: float = Field(default=0.04, gt=0, description="Temperature of the teacher at the start.")
    warmup_teacher_temp_epochs: float = Field(default=0, ge=0, description="Epochs of linear change of the teacher's temperature.")
    targets: Literal["centering", "sinkhorn"] = Field(default="centering", description="What keeps the teacher's outputs from collapsing.")
    koleo_weight: float = Field(default=0.0, ge=0, description="Weight of the KoLeo regularizer (DINOv2), which spreads features; 0: off.")

    out_dim: int = Field(default=65536, ge=2, description="Prototypes: outputs of the head.")
    head_hidden_dim: int = Field(default=2048, ge=1, description="Width of the head's hidden layers.")
    head_bottleneck_dim: int = Field(default=256, ge=1, description="Width of the head's bottleneck.")
    norm_last_layer: bool = Field(default=True, description="Keep the prototypes at length one.")
    use_bn_in_head: bool = Field(default=False, description="Batch normalization in the head.")

    local_crops_scale: Annotated[tuple[float, float] | None, BeforeValidator(read_pair)] = Field(
        default=None, description="Area of a local crop, smallest and largest fraction; used where local_transfo gives no scale."
    )
    saveckp_freq: int = Field(default=20, ge=0, description="Keep a copy of the checkpoint every so many epochs; 0: only the latest.")
    checkpoint_minutes: float = Field(default=10.0, gt=0, description="Minutes between two checkpoints.")

    @field_validator("image_size")
    @classmethod
    def _whole_patches(cls, value: int, info: ValidationInfo) -> int:
        patch = info.data.get("patch_size")
        if patch and value % patch:
            raise ValueError(f"must be a multiple of patch_size ({patch})")
        return value

    @field_validator("channels")
    @classmethod
    def _one_name_each(cls, value: list[str] | None, info: ValidationInfo) -> list[str] | None:
        count = info.data.get("num_channels")
        if value is not None and len(set(value)) != len(value):
            raise ValueError("must name each channel once")
        if value is not None and count is not None and len(value) != count:
            raise ValueError(f"must have as many names as num_channels says ({count})")
        return value

    @field_validator("local_crops_scale")
    @classmethod
    def _fractions(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1] <= 1:
            raise ValueError("must be two fractions, the smaller first, above 0 and at most 1")
        return value


class EmbeddingConfig(_Section):
    """Section `embedding`: features of every cell."""

    pretrained_weights: str | None = Field(default=None, description="Model artifact or checkpoint, path or URL; empty: just trained.")
    output_path: str | None = Field(default=None, description="Where the features go, path or URL.")
    df_path: str | None = Field(default=None, description="Metadata (CSV) of the cells; empty: model.data_path.")
    image_size: int = Field(default=224, ge=8, description="Side in pixels of the position embeddings, where a checkpoint does not say.")
    num_workers: int = Field(default=10, ge=0, description="Processes that read images, per process.")
    batch_size: int = Field(default=128, ge=1, description="Images per step and process.")
    embedding_has_labels: bool = Field(default=False, description="Whether the metadata hold label columns.")
    target_labels: Annotated[list[str] | Literal[False], BeforeValidator(read_names_or_false)] = Field(
        default=False, description="Names of the 0/1 label columns, or false."
    )
    num_augmentation_repetitions: int = Field(default=1, ge=0, description="Augmented copies of each image whose features are averaged.")
    baselines: bool = Field(default=True, description="Also write features of the untrained network and intensity statistics.")


class ClassificationConfig(_Section):
    """Section `classification`: nearest neighbours and a linear probe on the features."""

    label: str | None = Field(default=None, description="Column with the classes; empty: protein_location, else cell_type.")
    group: str | None = Field(default=None, description="Column whose values never straddle a train/test split, e.g. plate.")
    folds: int = Field(default=5, ge=2, description="Folds of the cross-validation.")
    neighbours: int = Field(default=10, ge=1, description="Neighbours that vote, by cosine similarity.")
    seed: int = Field(default=0, ge=0, description="Seed of the folds and of the probe.")


SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "model": ModelConfig,
    "embedding": EmbeddingConfig,
    "classification": ClassificationConfig,
}
"""Sections that hold scalars."""

TransformSection = dict[Annotated[str, AfterValidator(check_transform_name)], TransformChoice]


def _transforms(description: str) -> dict[str, TransformChoice]:
    section: dict[str, TransformChoice] = Field(default_factory=dict, description=description)
    return section


class Config(BaseModel):
    """A whole `config.yaml`. Immutable; `load_config` of `dino4cells.config_file` makes one.

    Order of a view's transforms (handbook): a global view passes `global_transfo`, jitter, `global_aug`, normalization; a local one
    `local_transfo`, `local_aug`, jitter, normalization; extraction `testing_transfo` alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ModelConfig = Field(default_factory=ModelConfig, description="The network, its training, and where the data are.")
    embedding: EmbeddingConfig = Field(default_factory=EmbeddingConfig, description="Features of every cell.")
    classification: ClassificationConfig = Field(default_factory=ClassificationConfig, description="Classifiers on the features.")
    flip_and_color_jitter_transforms: TransformSection = _transforms("Flips and jitter of every view.")
    normalization: TransformSection = _transforms("Last transforms of every view.")
    global_transfo1: TransformSection = _transforms("First transforms of the first global view.")
    global_aug1: TransformSection = _transforms("Transforms of the first global view after the jitter.")
    global_transfo2: TransformSection = _transforms("First transforms of the second global view.")
    global_aug2: TransformSection = _transforms("Transforms of the second global view after the jitter.")
    local_crops_number: int = Field(default=8, ge=0, description="Local views of each image.")
    local_transfo: TransformSection = _transforms("First transforms of a local view.")
    local_aug: TransformSection = _transforms("Transforms of a local view before the jitter.")
    testing_transfo: TransformSection = _transforms("Transforms of an image in extraction.")

    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def warnings(self) -> list[str]:
        """What the reader of the file noticed and went on with, one sentence each."""
        return list(self._warnings)

    def __eq__(self, other: object) -> bool:
        """Equal content; warnings are about the file that it came from."""
        return isinstance(other, Config) and self.model_dump() == other.model_dump()

    def section(self, name: str) -> list[tuple[str, Parameters]]:
        """Active transforms of one section, in order, each with its parameters.

        Raises:
            KeyError: `name` is no transform section.
        """
        if name not in TRANSFORM_SECTIONS:
            raise KeyError(name)
        choices: dict[str, TransformChoice] = getattr(self, name)
        return [(transform, choice.parameters) for transform, choice in choices.items() if choice.active]

    def to_yaml(self) -> str:
        """The resolved configuration as a file that `load_config` reads back into an equal one, whatever presets become."""
        content = {"preset": "none", **self.model_dump(mode="json")}
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)

    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of what decides the outcome of training: not of paths, workers, and transforms that are off."""
        model = self.model.model_dump(mode="json", exclude=set(_NOT_FOR_TRAINING))
        views = {name: self.section(name) for name in TRANSFORM_SECTIONS if name != "testing_transfo"}
        content = {"model": model, "views": views, "local_crops_number": self.local_crops_number}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
