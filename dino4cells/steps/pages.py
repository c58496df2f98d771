"""The pages (HTML) that a step of a pipeline shows."""

from __future__ import annotations

import math

from dino4cells.features.store import read_features
from dino4cells.models.artifact import load_card, load_model
from dino4cells.steps.inputs import pictured


def training_report(model: str) -> str:
    """The page (HTML) about the training of a model: loss curve, throughput."""
    from dino4cells.report.training import training_page

    trained = load_model(model)
    return training_page(load_card(model), trained.log(), plateau=math.log(trained.config.model.out_dim), settings=trained.config.to_yaml())


def features_report(features: str, model: str, data: str | None = None, *, files_outside_root: bool = False) -> str:
    """The page (HTML) about the features of cells: their map, pictures of cells.

    Args:
        features: URL of the features.
        model: URL of the model that they come from.
        data: directory or URL of the images; those that the model's configuration names when None.
        files_outside_root: whether the table of cells may name files elsewhere, as `model.files_outside_root`.
    """
    from dino4cells.report.features import features_page

    table = read_features(features)
    return features_page(table, pictured(table, data, load_model(model), files_outside_root=files_outside_root))
