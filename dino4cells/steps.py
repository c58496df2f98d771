"""The three verbs: train, extract, classify. The command line, the pipeline's components and the processes of a job all call these.

Each takes URLs and a configuration and leaves a complete artifact at `output`, or none. With `processes` the work runs as a job of many
processes, which call the same function without.
"""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dino4cells import storage
from dino4cells.artifacts import ArtifactWriter, SingleFile, is_complete, open_artifact
from dino4cells.augment.normalization import needs_data_statistics
from dino4cells.augment.registry import check_transforms
from dino4cells.cluster.job import JobSpec, Processes
from dino4cells.config import Config, load_config, parse_config
from dino4cells.data.embedded import simulated_cells
from dino4cells.data.metadata import Metadata, read_metadata, read_table
from dino4cells.data.strata import sample_order
from dino4cells.errors import ArtifactError, ConfigError, DataError
from dino4cells.features.extract import extract_features
from dino4cells.features.published import LabelColumns, is_features_file
from dino4cells.features.store import Features, FeaturesCard, export_features, load_features_card, read_features
from dino4cells.models.artifact import CONFIG, KIND, ModelCard, TrainedModel, artifact_of, load_card, load_model
from dino4cells.models.published import load_published
from dino4cells.training.distributed import process_group
from dino4cells.training.fit import fit

# Imported where they are used: scikit-learn, skops and matplotlib take seconds, which every process of a training job would wait.
if TYPE_CHECKING:
    from dino4cells.classify.evaluate import Evaluation


def configuration(source: str = "", preset: str = "", overrides: str | Mapping[str, object] = "") -> Config:
    """A configuration from what a pipeline's parameters hold; prints its warnings.

    Args:
        source: the text of a `config.yaml`, its path or URL, or nothing.
        preset: name of a preset, or nothing: the file's, else the handbook's.
        overrides: `key=value` pairs separated by blanks, or a mapping.

    Raises:
        ConfigError: a value is wrong.
    """
    config = _resolved(source, preset, overrides)
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    return config


def preset_for(preset: str, source: str, data: str) -> str:
    """The preset of a pipeline run: the one asked for, or the one that a `config.yaml` names, else what suits the data.

    Args:
        preset, source: as `configuration` takes them.
        data: URL of the data, or nothing: simulated cells, in which brightness differs between plates and with expression.
    """
    if preset or source:
        return preset
    return "small" if data else "small-fluorescence"


def _resolved(source: str, preset: str, overrides: str | Mapping[str, object]) -> Config:
    if isinstance(overrides, str):
        pairs = shlex.split(overrides)
        wrong = [pair for pair in pairs if "=" not in pair]
        if wrong:
            raise ConfigError(f"overrides: '{wrong[0]}' is no key=value; write for example 'epochs=20 model.seed=1'.")
        overrides = dict(pair.split("=", 1) for pair in pairs)
    if "\n" in source or ": " in source:
        config = parse_config(source, where="config", preset=preset, overrides=overrides)
    else:
        config = load_config(source or None, preset=preset, overrides=overrides)
    check_transforms(config)
    return config


def configuration_of(model: str, overrides: Mapping[str, object]) -> Config:
    """The configuration that a model was trained with, with single keys replaced; the handbook's for a checkpoint that is all there is."""
    directory = artifact_of(model)
    if directory is None:
        return load_config(None, overrides=overrides)
    artifact = open_artifact(directory, KIND)
    return parse_config(artifact.read_bytes(CONFIG).decode(), where=storage.join(artifact.url, CONFIG), overrides=overrides)


def overrides_with(
    overrides: str, *, arch: str = "", epochs: int = 0, metadata: str = "", data: str = "", label: str = "", group: str = ""
) -> str:
    """`overrides` with what other parameters of the pipeline say; nothing and 0 leave it to the configuration.

    Args:
        overrides: `key=value` pairs separated by blanks.
        metadata: URL of the table of cells, where that is not `metadata.csv` in the data.
        data: directory or URL of the images; it belongs here where `metadata` is given.
        arch, epochs, label, group: values of the keys of these names.
    """
    given = {
        "model.arch": arch,
        "model.epochs": str(epochs) if epochs else "",
        "model.data_path": metadata,
        "model.root": data if metadata else "",
        "classification.label": label,
        "classification.group": group,
    }
    return " ".join([overrides, *(shlex.quote(f"{key}={value}") for key, value in given.items() if value)]).strip()


def data_or_simulated(data: str, config: Config) -> str | None:
    """`data`; None where the configuration names the data; else simulated cells on this machine, the same on every machine."""
    return data or (None if config.model.data_path else simulated_cells())


def check_run(source: str, preset: str, overrides: str, *, data: str, label: str, group: str) -> None:
    """Refuse a run of all three steps whose configuration, table, classes or groups are wrong, before anything is trained.

    Args:
        source, preset, overrides: as `configuration` takes them.
        data: as the pipeline takes it.
        label, group: columns of the classes and of the groups, or nothing.

    Raises:
        Dino4CellsError: what the user can fix.
    """
    from dino4cells.classify.evaluate import check_classes

    config = _resolved(source, preset, overrides)
    metadata = read_table(config, data_or_simulated(data, config))
    sample_order(metadata, config)
    judging = {"label": label or config.classification.label, "group": group or config.classification.group}
    check_classes(metadata.frame, metadata.source, config.classification.model_copy(update=judging))


def train(
    config: Config,
    *,
    data: str | None = None,
    output: str | None = None,
    checkpoints: str | None = None,
    overwrite: bool = False,
    processes: Processes | None = None,
    device: str = "auto",
) -> ModelCard:
    """Train a DINO model on the cells of a table and write the model artifact.

    A run that was interrupted continues from the checkpoints beside its output; a finished run of the same configuration and data is
    returned as it is.

    Args:
        config: the resolved configuration.
        data: directory or URL that holds a `metadata.csv`; `model.data_path` and `model.root` when None.
        output: URL of the model artifact; `model.output_dir` when None.
        checkpoints: URL of the directory that an interrupted run goes on from; beside the output when None.
        overwrite: replace another model that is at `output`.
        processes: start a job of many processes; None trains in this one (or in the job that it belongs to).
        device: `auto`, `cpu` or `cuda`.

    Raises:
        Dino4CellsError: what the user can fix.
    """
    output = storage.absolute(_required(output or config.model.output_dir, "model.output_dir", "--output", "where the model goes"))
    resume_directory = checkpoints or f"{output.rstrip('/')}.checkpoints"
    metadata = read_table(config, data)
    if is_complete(output) and not overwrite:
        card = load_card(output)
        if (card.config_fingerprint, card.data_fingerprint) == (config.fingerprint(), metadata.fingerprint):
            return card
    if processes is None:
        with process_group(device) as group:
            if group.is_first:
                _check_output(output, overwrite)
            return fit(config, metadata, output, group, resume_directory=resume_directory)
    _check_output(output, overwrite)
    arguments = ["--output", output, "--device", device, *_inputs(config, data, overwrite)]
    arguments += ["--checkpoints", checkpoints] if checkpoints else []
    processes.launcher.run(JobSpec("train", "dino4cells.training", tuple(arguments), processes.nodes, processes.per_node))
    open_artifact(output, KIND).verify()
    return load_card(output)


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
) -> FeaturesCard:
    """Write the features of every cell of a table, in the table's order.

    Args:
        model: URL of a model artifact, or of a checkpoint of DINO4Cells or DINO.
        config: `embedding` and `testing_transfo` are used; the model's own configuration when None.
        data: directory or URL that holds a `metadata.csv`; `embedding.df_path` or `model.data_path` when None.
        output: URL of the features artifact, or of one file (`.pth`) in the published layout; `embedding.output_path` when None.
        overwrite: replace other features that are at `output`.
        baselines: also write features of the untrained network and intensity statistics; `embedding.baselines` when None.
        processes: start a job of many processes; None extracts in this one (or in the job that it belongs to).
        device: `auto`, `cpu` or `cuda`.

    Raises:
        Dino4CellsError: what the user can fix.
    """
    config = config or configuration_of(model, {})
    metadata = read_table(config, data, config.embedding.df_path)
    trained = _trained(model, config, metadata)
    if needs_data_statistics(config):
        _check_statistics(config, trained)
        # `Normalize` by the data means those that the model has learnt from; its own configuration holds the numbers.
        config = config.model_copy(update={"testing_transfo": trained.config.testing_transfo})
    output = storage.absolute(
        _required(output or config.embedding.output_path, "embedding.output_path", "--output", "where the features go")
    )
    if is_features_file(output):
        LabelColumns.from_config(config).check(metadata)
        # The file has no place for baselines, nor for saying that features are not in float32, as which they would be taken.
        baselines = False
        config = _embedding(config, precision="float32" if config.embedding.precision == "auto" else config.embedding.precision)
    if baselines is not None:
        config = _embedding(config, baselines=baselines)
    if processes is None:
        with process_group(device) as group:
            if group.is_first:
                _check_output(output, overwrite)
            with _features_at(output, config, writes=group.is_first) as place:
                return extract_features(trained, metadata, place, group, config, baselines=config.embedding.baselines)
    _check_output(output, overwrite)
    with _features_at(output, config) as place:
        if place != output:
            storage.remove(place)  # of a job that was killed
        arguments = ["--model", storage.absolute(model), "--output", place, "--device", device, *_inputs(config, data, overwrite)]
        processes.launcher.run(JobSpec("extract", "dino4cells.features", tuple(arguments), processes.nodes, processes.per_node))
        return load_features_card(place)


def _embedding(config: Config, **changes: object) -> Config:
    """The configuration with other values in its section `embedding`."""
    changed: Config = config.model_copy(update={"embedding": config.embedding.model_copy(update=changes)})
    return changed


@contextmanager
def _features_at(output: str, config: Config, *, writes: bool = True) -> Iterator[str]:
    """Where an extraction writes: `output`, or, where that is one file, a directory that becomes it and is gone afterwards."""
    if not is_features_file(output):
        yield output
        return
    place = f"{output}.parts"
    try:
        yield place
        if writes:
            export_features(read_features(place), output, config)
    finally:
        if writes:
            storage.remove(place)


def classify(
    features: str,
    *,
    config: Config,
    output: str,
    data: str | None = None,
    model: str | None = None,
    overwrite: bool = False,
) -> Evaluation:
    """Cross-validate classifiers on features and write the classification artifact with its report.

    Args:
        features: URL of a features artifact, or of a file (`.pth`) in the published layout.
        config: `classification` is used; and, for a file, which labels it holds (`embedding`, `model.datatype`).
        output: URL of the classification artifact.
        data: directory or URL of the images, for the report's pictures of cells, or None: a report without.
        model: URL of the model artifact, for the report's loss curve, or None: a report without.
        overwrite: replace another classification that is at `output`.

    Raises:
        Dino4CellsError: what the user can fix.
    """
    from dino4cells.classify import evaluate as judge
    from dino4cells.report.compose import compose_report

    output = storage.absolute(output)
    _check_output(output, overwrite)
    table = read_features(features, config)
    trained = _trained(model) if model else None
    metadata = _pictured(table, data, trained)
    evaluation = judge.evaluate(table, config.classification)
    with ArtifactWriter(output, judge.KIND) as writer:
        writer.write_text(judge.METRICS, evaluation.metrics_json())
        evaluation.predictions(table).to_parquet(writer.path(judge.PREDICTIONS), index=False)
        for name, content in judge.fitted_classifiers(table, evaluation, config.classification.neighbours).items():
            writer.write_bytes(name, content)
        artifacts = {"model": model or table.card.model, "features": features, "classification": output}
        writer.write_text(judge.REPORT, compose_report(table, evaluation, metadata, trained, artifacts))
    return evaluation


def training_report(model: str) -> str:
    """The page (HTML) about the training of a model: loss curve, throughput."""
    from dino4cells.report.training import training_page

    trained = load_model(model)
    return training_page(load_card(model), trained.log(), plateau=math.log(trained.config.model.out_dim), settings=trained.config.to_yaml())


def features_report(features: str, model: str, data: str | None = None) -> str:
    """The page (HTML) about the features of cells: their map, pictures of cells.

    Args:
        features: URL of the features.
        model: URL of the model that they come from.
        data: directory or URL of the images; those that the model's configuration names when None.
    """
    from dino4cells.report.features import features_page

    table = read_features(features)
    return features_page(table, _pictured(table, data, load_model(model)))


def train_classifier(
    config: Config,
    *,
    features: str | None = None,
    data: str | None = None,
    model: str | None = None,
    output: str | None = None,
    overwrite: bool = False,
    processes: Processes | None = None,
    device: str = "auto",
) -> str:
    """Train a classifier head on features, or a backbone and a head on images, and write the classifier (handbook, classification).

    A run that was interrupted continues from the checkpoints beside its output.

    Args:
        config: `classification` says what is learnt, from which cells and how.
        features: URL of the features of all cells; `embedding.output_path` when None.
        data: directory or URL of the images of all cells; `model.data_path` when None.
        model: URL of the model whose backbone images pass; `feature_extractor_state_dict` comes first.
        output: URL of the artifact; `classification.output_dir` and `output_prefix` when None.
        overwrite: replace another classifier that is at `output`; `classification.overwrite` does too.
        processes: start a job of many processes; None trains in this one (or in the job that it belongs to).
        device: `auto`, `cpu` or `cuda`.

    Returns:
        URL of the artifact.

    Raises:
        Dino4CellsError: what the user can fix.
    """
    from dino4cells.classify import train as training

    wanted = config.classification
    place = output or (storage.join(wanted.output_dir, wanted.output_prefix or "") if wanted.output_dir else None)
    output = storage.absolute(_required(place, "classification.output_dir", "--output", "where the classifier goes")).rstrip("/")
    overwrite = overwrite or wanted.overwrite
    backbone = None if wanted.use_pretrained_features else wanted.feature_extractor_state_dict or model
    if processes is None:
        trained = _trained(backbone, config) if backbone else None
        with process_group(device) as group:
            if group.is_first:
                _check_output(output, overwrite)
            resume = f"{output}.checkpoints"
            training.train_classifier(config, output, group, features=features, data=data, model=trained, resume_directory=resume)
        return output
    _check_output(output, overwrite)
    inputs = [word for name, url in (("--features", features), ("--model", backbone)) if url for word in (name, storage.absolute(url))]
    arguments = ["--output", output, "--device", device, *inputs, *_inputs(config, data, overwrite)]
    processes.launcher.run(JobSpec("classify", "dino4cells.classify", tuple(arguments), processes.nodes, processes.per_node))
    return output


def _trained(model: str, config: Config | None = None, metadata: Metadata | None = None) -> TrainedModel:
    """The model at a URL: an artifact, one of its files of weights, or a checkpoint that others wrote."""
    directory = artifact_of(model)
    return load_model(directory) if directory else load_published(model, config or load_config(None), metadata)


def _check_statistics(config: Config, trained: TrainedModel) -> None:
    """Refuse to normalize by the data that a model has learnt from where a checkpoint is all there is of it."""
    asks = any(isinstance(given, Mapping) and "data" in given.values() for _, given in config.section("testing_transfo"))
    if asks and isinstance(trained.artifact, SingleFile):
        raise ConfigError(
            f"{config.where('testing_transfo', 'Normalize')}: asks for the mean and deviation of the data that the model has learnt from, "
            f"which {trained.artifact.url} does not hold; give them as numbers."
        )


def _required(value: str | None, key: str, option: str, meaning: str) -> str:
    if not value:
        raise ConfigError(f"{key}: is not given; say {meaning}, there or by {option}.")
    return value


def _pictured(table: Features, data: str | None, model: TrainedModel | None) -> Metadata | None:
    """The table of cells that features were extracted from, for pictures of cells; None where nobody says where it is."""
    if data is None:
        if model is None or not model.config.model.data_path:
            return None
        metadata = read_table(model.config)
        return metadata if metadata.fingerprint == table.card.data_fingerprint else None
    metadata = read_metadata(data, layout=table.card.layout)
    if isinstance(table.artifact, SingleFile):  # which does not say what it was extracted from
        same = len(metadata) == table.card.rows
    else:
        same = metadata.fingerprint == table.card.data_fingerprint
    if not same:
        raise DataError(
            f"{metadata.source}: is not the table that {table.artifact.url} was extracted from, which was {table.card.data}; "
            "give that one, or extract the features again."
        )
    return metadata


def _inputs(config: Config, data: str | None, overwrite: bool) -> list[str]:
    """Arguments that give a process of a job the same configuration and data."""
    place = ["--data", storage.absolute(data)] if data else []
    return ["--config-text", config.to_yaml(), *place, *(["--overwrite"] if overwrite else [])]


def _check_output(output: str, overwrite: bool) -> None:
    """Refuse a place that cannot be written before any work is done for it, and one that holds a finished artifact.

    That is replaced on demand alone, and then only by a finished one: until then it stays as it is.
    """
    if not overwrite and (storage.exists(output) if is_features_file(output) else is_complete(output)):
        raise ArtifactError(f"{output}: holds a finished result already; choose another output, or pass --overwrite to replace it.")
    storage.check_writable(storage.parent(output) if is_features_file(output) else output)
