"""Section `classification` of the handbook's configuration: classifiers on the features."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from dino4cells.config.section import Section

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


class ClassificationConfig(Section):
    """Section `classification`: nearest neighbours and a linear probe on the features."""

    label: str | None = Field(default=None, description="Column with the classes; empty: protein_location, else cell_type.")
    group: str | None = Field(default=None, description="Column whose values never straddle a train/test split, e.g. plate.")
    folds: int = Field(default=5, ge=2, description="Folds of the cross-validation.")
    neighbours: int = Field(default=10, ge=1, description="Neighbours that vote, by cosine similarity.")
    seed: int = Field(default=0, ge=0, description="Seed of the folds and of the probe.")
