"""Extraction: the teacher's embedding of every cell, each process a contiguous share of the rows."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Sampler

import dino4cells
from dino4cells.artifacts import ArtifactWriter, FileEntry, SingleFile
from dino4cells.augment.views import ViewKind
from dino4cells.config import Config
from dino4cells.data.channels import are_numbered
from dino4cells.data.dataset import CellImages
from dino4cells.data.loading import load_batches
from dino4cells.data.metadata import Metadata
from dino4cells.data.sampler import EpochAndIndex
from dino4cells.data.source import ImageSource, source_for_model
from dino4cells.errors import ConfigError
from dino4cells.features import store
from dino4cells.features.embedding import arithmetic
from dino4cells.features.grouping import InOrder
from dino4cells.features.part_writer import MetadataColumns, PartWriter
from dino4cells.features.shown import ShownChannels
from dino4cells.features.store import FeaturesCard
from dino4cells.features.tokens import TokenChoice
from dino4cells.features.values import CellValues
from dino4cells.models.artifact import TrainedModel
from dino4cells.progress import Progress
from dino4cells.training.distributed import ProcessGroup, gather_from_ranks

# What a process reports: the files it published, its failed rows, its images per second.
Share = tuple[list[FileEntry], int, float]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rows(Sampler[list[EpochAndIndex]]):
    """Rows `start` … `stop` − 1 in order, in batches."""

    start: int
    stop: int
    batch_size: int

    def __len__(self) -> int:
        return -(-(self.stop - self.start) // self.batch_size)

    def __iter__(self) -> Iterator[list[EpochAndIndex]]:
        for first in range(self.start, self.stop, self.batch_size):
            yield [(0, index) for index in range(first, min(first + self.batch_size, self.stop))]


def source_of(model: TrainedModel, metadata: Metadata, config: Config) -> ImageSource:
    """The images of a table, with the model's channels in the model's order.

    Raises:
        DataError: the data's channels are not the model's, in number, name or order; says both lists.
        ConfigError: `embedding.channels` does not fit, or the configuration has another image mode than the model.
    """
    card, asked = model.card, config.model.image_mode
    plain = ("normalized", "normalized_3_channels", "normalized_4_channels")
    if "image_mode" in config.model.model_fields_set and asked != card.image_mode and not (asked in plain and card.image_mode in plain):
        raise ConfigError(
            f"{config.where('model', 'image_mode')} is {asked} and the model was trained with {card.image_mode}; "
            "leave it out, or correct it."
        )
    return source_for_model(metadata, card.channels, card.image_mode, mapping=config.embedding.channels, named=config.model.channels)


def check_network(model: TrainedModel, source: ImageSource, view: ViewKind) -> None:
    """Refuse a view that gives the network another number of channels or smaller images than it takes.

    Raises:
        ConfigError: says both numbers.
    """
    given, taken = view.channels_after(source.in_channels), model.card.in_channels or len(model.card.channels)
    if given != taken:
        raise ConfigError(
            f"testing_transfo: gives the network {given} channels of {source.in_channels} in image mode {model.card.image_mode}, and the "
            f"model takes {taken}; use the transforms that the model was trained with."
        )
    if view.side is not None and view.side < model.backbone.smallest_side:
        raise ConfigError(
            f"testing_transfo: gives the network images of {view.side} px, and {model.card.arch} takes {model.backbone.smallest_side} px "
            "and more; make them larger."
        )


def extract_features(
    model: TrainedModel, metadata: Metadata, output: str, group: ProcessGroup, config: Config, *, baselines: bool
) -> FeaturesCard:
    """Write the features of every row of the table, in order; a row whose image cannot be read gets NaN and the reason.

    Args:
        model: the trained model.
        metadata: the cells.
        output: URL of the features artifact.
        group: the processes; each takes a share of the rows.
        config: `testing_transfo` and `embedding` are used.
        baselines: also write features of the untrained network and intensity statistics.

    Raises:
        DataError: no image can be read, the channels are not the model's, or a column has a name that is needed here.
    """
    store.check_columns(metadata.frame, metadata.source)
    source = source_of(model, metadata, config)
    if group.is_first and are_numbered(source.channels) and not are_numbered(model.card.channels):
        logger.warning(
            "%s: the data do not name their channels; they are taken for the model's, in this order: %s. Names in channels.txt make sure.",
            metadata.source, ", ".join(model.card.channels),
        )  # fmt: skip
    view = ViewKind.from_sections(config, ("testing_transfo",))
    check_network(model, source, view)
    shown = ShownChannels.from_config(config, source, model.card.channels)
    choice = TokenChoice.from_config(config, model.backbone, model.card.arch)
    precision = arithmetic(config, model.card, isinstance(model.artifact, SingleFile), group.device)
    networks = [model.backbone, model.untrained()] if baselines else [model.backbone]
    networks = [network.to(group.device).eval() for network in networks]
    most = config.embedding.batch_size
    cells = CellValues(source, view, tuple(networks), model.card, group.device, precision, most, choice, shown)
    bounds = np.linspace(0, len(metadata), group.world_size + 1).round().astype(int)
    rows = Rows(int(bounds[group.rank]), int(bounds[group.rank + 1]), config.embedding.batch_size)
    workers = config.embedding.num_workers if group.device.type == "cuda" else 0
    with ArtifactWriter(output, store.KIND, with_manifest=group.is_first) as writer:
        parts = [PartWriter(writer.path(store.part_name(group.rank)), MetadataColumns.of(metadata.frame), _names(store.FEATURE, cells.dim))]
        if baselines:
            columns = [*_names(store.UNTRAINED, cells.dim), *cells.intensities]
            parts.append(PartWriter(writer.path(store.baseline_name(group.rank)), None, columns))
        progress = Progress("extract", rows.stop - rows.start, enabled=group.is_first)
        loader = load_batches(CellImages(source, cache_bytes=0), rows, workers, group.device)
        ordered, failed = InOrder(rows.start, cells.columns), 0
        with parts[0], parts[1] if baselines else nullcontext(), progress, iter(loader) as batches:
            for values in cells.of(batches):
                failed += len(values.failures)
                ordered.put(values)
                done = ordered.take()
                reasons = dict(done.failures)
                errors = [reasons.get(row) for row in done.rows]
                parts[0].write(done.table[:, : cells.dim], np.array(done.rows, np.int64), model.artifact.fingerprint, errors)
                if baselines:
                    parts[1].write(done.table[:, cells.dim :])
                progress.advance(len(done.rows))
        rate = progress.per_second
        names = [store.part_name(group.rank), *([store.baseline_name(group.rank)] if baselines else [])]
        share: Share = ([writer.publish(name) for name in names], failed, rate)
        shares = gather_from_ranks(share)
        card = _card(model, metadata, cells, config, baselines, shares)
        if group.is_first:
            for entries, _, _ in shares[1:]:
                for entry in entries:
                    writer.adopt(entry)
            writer.write_text(store.CARD, card.model_dump_json(indent=2) + "\n")
    return card


def _names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{index}" for index in range(count)]


def _card(model: TrainedModel, metadata: Metadata, cells: CellValues, config: Config, baselines: bool, shares: list[Share]) -> FeaturesCard:
    source, names = cells.source, cells.source.kept_channels
    shown = {names[position] for position in cells.shown.positions}
    return FeaturesCard(
        rows=len(metadata),
        failed_rows=sum(failed for _, failed, _ in shares),
        embedding_dim=cells.dim,
        tokens=cells.choice.tokens,
        last_blocks=cells.choice.blocks,
        channels=model.card.channels,
        channels_of_data=source.channels,
        blocks=tuple(tuple(names[position] for position in given if names[position] in shown) for given in cells.shown.inputs),
        black_channels=tuple(name for name in names if name not in shown),
        layout=metadata.layout,
        transforms=[[name, parameters] for name, parameters in config.section("testing_transfo")],
        precision=str(cells.precision).removeprefix("torch."),
        baselines=baselines,
        data=metadata.source,
        data_fingerprint=metadata.fingerprint,
        model=model.artifact.url,
        model_fingerprint=model.artifact.fingerprint,
        model_card=model.card.model_dump(mode="json"),
        images_per_second=sum(rate for _, _, rate in shares),
        versions={"dino4cells": dino4cells.__version__, "torch": torch.__version__, "python": platform.python_version()},
    )
