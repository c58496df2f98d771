"""A configuration from what a caller gives: a path, a mapping, a Config, and keywords."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import yaml

from dino4cells import steps
from dino4cells.config import Config, parse_config
from dino4cells.config.overrides import full_key
from dino4cells.errors import ConfigError

Settings = str | os.PathLike[str] | Mapping[str, Any] | Config
"""Path or URL of a `config.yaml`, what it would hold as a mapping, or a resolved configuration."""


def resolved(config: Settings | None, section: str, keywords: Mapping[str, object], preset: str = "") -> Config:
    """The configuration, with `keywords` over it; prints its warnings.

    Args:
        config: None: the preset alone.
        section: that a keyword without a section belongs to first.
        keywords: values by key, as `overrides` of `load_config`.
        preset: below the configuration; nothing: the one that it names, else the handbook's.

    Raises:
        ConfigError: a value is wrong, or a keyword is no key.
    """
    overrides = keys(keywords, section)
    if isinstance(config, Config):
        if preset:
            raise ConfigError(f"preset: '{preset}' would be below a Config, which has every value; give one of the two.")
        return parse_config(config.to_yaml(), overrides=overrides) if overrides else config
    if isinstance(config, Mapping):
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        return steps.configuration(text if config else "", preset, overrides)
    return steps.configuration(os.fspath(config) if config is not None else "", preset, overrides)


def keys(keywords: Mapping[str, object], section: str) -> dict[str, object]:
    """Keywords by their dotted keys."""
    return {full_key(name, section): value for name, value in keywords.items()}
