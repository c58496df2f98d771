"""From a configuration and a table of cells to a model artifact: assembles the parts, runs the loop, writes what came out."""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

import dino4cells
from dino4cells.artifacts import ArtifactWriter
from dino4cells.augment.normalization import with_data_statistics
from dino4cells.config import TRANSFORM_SECTIONS, Config
from dino4cells.data.dataset import Batch, CellImages, load_batches
from dino4cells.data.metadata import Metadata
from dino4cells.data.sampler import SampleOrder, SampleStream
from dino4cells.data.source import image_source
from dino4cells.data.strata import sample_order
from dino4cells.errors import ConfigError, DataError
from dino4cells.models import artifact
from dino4cells.models.artifact import ModelCard, TrainingSummary
from dino4cells.progress import Progress
from dino4cells.training import checkpoint as checkpoints
from dino4cells.training.distributed import ProcessGroup, gather_from_ranks, sum_over_ranks
from dino4cells.training.interruption import CHECK_EVERY, Interrupted, any_process, stop_signal
from dino4cells.training.loop import DINO
from dino4cells.training.resume import RunIdentity
from dino4cells.training.schedules import Schedules

RECORDS = 200  # lines of log.jsonl that a run aims at
SUMMARY_SHARE = 0.05  # of the records, at either end, whose mean loss is reported
LISTED_FAILURES = 20
logger = logging.getLogger(__name__)
Record = dict[str, float]


@dataclass
class RunLog:
    """What a run reports: its records, the loss since the last one, the images that could not be read, what it began with."""

    records: list[Record] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    losses: list[torch.Tensor] = field(default_factory=list)
    init: tuple[str, ...] = ()

    def mean_loss(self, device: torch.device) -> float:
        """Mean loss since the last call over all processes."""
        summed = torch.stack([torch.stack(self.losses).sum(), torch.tensor(float(len(self.losses)), device=device)])
        self.losses = []
        loss, count = sum_over_ranks(summed).tolist()
        return float(loss / count)


def fit(
    config: Config,
    metadata: Metadata,
    output: str,
    group: ProcessGroup,
    *,
    resume_directory: str,
    on_record: Callable[[DINO, int, float], None] | None = None,
) -> ModelCard:
    """Train DINO and write the model artifact; continues from the latest checkpoint in `resume_directory`.

    Args:
        config: the resolved configuration.
        metadata: the cells.
        output: URL of the model artifact.
        group: the processes; rank 0 writes.
        resume_directory: URL where checkpoints of an unfinished run are; when the artifact is complete, only the copies that
            `model.saveckp_freq` asks for stay there.
        on_record: called with (DINO, samples seen, seconds so far) at every logged step, for benchmarks.

    Raises:
        ConfigError: a batch larger than the data, a transform that does not fit, or another key that is wrong.
        DataError: no image can be read, too many cannot, their channels are not those announced, or groups or classes cannot be drawn.
        CheckpointError: the checkpoints are of a run with another configuration or other data.
        Interrupted: the run was asked to stop; a checkpoint was written.
    """
    model = config.model
    order = sample_order(metadata, config)
    if group.is_first and order.rows < len(metadata):
        logger.warning("%s of %s cells belong to no class and are never drawn.", f"{len(metadata) - order.rows:,}", f"{len(metadata):,}")
    narrowed = any(name == "Get_specific_channel" for section in TRANSFORM_SECTIONS for name, _ in config.section(section))
    source = image_source(metadata, model, one_channel_views=narrowed)
    batch_size = model.batch_size or model.batch_size_per_gpu * group.world_size
    stream = SampleStream(order, model.epochs, batch_size, model.seed, rank=group.rank, world_size=group.world_size)
    schedules = Schedules.from_config(model, len(order), stream.total, batch_size)
    images = CellImages(source)
    fingerprint, identity, config = config.fingerprint(), RunIdentity.of(config, metadata), with_data_statistics(config, images)
    dino = DINO(config, source.in_channels, schedules, group)
    seen, log = _resume(dino, resume_directory, identity)
    if seen == 0 and model.init:
        log.init = dino.start_from(config, source.channels)
        if group.is_first:
            print("\n".join(log.init), flush=True)
    stream = replace(stream, start=seen)
    started, seen_before = time.monotonic(), seen

    with Progress("train", stream.total, done=seen, enabled=group.is_first) as progress:
        seen = _run(dino, stream, images, log, progress, resume_directory, identity, on_record)
    seconds = time.monotonic() - started
    if not log.records:
        raise ConfigError(f"model.epochs: {model.epochs} epochs of {len(order)} images hold no step of {batch_size} images; raise it.")

    edge = max(1, round(len(log.records) * SUMMARY_SHARE))
    card = ModelCard(
        arch=model.arch,
        patch_size=model.patch_size,
        image_size=model.image_size,
        embedding_dim=dino.teacher.backbone.embed_dim,
        channels=source.channels,
        image_mode=model.image_mode,
        in_channels=dino.in_channels,
        seed=model.seed,
        normalization=[[name, parameters] for name, parameters in config.section("testing_transfo")],
        training=TrainingSummary(
            images=len(metadata),
            samples_seen=seen,
            epochs=seen / len(order),
            loss_start=_mean([record["loss"] for record in log.records[:edge]]),
            loss_end=_mean([record["loss"] for record in log.records[-edge:]]),
            images_per_second=(seen - seen_before) / max(seconds, 1e-9),
            seconds=seconds,
            processes=group.world_size,
            device=torch.cuda.get_device_name() if group.device.type == "cuda" else platform.processor() or platform.machine(),
            bad_images=len(log.failures),
        ),
        init=log.init,
        data=metadata.source,
        data_fingerprint=metadata.fingerprint,
        config_fingerprint=fingerprint,
        versions={"dino4cells": dino4cells.__version__, "torch": torch.__version__, "python": platform.python_version()},
    )
    if group.is_first:
        _write(dino, card, config, _state(dino, log, identity, order, seen), log, output)
        checkpoints.clear(resume_directory)
    return card


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _resume(dino: DINO, directory: str, identity: RunIdentity) -> tuple[int, RunLog]:
    found = identity.find(directory)
    if found is None:
        return 0, RunLog()
    seen = dino.restore(found, directory)
    if dino.group.is_first:
        logger.warning("Continuing after %s images from %s.", f"{seen:,}", directory)
    return seen, RunLog(list(found.get("log", [])), dict(found.get("failures", {})), init=tuple(found.get("init", ())))


def _state(dino: DINO, log: RunLog, identity: RunIdentity, order: SampleOrder, seen: int) -> checkpoints.Checkpoint:
    """The checkpoint of the networks, and what a run knows besides."""
    run = {"log": log.records, "failures": log.failures, "init": log.init, **identity.stamp()}
    return {**dino.checkpoint(seen, seen // len(order)), **run}


def _run(
    dino: DINO,
    stream: SampleStream,
    images: CellImages,
    log: RunLog,
    progress: Progress,
    resume_directory: str,
    identity: RunIdentity,
    on_record: Callable[[DINO, int, float], None] | None,
) -> int:
    """The loop over steps; returns the samples seen."""
    group, config, epoch = dino.group, dino.config, len(stream.order)
    seen, started, saved = stream.start, time.monotonic(), time.monotonic()
    every, copied_every = max(1, stream.total // stream.batch_size // RECORDS), epoch * config.saveckp_freq
    # On a CPU the reading processes would only compete with the training ones.
    workers = config.num_workers if group.device.type == "cuda" else 0
    with stop_signal() as stop:
        for number, batch in enumerate(load_batches(images, stream, workers, pin_memory=group.device.type == "cuda"), start=1):
            _note_failures(log, batch, len(images), config.max_bad_images)
            log.losses.append(dino.step(batch, seen))
            before, seen = seen, seen + stream.batch_size
            last, note = number == len(stream), None
            asked = late = False
            if number % CHECK_EVERY[group.device.type] == 0 and not last:  # after the last step the model itself is written
                asked, late = any_process(stop(), time.monotonic() - saved > 60 * config.checkpoint_minutes, group)
            if asked or late or last or seen // stream.batch_size % every == 0:
                record = _record(dino, log, seen, seen / epoch, (seen - stream.start) / (time.monotonic() - started))
                note = f"epoch {seen / epoch:.1f}/{config.epochs} · loss {record['loss']:.3f}"
                _share_failures(log, len(images), config.max_bad_images, group.device)
                if on_record:
                    on_record(dino, seen, time.monotonic() - started)
            if asked or late:
                if group.is_first:
                    checkpoints.save(resume_directory, _state(dino, log, identity, stream.order, seen))
                saved = time.monotonic()
            if group.is_first and copied_every and seen // copied_every > before // copied_every and not last:
                checkpoints.keep_copy(resume_directory, _state(dino, log, identity, stream.order, seen))
            if asked:
                raise Interrupted
            progress.advance(stream.batch_size, note)
    return seen


def _record(dino: DINO, log: RunLog, seen: int, epoch: float, rate: float) -> Record:
    loss = log.mean_loss(dino.group.device)
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise ConfigError(
            f"model.lr: the loss is {loss} after {seen:,} images, so training cannot go on; lower model.lr ({dino.config.lr}) "
            "or lengthen model.warmup_epochs, and start again from the last checkpoint."
        )
    schedules = dino.schedules
    record = {
        "samples": seen,
        "epoch": round(epoch, 4),
        "loss": loss,
        "lr": schedules.lr(seen),
        "weight_decay": schedules.weight_decay(seen),
        "momentum": schedules.momentum(seen),
        "teacher_temp": schedules.teacher_temperature(seen),
        "images_per_second": rate,
    }
    log.records.append(record)
    return record


def _note_failures(log: RunLog, batch: Batch, length: int, limit: float) -> None:
    """Remember and list images that could not be read; stops at once where this process alone has too many (a store that is gone)."""
    for index, reason in batch.failures:
        if index not in log.failures:
            log.failures[index] = reason
            if len(log.failures) <= LISTED_FAILURES:
                logger.warning("Skipped: %s", reason)
    _check_failures(log, length, limit)


def _share_failures(log: RunLog, length: int, limit: float, device: torch.device) -> None:
    """Bring the failures of all processes together."""
    if not sum_over_ranks(torch.tensor(len(log.failures), device=device)).item():
        return
    merged: dict[int, str] = {}
    for failures in gather_from_ranks(log.failures):
        merged.update(failures)
    log.failures = merged
    _check_failures(log, length, limit)


def _check_failures(log: RunLog, length: int, limit: float) -> None:
    # In a small table a single image is more than the usual limit; only a limit of 0 means none at all.
    if len(log.failures) > (max(1, int(limit * length)) if limit else 0):
        raise DataError(
            f"{len(log.failures)} of {length} images cannot be read, more than model.max_bad_images ({limit:.1%}) allows; "
            f"mend them or raise the limit; the first says: {next(iter(log.failures.values()))}"
        )


def _write(dino: DINO, card: ModelCard, config: Config, state: checkpoints.Checkpoint, log: RunLog, output: str) -> None:
    with ArtifactWriter(output, artifact.KIND) as writer:
        writer.write_bytes(artifact.WEIGHTS, artifact.dump_weights(dino.teacher.backbone))
        writer.write_bytes(artifact.CHECKPOINT, checkpoints.dump(state))
        writer.write_text(artifact.CARD, card.model_dump_json(indent=2) + "\n")
        writer.write_text(artifact.CONFIG, config.to_yaml())
        writer.write_text(artifact.LOG, "".join(json.dumps(record) + "\n" for record in log.records))
