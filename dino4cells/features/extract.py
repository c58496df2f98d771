"""Extraction: the teacher's class token of every cell, each process a contiguous share of the rows.

Dimensions: B batch, C channels, H height, W width, D embedding.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Sampler

import dino4cells
from dino4cells.artifacts import ArtifactWriter, FileEntry
from dino4cells.augment.draws import sample_keys
from dino4cells.augment.views import ViewKind
from dino4cells.config import Config
from dino4cells.data.channels import are_numbered
from dino4cells.data.dataset import Batch, CellImages, to_unit_range
from dino4cells.data.loading import load_batches
from dino4cells.data.metadata import Metadata
from dino4cells.data.sampler import EpochAndIndex
from dino4cells.data.source import ImageSource, source_for_model
from dino4cells.errors import ConfigError
from dino4cells.features import store
from dino4cells.features.intensity import intensity_names, intensity_statistics
from dino4cells.features.store import FeaturesCard, PartWriter
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


def embed(backbone: nn.Module, view: ViewKind, batch: Batch, seed: int) -> torch.Tensor:
    """Class tokens (B, D), float32, of a batch on its device; images of different sizes are embedded one size at a time."""
    images_BCHW = to_unit_range(batch.images_BCHW)
    views = torch.zeros_like(batch.index_B)
    keys_BV = sample_keys(seed, batch.epoch_B, batch.index_B, views)[:, None]
    if view.side is not None:
        tokens_BD: torch.Tensor = backbone(view.make(images_BCHW, batch.sizes_B2, keys_BV)[0])
        return tokens_BD.float()
    embedded: torch.Tensor | None = None
    for height, width in sorted({(height, width) for height, width in batch.sizes_B2.tolist()}):
        same = (batch.sizes_B2 == batch.sizes_B2.new_tensor([height, width])).all(dim=1)
        tokens_BD = backbone(view.make(images_BCHW[same, :, :height, :width], batch.sizes_B2[same], keys_BV[same])[0]).float()
        embedded = tokens_BD.new_empty(len(batch), tokens_BD.shape[1]) if embedded is None else embedded
        embedded[same] = tokens_BD
    if embedded is None:
        raise ValueError("an empty batch has no embeddings")
    return embedded


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
    networks = [model.backbone, model.untrained()] if baselines else [model.backbone]
    networks = [network.to(group.device).eval() for network in networks]
    bounds = np.linspace(0, len(metadata), group.world_size + 1).round().astype(int)
    rows = Rows(int(bounds[group.rank]), int(bounds[group.rank + 1]), config.embedding.batch_size)
    images = CellImages(source, cache_bytes=0)
    workers = config.embedding.num_workers if group.device.type == "cuda" else 0
    failed = 0

    with ArtifactWriter(output, store.KIND, with_manifest=group.is_first) as writer:
        inputs = source.mode.inputs
        dim = model.card.embedding_dim * len(inputs)
        parts = [PartWriter(writer.path(store.part_name(group.rank)), metadata.frame, _names(store.FEATURE, dim))]
        if baselines:
            columns = _names(store.UNTRAINED, dim) + intensity_names(source.kept_channels)
            parts.append(PartWriter(writer.path(store.baseline_name(group.rank)), None, columns))
        progress = Progress("extract", rows.stop - rows.start, enabled=group.is_first)
        batches = iter(load_batches(images, rows, workers, group.device))
        with parts[0], parts[1] if baselines else nullcontext(), progress, batches:
            for keys, read in zip(rows, batches, strict=True):
                batch = read if view.side is not None else _refuse_tiny(read, source, model.backbone.smallest_side)
                indices = np.array([index for _, index in keys])
                here = batch.to(group.device)
                values = [_by_row(_embed(network, view, here, model.card.seed, inputs), indices, batch, dim) for network in networks]
                reasons = dict(batch.failures)
                parts[0].write(values[0], indices, model.artifact.fingerprint, [reasons.get(int(index)) for index in indices])
                if baselines:
                    intensities = _by_row(_intensities(batch), indices, batch, len(columns) - dim)
                    parts[1].write(np.hstack([values[1], intensities]))
                failed += len(reasons)
                progress.advance(len(keys))
        rate = progress.per_second
        names = [store.part_name(group.rank), *([store.baseline_name(group.rank)] if baselines else [])]
        share: Share = ([writer.publish(name) for name in names], failed, rate)
        shares = gather_from_ranks(share)
        card = _card(model, metadata, source, config, baselines, shares)
        if group.is_first:
            for entries, _, _ in shares[1:]:
                for entry in entries:
                    writer.adopt(entry)
            writer.write_text(store.CARD, card.model_dump_json(indent=2) + "\n")
    return card


def _names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{index}" for index in range(count)]


def _refuse_tiny(batch: Batch, source: ImageSource, smallest: int) -> Batch:
    """The batch without images that are too small for the network, such as one that holds no whole patch; they become failures."""
    fits_B = (batch.sizes_B2 >= smallest).all(dim=1)
    if bool(fits_B.all()):
        return batch
    tiny = tuple(
        (
            index,
            f"{source.where(index)}: is {height}×{width} px and the model takes {smallest} px and more; "
            "give larger images or resize in testing_transfo.",
        )
        for index, (height, width), fits in zip(batch.index_B.tolist(), batch.sizes_B2.tolist(), fits_B.tolist(), strict=True)
        if not fits
    )
    images, sizes, indices, epochs = (tensor[fits_B] for tensor in (batch.images_BCHW, batch.sizes_B2, batch.index_B, batch.epoch_B))
    return Batch(images, sizes, indices, epochs, failures=(*batch.failures, *tiny))


@torch.inference_mode()
def _embed(network: nn.Module, view: ViewKind, batch: Batch, seed: int, inputs: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
    """Features of each image: those of every input of the image mode, side by side."""
    if not len(batch):
        return []
    parts = [embed(network, view, replace(batch, images_BCHW=batch.images_BCHW[:, list(given)]), seed) for given in inputs]
    return list(torch.cat(parts, dim=1).cpu().numpy())


def _intensities(batch: Batch) -> list[NDArray[np.float32]]:
    images = zip(to_unit_range(batch.images_BCHW.cpu()), batch.sizes_B2.tolist(), strict=True)
    return [intensity_statistics(image[:, :height, :width].numpy()).astype(np.float32) for image, (height, width) in images]


def _by_row(values: list[NDArray[np.float32]], indices: NDArray[np.int64], batch: Batch, columns: int) -> NDArray[np.float32]:
    """Values of the images that were read, put at their places among all rows that were asked for; NaN in the others."""
    rows = np.full((len(indices), columns), np.nan, np.float32)
    if values:
        rows[np.isin(indices, batch.index_B.cpu().numpy())] = values
    return rows


def _card(
    model: TrainedModel, metadata: Metadata, source: ImageSource, config: Config, baselines: bool, shares: list[Share]
) -> FeaturesCard:
    kept = source.kept_channels
    return FeaturesCard(
        rows=len(metadata),
        failed_rows=sum(failed for _, failed, _ in shares),
        embedding_dim=model.card.embedding_dim * len(source.mode.inputs),
        channels=model.card.channels,
        channels_of_data=source.channels,
        blocks=tuple(tuple(kept[position] for position in given) for given in source.mode.inputs),
        layout=metadata.layout,
        transforms=[[name, parameters] for name, parameters in config.section("testing_transfo")],
        baselines=baselines,
        data=metadata.source,
        data_fingerprint=metadata.fingerprint,
        model=model.artifact.url,
        model_fingerprint=model.artifact.fingerprint,
        images_per_second=sum(rate for _, _, rate in shares),
        versions={"dino4cells": dino4cells.__version__, "torch": torch.__version__, "python": platform.python_version()},
    )
