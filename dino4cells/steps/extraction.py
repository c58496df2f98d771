"""The verb `extract`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dino4cells import storage
from dino4cells.artifacts import SingleFile
from dino4cells.augment.normalization import needs_data_statistics
from dino4cells.cluster.entry import leave
from dino4cells.cluster.job import JobSpec, Processes
from dino4cells.config import Config
from dino4cells.data.metadata import read_table
from dino4cells.errors import ConfigError
from dino4cells.features.exports import check_tools, export, format_of
from dino4cells.features.extract import extract_features
from dino4cells.features.parts import Unfinished
from dino4cells.features.published import LabelColumns
from dino4cells.features.store import FeaturesCard, load_features_card
from dino4cells.models.artifact import TrainedModel
from dino4cells.steps.configuration import configuration_of
from dino4cells.steps.inputs import check_output, job_inputs, required, trained_model
from dino4cells.steps.writing import sole_writer
from dino4cells.training.distributed import first_decides, process_group

logger = logging.getLogger(__name__)


def extract(
    model: str,
    *,
    config: Config | None = None,
    data: str | None = None,
    output: str | None = None,
    overwrite: bool = False,
    baselines: bool | None = None,
    processes: Processes | None = None,
    device: str = "auto",
    reuse: bool = False,
) -> FeaturesCard:
    """Write the features of every cell of a table, in the table's order.

    An extraction that was interrupted goes on with the parts of the table that are not finished.

    Args:
        model: URL of a model artifact, or of a checkpoint of DINO4Cells or DINO.
        config: `embedding` and `testing_transfo` are used; the model's own configuration when None.
        data: directory or URL that holds a `metadata.csv`; `embedding.df_path` or `model.data_path` when None.
        output: URL of the features artifact, or of one file (`.parquet`, `.h5ad`, or `.pth` in the published layout);
            `embedding.output_path` when None.
        overwrite: replace other features that are at `output`.
        baselines: also write features of the untrained network and intensity statistics; `embedding.baselines` when None.
        processes: start a job of many processes; None extracts in this one (or in the job that it belongs to).
        device: `auto`, `cpu` or `cuda`.
        reuse: complete features of the very same extraction that are at `output` are the result, and not extracted again.

    Raises:
        Dino4CellsError: what the user can fix.
    """
    config = config or configuration_of(model, {})
    metadata = read_table(config, data, config.embedding.df_path)
    trained = trained_model(model, config, metadata)
    config = seen_as_learnt(config, trained)
    output = storage.absolute(
        required(output or config.embedding.output_path, "embedding.output_path", "--output", "where the features go")
    )
    if format_of(output):
        check_tools(output)
        baselines = False  # for which a file has no place
    if format_of(output) == "pth":
        LabelColumns.from_config(config).check(metadata)
        # Nor has this one for saying that features are not in float32, as which they would be taken.
        config = _embedding(config, precision="float32" if config.embedding.precision == "auto" else config.embedding.precision)
    if baselines is not None:
        config = _embedding(config, baselines=baselines)
    if processes is None:
        with process_group(device, at_hang=leave) as group, sole_writer(output) as lease:
            # A job that lost a process when its features were complete has nothing left to do.
            reuse = reuse or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
            reuse = first_decides(lambda: _checked(output, overwrite, reuse))
            with _features_at(output, config, writes=group.is_first) as place:
                return extract_features(
                    trained, metadata, place, group, config,
                    baselines=config.embedding.baselines, overwrite=overwrite, reuse=reuse, lease=lease,
                )  # fmt: skip
    reuse = _checked(output, overwrite, reuse)
    with _features_at(output, config) as place:
        arguments = ["--model", storage.absolute(model), "--output", place, "--device", device, *job_inputs(config, data, overwrite)]
        # Complete features that a process finds where there were none before are those of this job, which was started again.
        arguments += ["--reuse"] if reuse or not overwrite else []
        processes.launcher.run(JobSpec("extract", "dino4cells.features", tuple(arguments), processes.nodes, processes.per_node))
        return load_features_card(place)


def _checked(output: str, overwrite: bool, reuse: bool) -> bool:
    """Refuse an output that is not to be replaced; whether complete features there may be the wanted ones."""
    if format_of(output):
        check_output(output, overwrite)
        return True
    reuse = reuse or Unfinished(output).is_there()
    check_output(output, overwrite or reuse)
    return reuse


def _embedding(config: Config, **changes: object) -> Config:
    """The configuration with other values in its section `embedding`."""
    changed: Config = config.model_copy(update={"embedding": config.embedding.model_copy(update=changes)})
    return changed


@contextmanager
def _features_at(output: str, config: Config, *, writes: bool = True) -> Iterator[str]:
    """Where an extraction writes: `output`, or, where that is one file, a directory that becomes it and is gone afterwards.

    An extraction that was interrupted leaves its finished parts there, or all of them, and goes on from there.
    """
    if format_of(output) is None:
        yield output
        return
    place = f"{output}.parts"
    yield place
    if not writes:
        return
    try:
        export(place, output, config)
    except BaseException:
        logger.warning("%s: is not written; the features are in %s, from where dino4cells features export makes it.", output, place)
        raise
    storage.remove(place)


def seen_as_learnt(config: Config, trained: TrainedModel) -> Config:
    """The configuration with the numbers of the data that a model has learnt from, where `testing_transfo` asks for `data`.

    Raises:
        ConfigError: a checkpoint is all there is of the model, which does not hold them.
    """
    if not needs_data_statistics(config):
        return config
    asks = any(isinstance(given, Mapping) and "data" in given.values() for _, given in config.section("testing_transfo"))
    if asks and isinstance(trained.artifact, SingleFile):
        raise ConfigError(
            f"{config.where('testing_transfo', 'Normalize')}: asks for the mean and deviation of the data that the model has learnt from, "
            f"which {trained.artifact.url} does not hold; give them as numbers."
        )
    changed: Config = config.model_copy(update={"testing_transfo": trained.config.testing_transfo})
    return changed


def export_features(features: str, output: str, *, config: Config | None = None, overwrite: bool = False) -> FeaturesCard:
    """Write features that are there as one file for other tools.

    Args:
        features: URL of a features artifact, or of a file (`.pth`) in the published layout.
        output: URL of the file; its ending says the format: `.parquet`, `.h5ad` (AnnData) or `.pth`.
        config: says which labels a `.pth` holds (`embedding`, `model.datatype`).
        overwrite: replace another file that is at `output`.

    Raises:
        Dino4CellsError: what the user can fix.
    """
    output = storage.absolute(output)
    check_output(output, overwrite)
    return export(features, output, config)
