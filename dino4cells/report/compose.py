"""The report of a run: what the artifacts of its steps hold, put together for the page."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

import dino4cells
from dino4cells import storage
from dino4cells.classify.batch_effect import batch_effect
from dino4cells.classify.evaluation import TRAINED, Evaluation
from dino4cells.data.metadata import Metadata
from dino4cells.features.store import Features
from dino4cells.models.artifact import ModelCard, TrainedModel
from dino4cells.report.attention import attention_examples
from dino4cells.report.cell_map import map_cells
from dino4cells.report.data import ReportData
from dino4cells.report.examples import cell_pictures, draw_examples, example_reader, read_examples
from dino4cells.report.labels import NOT_JUDGED
from dino4cells.report.page import render_report


def compose_report(
    table: Features, evaluation: Evaluation, metadata: Metadata | None, trained: TrainedModel | None, artifacts: dict[str, str]
) -> str:
    """The page of a run.

    Args:
        table: the features.
        evaluation: the judgement on them.
        metadata: the cells, for pictures of them, or None: a page without.
        trained: the model, for the curves of training, attention maps and the settings, or None: a page without.
        artifacts: what is where, by a word each.

    Returns:
        HTML, self-contained.
    """
    model, data = table.card.model_fingerprint[:12], table.card.data_fingerprint[:12]
    rows, labels, channels = evaluation.rows, evaluation.labels, table.card.channels
    chosen = draw_examples(rows, labels)
    examples: dict[str, list[np.ndarray]] = {}
    pictures = None
    if metadata and channels:
        images = example_reader(metadata, table.card)
        examples = read_examples(images, chosen)
        pictures = cell_pictures(images, channels, examples)
    sets = {name: values[rows] for name, values in {TRAINED: table.dino, **table.baselines}.items()}
    return render_report(
        ReportData(
            title=f"Phenotypes in {storage.name(storage.parent(table.card.data))}",
            channels=channels,
            labels=labels,
            results=evaluation.results,
            split=evaluation.folds.description,
            resampled=evaluation.resampled,
            nearest=evaluation.nearest,
            examples=examples,
            log=trained.log() if trained else (),
            plateau=math.log(trained.config.model.out_dim) if trained else None,
            cells=map_cells(sets[TRAINED], _described(table, evaluation), labels, evaluation.label, rows=rows, pictures=pictures),
            attention=attention_examples(trained, metadata, chosen),
            batch=None if evaluation.groups is None else batch_effect(sets, labels, evaluation.groups, evaluation.group or "group"),
            groups=evaluation.groups,
            group_name=evaluation.group or "group",
            run=_run(table, trained),
            settings=trained.config.to_yaml() if trained else "",
            artifacts=artifacts,
            warnings=evaluation.warnings,
            footer=f"dino4cells {dino4cells.__version__}, model {model}, data {data}",
        )
    )


def _described(table: Features, evaluation: Evaluation) -> pd.DataFrame:
    """What the table says about each judged cell, and what was predicted for it out of fold."""
    frame: pd.DataFrame = table.metadata.iloc[evaluation.rows].reset_index(drop=True)
    frame[evaluation.label] = evaluation.labels
    for result in list(evaluation.results[TRAINED].values())[:1]:
        judged = result.predictions != ""
        frame[f"predicted ({result.name})"] = np.where(judged, result.predictions, NOT_JUDGED)
        right = np.where(result.predictions == evaluation.labels, "right", "wrong")
        frame[f"prediction ({result.name})"] = np.where(judged, right, NOT_JUDGED)
    return frame


def _run(table: Features, trained: TrainedModel | None) -> dict[str, str]:
    card = table.card
    rows = {"Data": card.data, "Data fingerprint": card.data_fingerprint, "Channels": ", ".join(card.channels)}
    if trained:
        network = trained.card
        rows["Network"] = f"{network.arch}, patches of {network.patch_size} px" if network.arch.startswith("vit") else network.arch
        if isinstance(network, ModelCard):
            training = network.training
            rows["Training"] = (
                f"{training.epochs:,.3g} epochs of {training.images:,} images ({training.samples_seen:,} seen), "
                f"{training.processes:,} {'process' if training.processes == 1 else 'processes'} on {training.device}"
            )
            rows["Starting weights"] = "; ".join(network.init) or f"random, seed {network.seed}"
            rows["Versions in training"] = _versions(network.versions)
            rows["Configuration fingerprint"] = network.config_fingerprint
    rows["Model fingerprint"] = card.model_fingerprint
    rows["Features"] = f"{card.embedding_dim:,} a cell, in {card.precision}"
    rows["Transforms in extraction"] = ", ".join(str(transform[0]) for transform in card.transforms)
    rows["Versions in extraction"] = _versions(card.versions)
    return {name: value for name, value in rows.items() if value}


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
