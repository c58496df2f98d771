"""From a configuration and a table of cells to a model artifact: assembles the parts, runs the loop, writes what came out."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from dataclasses import replace

import torch

import dino4cells
from dino4cells import storage
from dino4cells.artifacts import ArtifactWriter
from dino4cells.augment.normalization import with_data_statistics
from dino4cells.config import TRANSFORM_SECTIONS, Config
from dino4cells.data.block_order import BlockOrder
from dino4cells.data.dataset import CellImages
from dino4cells.data.metadata import Metadata
from dino4cells.data.sampler import Order, SampleStream
from dino4cells.data.source import image_source
from dino4cells.data.strata import sample_order
from dino4cells.errors import ConfigError
from dino4cells.lease import Lease
from dino4cells.models import artifact
from dino4cells.models.artifact import ModelCard, TrainingSummary
from dino4cells.models.readme import readme
from dino4cells.progress import Progress
from dino4cells.training import checkpoint as checkpoints
from dino4cells.training.distributed import ProcessGroup, first_decides
from dino4cells.training.loop import DINO
from dino4cells.training.resume import RunIdentity
from dino4cells.training.run import Run
from dino4cells.training.run_log import RunLog
from dino4cells.training.schedules import Schedules
from dino4cells.training.tensorboard import EVENTS, clear_events, dump_events
from dino4cells.training.throughput import Stopwatch

logger = logging.getLogger(__name__)


def fit(
    config: Config,
    metadata: Metadata,
    output: str,
    group: ProcessGroup,
    *,
    resume_directory: str,
    lease: Lease | None = None,
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
        lease: of the output, in the process that writes; confirmed before each write.
        on_record: called with (DINO, samples seen, seconds so far) at every logged step, for benchmarks.

    Raises:
        ConfigError: a batch larger than the data, a transform that does not fit, or another key that is wrong.
        DataError: no image can be read, too many cannot, their channels are not those announced, or groups or classes cannot be drawn.
        CheckpointError: the checkpoints are of a run with another configuration or other data.
        LeaseLost: another run has taken the output over.
        Interrupted: the run was asked to stop; a checkpoint was written.
    """
    model = config.model
    order = sample_order(metadata, config)
    if group.is_first:
        _warn(order, metadata, group.world_size)
    narrowed = any(name == "Get_specific_channel" for section in TRANSFORM_SECTIONS for name, _ in config.section(section))
    source = image_source(metadata, model, one_channel_views=narrowed)
    batch_size = model.batch_size or model.batch_size_per_gpu * group.world_size
    stream = SampleStream(order, model.epochs, batch_size, model.seed, rank=group.rank, world_size=group.world_size)
    schedules = Schedules.from_config(model, len(order), stream.total, batch_size)
    images, fingerprint, identity = CellImages(source), config.fingerprint(), RunIdentity.of(config, metadata, order)
    # An image that one process alone could not read would give each a normalization of its own.
    config = first_decides(lambda: with_data_statistics(config, images))
    if isinstance(order, BlockOrder):  # not before: for the statistics images are read here and there
        images = CellImages(source.buffered(order, group.world_size))
    dino = DINO(config, source.in_channels, schedules, group)
    if group.is_first:
        logger.info("Training in %s.", dino.arithmetic)
    seen, log = _resume(dino, resume_directory, identity)
    if seen == 0 and model.init:
        log.init = dino.start_from(config, source.channels)
        if group.is_first:
            logger.info("%s", "\n".join(log.init))
    watch = Stopwatch(group, batch_size, seen)
    run = Run(dino, replace(stream, start=seen), metadata, log, watch, identity, resume_directory, lease, on_record)

    with Progress("train", stream.total, done=seen, enabled=group.is_first) as progress:
        run.go(images, progress)
    if not log.records:
        raise ConfigError(f"model.epochs: {model.epochs} epochs of {len(order)} images hold no step of {batch_size} images; raise it.")

    loss_start, loss_end = log.ends()
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
            samples_seen=run.seen,
            epochs=run.seen / len(order),
            loss_start=loss_start,
            loss_end=loss_end,
            seconds=watch.seconds,
            **watch.whole().record(),
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
        if lease is not None:
            lease.confirm()
        _write(dino, card, config, run.state(), log, output, lease)
        clean_up(resume_directory)
    return card


def clean_up(resume_directory: str) -> None:
    """Delete what a run keeps beside its model until that is complete."""
    clear_events(resume_directory)
    checkpoints.clear(resume_directory)


def _warn(order: Order, metadata: Metadata, processes: int) -> None:
    """Say what a person may not have meant about the order of an epoch."""
    if order.rows < len(metadata):
        logger.warning("%s of %s cells belong to no class and are never drawn.", f"{len(metadata) - order.rows:,}", f"{len(metadata):,}")
    if isinstance(order, BlockOrder):
        readers = processes * order.open_blocks(processes) // order.lanes
        if readers > 1 and processes <= order.lanes:
            logger.warning(
                "%s: %d blocks are mixed, no multiple of %d processes, so that each is read by %d of them; change model.shuffle_blocks.",
                metadata.source, order.lanes, processes, readers,
            )  # fmt: skip
    elif metadata.packed is not None:
        logger.warning("%s: the order goes all over the packed images, so that each is a request of its own.", metadata.source)


def _resume(dino: DINO, directory: str, identity: RunIdentity) -> tuple[int, RunLog]:
    found = identity.find(directory)
    if found is None:
        return 0, RunLog()
    seen = dino.restore(found, directory)
    if dino.group.is_first:
        logger.info("Continuing after %s images from %s.", f"{seen:,}", directory)
    return seen, RunLog(list(found.get("log", [])), dict(found.get("failures", {})), init=tuple(found.get("init", ())))


def _write(
    dino: DINO, card: ModelCard, config: Config, state: checkpoints.Checkpoint, log: RunLog, output: str, lease: Lease | None
) -> None:
    with ArtifactWriter(output, artifact.KIND) as writer:
        writer.write_bytes(artifact.WEIGHTS, artifact.dump_weights(dino.teacher.backbone))
        writer.write_bytes(artifact.CHECKPOINT, checkpoints.dump(state))
        writer.write_text(artifact.CARD, card.model_dump_json(indent=2) + "\n")
        weights = sum(parameter.numel() for parameter in dino.teacher.backbone.parameters())
        writer.write_text(artifact.README, readme(card, log.records, storage.name(output), config, weights))
        writer.write_text(artifact.CONFIG, config.to_yaml())
        writer.write_text(artifact.LOG, log.lines())
        events = dump_events(log.records)
        if events is not None:
            writer.write_bytes(EVENTS, events)
        if lease is not None:  # what was written so far is staged: an output of another run is still whole
            lease.confirm()
