"""Section `model` of the handbook's configuration: the network, its training, and where the data are."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from dino4cells.config.architectures import resolve_architecture
from dino4cells.config.section import Section
from dino4cells.config.values import read_pair

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

IMAGE_MODE_CHANNELS: Final[dict[str, int]] = {
    "normalized_3_channels": 3,
    "normalized_4_channels": 4,
    "unnormalized_4_channels": 4,
    **dict.fromkeys(IMAGE_MODES[4:8], 3),
    **dict.fromkeys(IMAGE_MODES[8:12], 1),
    "one_channel": 1,
    "two_channels": 2,
    "protein_channel": 1,
}
"""Channels that an image mode gives the network, where it says so; they win over `num_channels` (not for CellPainting)."""


class ModelConfig(Section):
    """Section `model`: the network, its training, and where the data are."""

    model_type: Literal["DINO"] = Field(default="DINO", description="Method of training.")
    arch: Annotated[str, BeforeValidator(resolve_architecture)] = Field(
        default="vit_tiny",
        description="Backbone: vit_tiny, vit_small or vit_base (deit_* are other names of them), xresnet18, 34, 50, 101 or 152, "
        "or a network of torchvision, such as resnet50.",
    )
    patch_size: Literal[8, 16] = Field(default=16, description="Side of a patch of a vision transformer, in pixels.")
    image_size: int = Field(default=224, ge=8, description="Side in pixels that positions are made for, a multiple of patch_size.")
    init: str | None = Field(
        default=None, description="Weights to start from: a checkpoint of DINO4Cells or DINO, a model artifact, a timm or safetensors file."
    )
    init_channels: str | None = Field(
        default=None,
        description="Their channels for ours, such as 'protein=1,nucleus=2', or mean: their mean for each; empty: by name, else mean.",
    )

    root: str | None = Field(default=None, description="Directory or URL that the metadata's file names start from.")
    files_outside_root: bool = Field(
        default=False, description="Whether the metadata may name files outside root, by absolute paths, `..` or URLs."
    )
    data_path: str | None = Field(default=None, description="Metadata (CSV), path or URL.")
    output_dir: str | None = Field(default=None, description="Where the model artifact goes, path or URL.")
    datatype: Literal["HPA", "HPABalanced", "CellPainting"] = Field(default="HPA", description="Layout of the metadata, draw of samples.")
    file_pattern: str | None = Field(
        default=None,
        description="File of an image by columns of the metadata and {channel}, such as {plate}/{well}_{channel}.tif; empty: {file}.",
    )
    mask: Literal["drop", "ignore", "apply"] = Field(
        default="drop",
        description="Last tile of a CellPainting strip: a mask to drop or to apply (zeros outside), or (ignore) no mask but a channel.",
    )
    image_mode: ImageMode = Field(default="normalized", description="How an image becomes channels in [0, 1].")
    num_channels: int | None = Field(
        default=None, ge=1, description="Channels that reach the network; empty: as many as image_mode says, else as the data have."
    )
    channels: list[str] | None = Field(default=None, description="Names of the data's channels, in order; empty: as the data say.")
    sample_single_cells: bool = Field(default=False, description="Group rows by ID and draw one row of each group per epoch.")
    max_bad_images: float = Field(default=0.01, ge=0, le=1, description="Fraction of images that may be unreadable before training stops.")
    shuffle_blocks: int = Field(
        default=384,
        ge=0,
        description="Blocks of packed images (2 MiB each) whose images are mixed, over all processes; best a multiple of these; 0: all.",
    )
    num_workers: int = Field(default=10, ge=0, description="Processes that read images, per training process.")
    cache_dir: str | None = Field(
        default=None,
        description="Directory of this machine where images of an object store are kept for later epochs and runs; empty: nowhere.",
    )
    cache_gb: float = Field(default=20.0, gt=0, description="Most that cache_dir may hold, in GB (10⁹ bytes).")

    epochs: int = Field(default=100, ge=1, description="Passes over the data.")
    batch_size_per_gpu: int = Field(default=64, ge=1, description="Images per step and process.")
    batch_size: int | None = Field(default=None, ge=1, description="Images per step over all processes; empty: by batch_size_per_gpu.")
    accumulation: int = Field(
        default=1,
        ge=1,
        description="Parts of a process's batch that the student learns one after the other: less memory, the same step.",
    )
    activation_checkpointing: bool = Field(
        default=False, description="Compute the student's inner values again in the backward pass: less memory, a third more time."
    )
    compile: bool = Field(default=False, description="torch.compile of the backbones: minutes at the start; needs a C++ compiler.")
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
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of weights, order and views.")

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
        if patch and value % patch and info.data.get("arch", "").startswith("vit_"):
            raise ValueError(f"must be a multiple of patch_size ({patch})")
        return value

    @field_validator("cache_dir")
    @classmethod
    def _on_this_machine(cls, value: str | None) -> str | None:
        if value is not None and "://" in value:
            raise ValueError("must be a directory of this machine, no URL")
        return value

    @field_validator("channels")
    @classmethod
    def _one_name_each(cls, value: list[str] | None, info: ValidationInfo) -> list[str] | None:
        count = info.data.get("num_channels")
        if value is not None and len(set(value)) != len(value):
            raise ValueError("must name each channel once")
        keeps_all = not str(info.data.get("image_mode")).startswith(("single_channel", "one_", "two_", "protein_"))
        if value is not None and count is not None and len(value) != count and keeps_all:
            raise ValueError(f"must have as many names as num_channels says ({count})")
        return value

    @field_validator("local_crops_scale")
    @classmethod
    def _fractions(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1] <= 1:
            raise ValueError("must be two fractions, the smaller first, above 0 and at most 1")
        return value
