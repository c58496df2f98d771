"""The configuration of a step or a run, from what a command or a pipeline's parameters say."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping

from dino4cells import storage
from dino4cells.artifacts import open_artifact
from dino4cells.augment.registry import check_transforms
from dino4cells.config import Config, load_config, parse_config
from dino4cells.data.embedded import simulated_cells
from dino4cells.data.metadata import read_table
from dino4cells.data.strata import sample_order
from dino4cells.errors import ConfigError
from dino4cells.models.artifact import CLASSIFIER, CONFIG, KIND, artifact_of

logger = logging.getLogger(__name__)


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
        logger.warning("%s", warning)
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


def configuration_of(model: str, overrides: Mapping[str, object], *, own: bool = False) -> Config:
    """The configuration that a model was trained with, with single keys replaced; the handbook's for a checkpoint that is all there is.

    Args:
        model: URL of the model.
        overrides: values by key.
        own: this run has trained it, so that its rules are those of the run's user. Any other model may be somebody else's, and does not
            say whether a table may name files elsewhere.
    """
    directory = artifact_of(model)
    if directory is None:
        return load_config(None, overrides=overrides)
    artifact = open_artifact(directory, KIND, CLASSIFIER)
    rules: dict[str, object] = {} if own else {"model.files_outside_root": False}
    return parse_config(artifact.read_bytes(CONFIG).decode(), where=storage.join(artifact.url, CONFIG), overrides={**rules, **overrides})


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
