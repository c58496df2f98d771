"""Extraction: the teacher's embedding of every cell, each process some parts of the table."""

from __future__ import annotations

import logging
import platform
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
import torch

import dino4cells
from dino4cells import storage
from dino4cells.artifacts import ArtifactWriter, SingleFile, finished_already, is_complete
from dino4cells.augment.views import ViewKind
from dino4cells.config import Config
from dino4cells.data.channels import are_numbered
from dino4cells.data.dataset import Batch, CellImages
from dino4cells.data.loading import load_batches
from dino4cells.data.metadata import Metadata
from dino4cells.data.source import ImageSource, source_for_model
from dino4cells.errors import ConfigError
from dino4cells.features import store
from dino4cells.features.card import FEATURE, UNTRAINED, FeaturesCard
from dino4cells.features.embedding import arithmetic
from dino4cells.features.grouping import InOrder, Values
from dino4cells.features.part_writer import MetadataColumns, PartWriter
from dino4cells.features.parts import Batches, FinishedPart, Plan, Rows, Unfinished, fingerprint_of, identity_of, shared
from dino4cells.features.shown import ShownChannels
from dino4cells.features.tokens import TokenChoice
from dino4cells.features.values import CellValues
from dino4cells.lease import Lease
from dino4cells.models.artifact import TrainedModel
from dino4cells.progress import Progress
from dino4cells.storage_errors import explain
from dino4cells.training.distributed import ProcessGroup, first_decides, gather_from_ranks, wait_for_all

logger = logging.getLogger(__name__)


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
    model: TrainedModel,
    metadata: Metadata,
    output: str,
    group: ProcessGroup,
    config: Config,
    *,
    baselines: bool,
    overwrite: bool = False,
    reuse: bool = False,
    lease: Lease | None = None,
) -> FeaturesCard:
    """Write the features of every row of the table, in order; a row whose image cannot be read gets NaN and the reason.

    An extraction that was interrupted goes on with the parts that are not finished (`dino4cells.features.parts`).

    Args:
        model: the trained model.
        metadata: the cells.
        output: URL of the features artifact; what is there stays as it is until all parts of the new one are finished.
        group: the processes; each takes a share of the parts.
        config: `testing_transfo` and `embedding` are used.
        baselines: also write features of the untrained network and intensity statistics.
        overwrite: delete finished parts of another extraction, if there are any.
        reuse: complete features of the very same extraction are the result, and not extracted again.
        lease: of the output, in the process that holds it; confirmed before each of its parts is kept, and before the artifact is written.

    Raises:
        DataError: no image can be read, the channels are not the model's, or a column has a name that is needed here.
        ArtifactError: there are finished parts of another extraction.
        LeaseLost: another run has taken the output over.
    """
    store.check_columns(metadata.frame, metadata.source)
    cells = _cell_values(model, metadata, group, config, baselines)
    card = _card(model, metadata, cells, config, baselines)
    identity = _identity(card, metadata, config, group)
    card = card.model_copy(update={"extraction": fingerprint_of(identity)})
    unfinished = Unfinished(output)
    if first_decides(lambda: reuse and _is_there(unfinished, card.extraction, overwrite)):
        return store.load_features_card(output)
    wanted = Plan.of(identity, len(metadata), group.world_size, config.embedding.rows_per_part)
    plan = first_decides(lambda: unfinished.plan(wanted, replace=overwrite))
    found = _joined(unfinished.finished(plan, plan.parts[group.rank :: group.world_size]))
    if found and group.is_first:
        _tell_of(found, unfinished)
    there = {part.rows.number for part in found}
    mine = shared([part for part in plan.parts if part.number not in there], group.world_size)[group.rank]
    computed = _compute(mine, plan, cells, unfinished, metadata, card.model_fingerprint, group, config, lease)
    if lease is not None:
        lease.confirm()
    # Entered before the processes meet: the first one sees which files an older artifact has before any is replaced.
    with ArtifactWriter(output, store.KIND, with_manifest=group.is_first) as writer:
        finished = sorted([*found, *_joined(computed)], key=lambda part: part.rows.number)
        for part in finished[group.rank :: group.world_size]:
            for entry in part.files:
                writer.take(unfinished.url, entry)
        wait_for_all()
        if group.is_first:
            files = [entry for part in finished for entry in part.files]
            for entry in files:
                writer.adopt(entry)
            _remove_other_parts(output, {entry.name for entry in files})
            card = card.model_copy(update=_measured(finished, group.world_size))
            writer.write_text(store.CARD, card.model_dump_json(indent=2) + "\n")
    if group.is_first:
        unfinished.clear()
    return card


def _cell_values(model: TrainedModel, metadata: Metadata, group: ProcessGroup, config: Config, baselines: bool) -> CellValues:
    """What is computed of each image; everything is checked before any is read."""
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
    return CellValues(source, view, tuple(networks), model.card, group.device, precision, config.embedding.batch_size, choice, shown)


def _compute(
    parts: Sequence[Rows],
    plan: Plan,
    cells: CellValues,
    unfinished: Unfinished,
    metadata: Metadata,
    model: str,
    group: ProcessGroup,
    config: Config,
    lease: Lease | None,
) -> list[FinishedPart]:
    """Extract some parts, one after the other from one stream of batches, and keep each as soon as it is finished."""
    if not parts:
        return []
    size = config.embedding.batch_size
    workers = config.embedding.num_workers if group.device.type == "cuda" else 0
    loader = load_batches(CellImages(cells.source, cache_bytes=0), Batches(parts, size), workers, group.device)
    described, directory, kept = MetadataColumns.of(metadata.frame), unfinished.staging(), []
    total = sum(len(rows) for rows in parts)
    try:
        with Progress("extract", total, enabled=group.is_first) as progress, iter(loader) as batches:
            for rows in parts:
                begun = time.monotonic()
                values = _in_order(cells, rows, islice(batches, rows.batches(size)), progress)
                files, failed = _write(values, rows, cells, described, model, directory)
                if lease is not None:  # the machine may have slept meanwhile, and another run have its place
                    lease.confirm()
                kept.append(unfinished.keep(plan, rows, files, failed, time.monotonic() - begun))
    except OSError as error:
        raise explain(unfinished.url, error) from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return kept


def _in_order(cells: CellValues, rows: Rows, batches: Iterable[Batch], progress: Progress) -> Iterator[Values]:
    """The values of a part, in the order of its rows."""
    ordered = InOrder(rows.start, cells.columns)
    for values in cells.of(batches):
        ordered.put(values)
        done = ordered.take()
        yield done
        progress.advance(len(done.rows))


def _write(
    values: Iterable[Values], rows: Rows, cells: CellValues, described: MetadataColumns, model: str, directory: Path
) -> tuple[list[Path], int]:
    """The files of a part, and how many of its rows have no features."""
    failed, files = 0, [directory / store.part_name(rows.number)]
    with ExitStack() as stack:
        features = stack.enter_context(PartWriter(files[0], described, _names(FEATURE, cells.dim)))
        baselines = None
        if len(cells.networks) > 1:
            files.append(directory / store.baseline_name(rows.number))
            names = [*_names(UNTRAINED, cells.dim), *cells.intensities]
            baselines = stack.enter_context(PartWriter(files[1], None, names))
        for done in values:
            reasons = dict(done.failures)
            failed += len(reasons)
            errors = [reasons.get(row) for row in done.rows]
            features.write(done.table[:, : cells.dim], np.array(done.rows, np.int64), model, errors)
            if baselines is not None:
                baselines.write(done.table[:, cells.dim :])
    return files, failed


def _is_there(unfinished: Unfinished, extraction: str, overwrite: bool) -> bool:
    """Whether the features of this very extraction are complete; then nothing else is left of it.

    Raises:
        ArtifactError: those of another one are, and are not to be replaced.
    """
    output = unfinished.output
    if not is_complete(output):
        return False
    if store.load_features_card(output).extraction == extraction:
        unfinished.clear()
        return True
    if not overwrite:
        raise finished_already(output)
    return False


def _joined(parts: list[FinishedPart]) -> list[FinishedPart]:
    """The parts of all processes."""
    return [part for share in gather_from_ranks(parts) for part in share]


def _tell_of(found: Sequence[FinishedPart], unfinished: Unfinished) -> None:
    rows, failed = (f"{count:,}" for count in (sum(len(part.rows) for part in found), sum(part.failed for part in found)))
    logger.info(
        "%s: %s rows are in finished parts and stay as they are, %s of them without features; delete %s to extract all of them anew.",
        unfinished.output, rows, failed, unfinished.url,
    )  # fmt: skip


def _remove_other_parts(output: str, names: set[str]) -> None:
    """Delete parts of an older artifact, whose manifest may be gone: whoever reads all `part-*.parquet` would read them too.

    And the empty object of `check_writable` that one leaves who is killed in that moment, where a store lists it.
    """
    for name in storage.list_files(output):
        if (name.startswith((store.PART, store.BASELINE)) and name not in names) or name.endswith(storage.PARTIAL):
            storage.remove(storage.join(output, name))


def _identity(card: FeaturesCard, metadata: Metadata, config: Config, group: ProcessGroup) -> dict[str, str]:
    """What decides the features, and with them which parts belong together."""
    said = card.model_dump(
        mode="json", exclude={"rows", "data", "data_fingerprint", "model", "model_fingerprint", "model_card", "versions"}
    )
    return identity_of(
        {
            "model": card.model_fingerprint,
            "data": [card.data_fingerprint, storage.absolute(metadata.root)],
            "configuration": [said, config.embedding.batch_size],
            "version of the software": card.versions,
            "kind of device": group.device.type,
        }
    )


def _measured(parts: Sequence[FinishedPart], processes: int) -> dict[str, object]:
    """What the card says of how it went."""
    seconds = sum(part.seconds for part in parts)
    rate = sum(len(part.rows) for part in parts) / max(seconds, 1e-9) * processes
    return {"failed_rows": sum(part.failed for part in parts), "images_per_second": rate}


def _names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{index}" for index in range(count)]


def _card(model: TrainedModel, metadata: Metadata, cells: CellValues, config: Config, baselines: bool) -> FeaturesCard:
    """What is known before any image is read."""
    source, names = cells.source, cells.source.kept_channels
    shown = {names[position] for position in cells.shown.positions}
    return FeaturesCard(
        rows=len(metadata),
        failed_rows=0,
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
        images_per_second=0.0,
        versions={"dino4cells": dino4cells.__version__, "torch": torch.__version__, "python": platform.python_version()},
    )
