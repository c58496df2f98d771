"""Training and extraction as jobs: which module, with which arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from dino4cells.cluster.entry import job_arguments
from dino4cells.cluster.job import JobSpec
from dino4cells.cluster.pytorchjob import CONFIG_DIRECTORY
from dino4cells.cluster.settings import JobSettings
from dino4cells.config import Config, load_config
from dino4cells.errors import ConfigError

Step = Literal["train", "extract"]
MODULES: dict[Step, str] = {"train": "dino4cells.training", "extract": "dino4cells.features"}


def job_of(
    step: Step, settings: JobSettings, config: str, preset: str, overrides: Sequence[str], *, data: str, model: str, output: str
) -> JobSpec:
    """The job of a step.

    Args:
        step: what it does.
        settings: of the cluster; where they name a config map, that is read in the pod, and no configuration may be given here.
        config: path or URL of a `config.yaml`, or nothing.
        preset: name of a preset, or nothing.
        overrides: `key=value`, over both.
        data, model, output: URLs that the pods can reach; nothing where the configuration says them.

    Raises:
        ConfigError: a wrong configuration, a URL that pods cannot reach, or a place that is missing.
    """
    replaced = dict(pair.partition("=")[::2] for pair in overrides)
    wrong = [pair for pair in overrides if "=" not in pair]
    if wrong:
        raise ConfigError(f"--override {wrong[0]}: is no key=value; write for example --override epochs=20.")
    if settings.config and (config or preset or overrides):
        raise ConfigError(
            f"config: the job reads {settings.config.file} of the config map {settings.config.config_map}; "
            "change it there, or leave that key out of the settings."
        )
    if step == "extract" and not model:
        raise ConfigError("--model: is not given; say which model the job extracts with.")
    for option, url in (("--data", data), ("--model", model), ("--output", output)):
        if url and ("://" not in url or url.startswith(("file://", "memory://"))):
            raise ConfigError(f"{option}: {url} is a place of this machine, which pods do not see; give a URL such as s3://bucket/…")
    path = f"{CONFIG_DIRECTORY}/{settings.config.file}" if settings.config else ""
    text = "" if path else _checked(step, load_config(config or None, preset=preset, overrides=replaced), data, output).to_yaml()
    arguments = job_arguments(output=output, data=data, config=path, config_text=text)
    if model:
        arguments += ("--model", model)
    return settings.job(step, MODULES[step], arguments)


def _checked(step: Step, config: Config, data: str, output: str) -> Config:
    """The configuration; refused where neither it nor an option says what the job reads and writes, which its pods would find out."""
    table, place = config.model.data_path, config.model.output_dir
    if step == "extract":
        table, place = config.embedding.df_path or table, config.embedding.output_path
    for option, given, what in (("--data", data or table, "where the cells are"), ("--output", output or place, "where the job writes")):
        if not given:
            raise ConfigError(f"{option}: is not given; say {what}, by a URL such as s3://bucket/…")
    return config
