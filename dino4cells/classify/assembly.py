"""What a run of classification is made of: cells and labels, read and checked, and the classifier that is to learn them.

Dimensions: N cells, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from dino4cells import storage
from dino4cells.augment.normalization import needs_data_statistics, with_data_statistics, with_numbers_of
from dino4cells.classify import backbone as backbones
from dino4cells.classify.cells import Cells, FeatureCells, ImageCells, check_same_features, read_feature_cells, read_image_cells
from dino4cells.classify.classifier import Classifier, load_head
from dino4cells.classify.division import Division, divide
from dino4cells.classify.feature_kind import FeatureKind
from dino4cells.classify.heads import HeadKind, build_head
from dino4cells.classify.inputs import FeatureInputs, ImageInputs, Inputs, LabelledInputs
from dino4cells.classify.labels import LabelTable, Task, task_of
from dino4cells.classify.scores import Floats
from dino4cells.config import Config
from dino4cells.data.dataset import CellImages
from dino4cells.errors import ConfigError, DataError
from dino4cells.models.artifact import NetworkCard, TrainedModel
from dino4cells.training.distributed import ProcessGroup, first_decides
from dino4cells.training.precision import autocast_type


@dataclass(frozen=True)
class Part:
    """Cells of one part, ready for the classifier."""

    cells: Cells
    labelled: LabelledInputs


@dataclass(frozen=True)
class Assembly:
    """What a run is about; its configuration has numbers of the data where it asked for them."""

    task: Task
    classifier: Classifier
    parts: dict[str, Part]
    backbone: NetworkCard | None
    model_fingerprint: str
    taken: FeatureKind | None
    data: str
    split: str
    warnings: tuple[str, ...]
    precision: torch.dtype
    config: Config


def on_features(config: Config, features: str | None, group: ProcessGroup) -> Assembly:
    """A head on features.

    Args:
        config: `classification` says what.
        features: URL of the features of all cells; the configuration's when None.
        group: its device is where the classifier learns.

    Raises:
        ConfigError, DataError: what the user can fix.
    """
    wanted = config.classification
    averaged = wanted.averaged_features_path if wanted.whole_images else None
    whole = features or (averaged if averaged and storage.exists(averaged) else None) or config.embedding.output_path
    division = divide(config, whole, lambda url: read_feature_cells(url, config))
    tables = list(division.parts.values())
    check_same_features(tables)
    task, targets, warnings = _labels(config, division)
    kept = {name: cells.take(targets[name].rows) for name, cells in division.parts.items()}
    classifier = Classifier(
        _head(config, tables[0].values_ND.shape[1], task),
        tables[0].values_ND.shape[1],
        train_head=wanted.train_classifier_head and wanted.train,
    )
    classifier.standardize_by(kept["train"].values_ND)
    _load_head(config, classifier)
    classifier.to(group.device)
    inputs = {name: FeatureInputs(cells.values_ND, group.device) for name, cells in kept.items()}
    return Assembly(
        task=task,
        classifier=classifier,
        parts=_parts(kept, inputs, targets),
        backbone=None,
        model_fingerprint=next((cells.model_fingerprint for cells in tables if cells.model_fingerprint), ""),
        taken=tables[0].kind,
        data=tables[0].source,
        split=division.description,
        warnings=warnings,
        precision=torch.float32,
        config=config,
    )


def on_images(config: Config, data: str | None, model: TrainedModel | None, group: ProcessGroup) -> Assembly:
    """A backbone and a head on images.

    Args:
        config: `classification` says what; `model` and the sections of transforms say how images are seen. Numbers of the data that it
            asks for are in the configuration of what is returned.
        data: URL of the images of all cells; the configuration's when None.
        model: whose backbone to begin with, or None.
        group: its device is where the classifier learns.

    Raises:
        ConfigError, DataError: what the user can fix.
    """
    wanted = config.classification
    division = divide(config, data or config.model.data_path, lambda url: read_image_cells(url, config))
    task, targets, warnings = _labels(config, division)
    kept = {name: cells.take(targets[name].rows) for name, cells in division.parts.items()}
    card = backbones.card_of(config, model, kept["train"])
    config = _with_numbers(config, card, model, kept["train"])
    if model is None:
        card = card.model_copy(update={"normalization": [[name, parameters] for name, parameters in config.section("testing_transfo")]})
    backbone = backbones.build(card, config, model)
    width = backbone.embed_dim
    card = card.model_copy(update={"embedding_dim": width})
    classifier = Classifier(
        _head(config, width, task),
        width,
        backbone,
        train_backbone=wanted.train_feature_extractor and wanted.train,
        train_head=wanted.train_classifier_head and wanted.train,
    )
    _load_head(config, classifier)
    classifier.to(group.device)
    inputs: dict[str, ImageInputs] = {}
    for name, cells in kept.items():
        inputs[name] = image_inputs(cells, card, config, group.device)
    return Assembly(
        task=task,
        classifier=classifier,
        parts=_parts(kept, inputs, targets),
        backbone=card,
        model_fingerprint=model.artifact.fingerprint if model is not None else "",
        taken=None,
        data=kept["train"].source,
        split=division.description,
        warnings=warnings,
        precision=autocast_type(config.model.precision, group.device, card.arch),
        config=config,
    )


def _with_numbers(config: Config, card: NetworkCard, model: TrainedModel | None, cells: ImageCells) -> Config:
    """The configuration with numbers where it says `data`: those that the backbone has learnt with, else those of the training cells.

    Raises:
        ConfigError: the backbone's file does not hold them.
    """
    if not needs_data_statistics(config):
        return config
    if model is None:
        return first_decides(lambda: with_data_statistics(config, CellImages(backbones.images_of(cells, card, config))))
    known = with_numbers_of(config, model.config)
    if needs_data_statistics(known):
        raise ConfigError(
            "Normalize: asks for the mean and deviation of the data that the backbone has learnt from, which "
            f"{model.artifact.url} does not hold; give them as numbers."
        )
    return known


def image_inputs(cells: ImageCells, card: NetworkCard, config: Config, device: torch.device) -> ImageInputs:
    """Images as a backbone takes them.

    Raises:
        ConfigError, DataError: their channels are not the backbone's.
    """
    inputs = ImageInputs(cells, backbones.images_of(cells, card, config), config, device)
    inputs.check_channels(card)
    return inputs


@dataclass(frozen=True)
class _Targets:
    """Labels of the cells of a part: of `rows`, which are all, or those whose label is known where a part is learnt from."""

    rows: np.ndarray
    targets_NK: Floats
    known_N: np.ndarray


def _labels(config: Config, division: Division[FeatureCells] | Division[ImageCells]) -> tuple[Task, dict[str, _Targets], tuple[str, ...]]:
    """The task, and the labels of every part; cells without a label are left out of training and validation."""
    cells_of: Mapping[str, Cells] = division.parts
    judged = {name: LabelTable(cells.frame, cells.source) for name, cells in cells_of.items()}
    warnings = list(division.warnings)
    learnt = [judged["train"], judged["valid"]]
    task = task_of(config, learnt)
    found: dict[str, _Targets] = {}
    for name, table in judged.items():
        if name == "test" and not task.is_in(table):
            unlabelled = np.zeros((len(table.frame), len(task.classes)), np.float32)
            found[name] = _Targets(np.arange(len(unlabelled)), unlabelled, np.zeros(len(unlabelled), dtype=bool))
            warnings.append(f"{table.source}: has no labels, so its cells are predicted and not judged.")
            continue
        targets_NK, known_N = task.targets(table)
        rows = np.arange(len(known_N)) if name == "test" else np.flatnonzero(known_N)
        if not len(rows):
            raise DataError(f"{table.source}: no cell of the {name} part has a label in {', '.join(task.columns[:3])}; fill the column in.")
        if not known_N.all():
            what = "not judged" if name == "test" else "left out"
            warnings.append(
                f"{table.source}: {(~known_N).sum():,} of {len(known_N):,} cells of the {name} part have no label and are {what}."
            )
        found[name] = _Targets(rows, targets_NK[rows], known_N[rows])
    never = [name for name, count in zip(task.classes, found["train"].targets_NK.sum(axis=0), strict=True) if not count]
    if never:
        warnings.append(f"No training cell is of {', '.join(repr(name) for name in never[:5])}, which therefore cannot be learnt.")
    return task, found, tuple(warnings)


def _parts(cells: Mapping[str, Cells], inputs: Mapping[str, Inputs], targets: Mapping[str, _Targets]) -> dict[str, Part]:
    return {name: Part(cells[name], LabelledInputs(inputs[name], targets[name].targets_NK, targets[name].known_N)) for name in cells}


def _head(config: Config, features: int, task: Task) -> torch.nn.Module:
    return build_head(HeadKind.of(config.classification), features, len(task.classes), config.classification.seed)


def _load_head(config: Config, classifier: Classifier) -> None:
    wanted = config.classification
    if wanted.load_classifier_head:
        if not wanted.classifier_state_dict:
            raise ConfigError(
                f"{config.where('classification', 'load_classifier_head')} is true and classifier_state_dict names no file; name one."
            )
        load_head(classifier, wanted.classifier_state_dict, wanted.classifier_type)
    elif not (wanted.train and wanted.train_classifier_head):
        key = "train" if not wanted.train else "train_classifier_head"
        raise ConfigError(
            f"{config.where('classification', key)} is false, and no head is loaded; set load_classifier_head to true and name the head "
            "in classifier_state_dict."
        )
