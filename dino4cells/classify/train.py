"""From cells and a configuration to a classifier artifact: assembles the parts, trains, judges, writes what came out."""

from __future__ import annotations

import hashlib
import json
import platform
import time

import torch

import dino4cells
from dino4cells import storage
from dino4cells.classify.assembly import Assembly, on_features, on_images
from dino4cells.classify.classifier import ClassifierCard
from dino4cells.classify.head_training import HeadTraining
from dino4cells.classify.heads import HeadKind
from dino4cells.classify.judgement import judge, temperatures_of
from dino4cells.classify.logits import logits_of
from dino4cells.classify.results import write
from dino4cells.classify.resume import Progressed, ResumePlace
from dino4cells.config import Config
from dino4cells.lease import Lease
from dino4cells.models.artifact import TrainedModel
from dino4cells.training.distributed import ProcessGroup

NOT_FOR_THE_OUTCOME = frozenset({"output_dir", "output_prefix", "overwrite", "num_workers", "folds", "neighbours"})


def train_classifier(
    config: Config,
    output: str,
    group: ProcessGroup,
    *,
    features: str | None,
    data: str | None,
    model: TrainedModel | None,
    resume_directory: str,
    lease: Lease | None = None,
) -> ClassifierCard:
    """Train a head on features, or a backbone and a head on images, and write the classifier artifact.

    Args:
        config: `classification` says what; on images also `model`, `embedding` and the sections of transforms.
        output: URL of the artifact.
        group: the processes; rank 0 writes.
        features: URL of the features of all cells; the configuration's when None.
        data: URL of the images of all cells; the configuration's when None.
        model: the backbone that images pass, or None.
        resume_directory: URL where checkpoints of an unfinished run are; emptied when the artifact is complete.
        lease: of the output, in the process that writes; confirmed before the artifact is written.

    Raises:
        ConfigError, DataError: what the user can fix.
        LeaseLost: another run has taken the output over.
        Interrupted: the run was asked to stop; a checkpoint was written.
    """
    wanted = config.classification
    on_given_features = wanted.use_pretrained_features
    run = on_features(config, features, group) if on_given_features else on_images(config, data, model, group)
    started = time.monotonic()
    progressed, epoch_length = Progressed(), 1
    if run.classifier.learns and wanted.train:
        parts = run.parts
        training = HeadTraining(run.classifier, run.task, parts["train"].labelled, parts["valid"].labelled, wanted, group, run.precision)
        place = ResumePlace(resume_directory, _identity(run), config.model.checkpoint_minutes)
        progressed, epoch_length = training.run(place), len(training.order)
    seconds = time.monotonic() - started
    classes = len(run.task.classes)
    logits = {name: logits_of(run.classifier, part.labelled.inputs, classes, group, run.precision) for name, part in run.parts.items()}
    card = ClassifierCard(
        classes=run.task.classes,
        several=run.task.several,
        columns=run.task.columns,
        head=HeadKind.of(wanted),
        features=len(run.classifier.mean_D),
        averaged=wanted.whole_images and wanted.use_pretrained_features,
        model_fingerprint=run.model_fingerprint,
        taken=run.taken,
        backbone=run.backbone,
        temperatures=temperatures_of(run, logits),
        epochs=progressed.seen / epoch_length,
        kept_epoch=progressed.best_epoch,
        samples_seen=progressed.seen,
        seconds=seconds,
        processes=group.world_size,
        data=run.data,
        split=run.split,
        versions={"dino4cells": dino4cells.__version__, "torch": torch.__version__, "python": platform.python_version()},
    )
    if group.is_first:
        judged = judge(run, logits, card.temperatures, wanted)
        if lease is not None:
            lease.confirm()
        write(output, run.config, card, run, progressed.records, logits, judged)
        storage.remove(resume_directory)
    return card


def _identity(run: Assembly) -> str:
    """SHA-256 of what decides the outcome."""
    content = {
        "classification": run.config.classification.model_dump(mode="json", exclude=set(NOT_FOR_THE_OUTCOME)),
        "training": run.config.fingerprint() if run.backbone is not None else "",
        "backbone": run.model_fingerprint,
        "classes": run.task.classes,
        "cells": {name: part.cells.source for name, part in run.parts.items()},
        "targets": {name: hashlib.sha256(part.labelled.targets_NK.tobytes()).hexdigest() for name, part in run.parts.items()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
