"""The three verbs: train, extract, classify. The command line, the pipeline's components and the processes of a job all call these.

Each takes URLs and a configuration and leaves a complete artifact at `output`, or none. With `processes` the work runs as a job of many
processes, which call the same function without.
"""

from __future__ import annotations

from dino4cells.steps.classification import classify, train_classifier
from dino4cells.steps.configuration import (
    check_run,
    configuration,
    configuration_of,
    data_or_simulated,
    overrides_with,
    preset_for,
)
from dino4cells.steps.extraction import export_features, extract
from dino4cells.steps.pages import features_report, training_report
from dino4cells.steps.prediction import predict
from dino4cells.steps.profiling import profile
from dino4cells.steps.training import train

__all__ = [
    "check_run", "classify", "configuration", "configuration_of", "data_or_simulated", "export_features", "extract",
    "features_report", "overrides_with", "predict", "preset_for", "profile", "train", "train_classifier", "training_report",
]  # fmt: skip
