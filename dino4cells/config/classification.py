"""Section `classification` of the handbook's configuration: classifiers on the features, and a head or a whole network of the paper's."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from dino4cells.config.section import Section

CLASSIFICATION_KEYS_OF_THE_PAPER: Final = (
    "aggregate_result_by_single_cell",
    "averaged_features",
    "cell_type_classifier",
    "check_batch",
    "checkpoint_frq",
    "checksize",
    "competition_type",
    "dist_url",
    "full_image_train",
    "master_port",
    "output_file",
    "prepare_kaggle_submission",
    "protein_classifier",
    "protein_task",
    "test",
    "test_inds",
    "test_last",
    "train_inds",
    "train_statistics",
    "training_features_paths_list",
    "use_pretrained_cell_type_classifier",
    "use_pretrained_protein_classifier",
    "use_pretrained_repro_classifier",
    "verbose",
    "whole_image_submission_file",
)
"""Keys that steered the paper's own scripts and mean nothing here (submissions to competitions, files between scripts, logging)."""


def _one_address(value: object) -> object:
    """The file of a list that holds one, as older files of the paper have it."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


_OLDER_NAMES: Final = {"network": "simple_clf", "BCE": "BCELoss"}
"""Values in the paper's Cell Painting files."""


def _read_older_name(value: object) -> object:
    return _OLDER_NAMES.get(value, value) if isinstance(value, str) else value


Address = Annotated[str | None, BeforeValidator(_one_address)]


def _address(description: str) -> Address:
    address: Address = Field(default=None, description=description)
    return address


class ClassificationConfig(Section):
    """Section `classification`: nearest neighbours and a linear probe, or a trained head (train_protein, train_cell_type)."""

    label: str | None = Field(default=None, description="Column with the classes; empty: protein_location, else cell_type.")
    group: str | None = Field(default=None, description="Column whose values never straddle a train/test split, e.g. plate.")
    split: str | None = Field(default=None, description="Column that says train, valid or test of each cell; empty: folds, a random part.")
    folds: int = Field(default=5, ge=2, description="Folds of the cross-validation; a head without valid_path validates on one.")
    neighbours: int = Field(default=10, ge=1, description="Neighbours that vote, by cosine similarity.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of the folds, of the resamples, and of the head's weights and samples.")
    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="Linear probe and loss of a head: every class weighs the same (a head: with balance false)."
    )
    not_same: list[str] | None = Field(
        default=None, description="Columns, e.g. compound: the nearest profile that differs in all of them must have the same class."
    )

    train_protein: bool = Field(default=False, description="Train a head on 0/1 columns, of which a cell may have several (target_labels).")
    train_cell_type: bool = Field(default=False, description="Train a head on one class a cell: the column label, else cell_type.")
    use_pretrained_features: bool = Field(default=True, description="A head on features; false: a backbone and a head on images.")

    train_path: Address = _address("Training cells: features, a file of IDs, or (on images) a CSV; empty: a random split.")
    valid_path: Address = _address("Validation cells, as train_path.")
    test_path: Address = _address("Cells that are judged at the end, as train_path; without labels they are only predicted.")
    cells_train_path: Address = _address("Instead of train_path for train_cell_type.")
    cells_valid_path: Address = _address("Instead of valid_path for train_cell_type.")
    averaged_features_path: Address = _address("Instead of embedding.output_path where whole_images is true.")
    averaged_train_path: Address = _address("Instead of train_path for train_protein where whole_images is true.")
    averaged_valid_path: Address = _address("Instead of valid_path for train_protein where whole_images is true.")
    averaged_test_path: Address = _address("Instead of test_path where whole_images is true.")
    whole_images: bool = Field(default=False, description="Average the features of one ID (field of view) before classifying.")

    train_feature_extractor: bool = Field(default=False, description="Train the backbone too (on images); false: it stays as it is.")
    feature_extractor_state_dict: str | None = Field(
        default=None, description="Backbone to begin with (on images): a model artifact or checkpoint; empty: --model, else random."
    )
    train: bool = Field(default=True, description="Train; false: only judge the head that load_classifier_head gives.")
    train_classifier_head: bool = Field(default=True, description="Train the head; false: it stays as it was loaded.")
    load_classifier_head: bool = Field(default=False, description="Begin with the head in classifier_state_dict.")
    classifier_state_dict: str | None = Field(default=None, description="A head: a published .pth or a directory that classify wrote.")

    classifier_type: Annotated[Literal["simple_clf", "residual_add_clf"], BeforeValidator(_read_older_name)] = Field(
        default="simple_clf", description="Head: features→512→256→classes, or n_units wide with residual blocks."
    )
    num_classes: int | None = Field(default=None, ge=1, description="Classes that the data must have; empty: as many as they have.")
    n_layers: int = Field(default=2, ge=2, description="Layers of residual_add_clf: first, last, and a block for every two between.")
    n_units: int = Field(default=1024, ge=1, description="Width of residual_add_clf.")
    norm_layer: Literal["layer", "instance", "batch_norm"] | None = Field(
        default=None, description="Normalization in residual_add_clf; empty: none."
    )
    skip: bool = Field(default=False, description="Add a block's input to its output in residual_add_clf.")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="Dropout in simple_clf.")

    loss: Annotated[Literal["BCEWithLogitsLoss", "BCELoss", "focal_loss"], BeforeValidator(_read_older_name)] = Field(
        default="BCEWithLogitsLoss", description="Loss of every class against the rest; the first two are the same here."
    )
    optimizer: Literal["AdamW", "SGD"] = Field(default="AdamW", description="Optimizer.")
    lr: float = Field(default=1e-4, gt=0, description="Learning rate for a batch of 256; scaled by the batch over all processes.")
    min_lr: float = Field(default=1e-6, ge=0, description="Learning rate at the end of the cosine.")
    wd: float = Field(default=0.04, ge=0, description="Weight decay at the start.")
    wd_end: float = Field(default=0.4, ge=0, description="Weight decay at the end of the cosine.")
    schedule: Literal["Cosine", "Flat"] = Field(default="Cosine", description="Course of learning rate and weight decay; Flat: none.")
    epochs: int = Field(default=100, ge=1, description="Passes over the training cells.")
    batch_size_per_gpu: int = Field(default=512, ge=1, description="Cells per step and process; at most the training cells.")
    balance: bool = Field(default=True, description="Draw a class, then one of its cells; false: every cell once per epoch.")
    early_stopping: int = Field(
        default=-1, ge=-1, description="Epochs without a better validation score until training stops and the best is kept; -1: never."
    )
    num_workers: int = Field(default=10, ge=0, description="Processes that read images, per process.")

    output_dir: str | None = Field(default=None, description="Where the head goes, path or URL, if --output does not say.")
    output_prefix: str | None = Field(default=None, description="Directory in output_dir.")
    overwrite: bool = Field(default=False, description="Replace a finished result that is there.")
