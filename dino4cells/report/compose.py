"""The report of a run: what the artifacts of its steps hold, put together for the page."""

from __future__ import annotations

import math

import numpy as np

import dino4cells
from dino4cells import storage
from dino4cells.classify.evaluate import Evaluation
from dino4cells.data.metadata import Metadata
from dino4cells.features.store import Features, FeaturesCard
from dino4cells.models.artifact import TrainedModel
from dino4cells.report.data import ReportData
from dino4cells.report.examples import draw_examples, example_reader, read_examples
from dino4cells.report.page import render_report
from dino4cells.report.projection import project


def compose_report(
    table: Features, evaluation: Evaluation, metadata: Metadata | None, trained: TrainedModel | None, artifacts: dict[str, str]
) -> str:
    """The page of a run.

    Args:
        table: the features.
        evaluation: the judgement on them.
        metadata: the cells, for pictures of them, or None: a page without.
        trained: the model, for the loss curve and the settings, or None: a page without.
        artifacts: what is where, by a word each.

    Returns:
        HTML, self-contained.
    """
    model, data = table.card.model_fingerprint[:12], table.card.data_fingerprint[:12]
    return render_report(
        ReportData(
            title=f"Phenotypes in {storage.name(storage.parent(table.card.data))}",
            channels=table.card.channels,
            labels=evaluation.labels,
            results=evaluation.results,
            split=evaluation.folds.description,
            examples=_examples(evaluation, metadata, table.card) if metadata and table.card.channels else {},
            loss=trained.log() if trained else (),
            plateau=math.log(trained.config.model.out_dim) if trained else None,
            feature_map=project(table.dino[evaluation.rows], evaluation.labels),
            groups=evaluation.groups,
            group_name=evaluation.group or "group",
            settings=trained.config.to_yaml() if trained else "",
            artifacts=artifacts,
            warnings=evaluation.warnings,
            footer=f"dino4cells {dino4cells.__version__}, model {model}, data {data}",
        )
    )


def _examples(evaluation: Evaluation, metadata: Metadata, card: FeaturesCard) -> dict[str, list[np.ndarray]]:
    return read_examples(example_reader(metadata, card), draw_examples(evaluation.rows, evaluation.labels))
