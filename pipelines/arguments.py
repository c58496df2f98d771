"""Parameters of a run of the pipeline, from the words of a command line."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dino4cells import storage
from dino4cells.config.values import suggestion
from dino4cells.errors import ConfigError

COMPILED = Path(__file__).parent / "dino4cells.yaml"
"""The compiled pipeline that is packaged with this project."""

_TEXTS = ("config", "settings")
"""Parameters that hold the text of a file, so that a file of this machine can be given for them."""


def pairs_of(words: Sequence[str]) -> dict[str, str]:
    """Parameters out of `--key value`, `--key=value` and `key=value`.

    Raises:
        ConfigError: a word that is neither.
    """
    given: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.removeprefix("--").partition("=")
        if not key or not (equals or word.startswith("--")):
            raise ConfigError(f"{word}: this word belongs to no parameter; write KEY=VALUE or --key value.")
        if not equals and (not rest or rest[0].startswith("--")):
            raise ConfigError(f"--{key}: has no value; write --{key} value.")
        given[key.replace("-", "_")] = value if equals else rest.pop(0)
    return given


def parameters_of(given: Mapping[str, str], compiled: Path = COMPILED) -> dict[str, object]:
    """Parameters of a run as the pipeline declares them.

    Args:
        given: text by name; a file of this machine stands for its content where the parameter is such a text.
        compiled: the pipeline.

    Raises:
        ConfigError: an unknown name, a value of the wrong kind, or data that no pod can reach.
    """
    declared = _declared(compiled)
    parameters: dict[str, object] = {}
    for name, text in given.items():
        if name not in declared:
            raise ConfigError(f"{name}: is no parameter of the pipeline{suggestion(name, list(declared))}; it has {', '.join(declared)}.")
        if name in _TEXTS and storage.is_local(text) and storage.local_path(text).is_file():
            text = storage.read_text(text)
        if name in ("data", "metadata") and text and storage.is_local(text):
            raise ConfigError(f"{name}: {text} is a place of this machine, which pods do not see; give a URL such as s3://bucket/….")
        parameters[name] = _value(name, text, declared[name]["parameterType"])
    return parameters


def data_version(parameters: Mapping[str, object]) -> str:
    """A text that changes with the table of cells, so that the cache knows other data under the same URL; nothing without a table.

    Raises:
        StorageError: the data cannot be read from here.
    """
    data = str(parameters.get("data") or "")
    table = str(parameters.get("metadata") or "") or (data if data.endswith(".csv") else storage.join(data, "metadata.csv") if data else "")
    if not table:
        return ""
    digest = hashlib.sha256(storage.read_bytes(table))
    channels = storage.join(storage.parent(table), "channels.txt")
    if storage.exists(channels):
        digest.update(storage.read_bytes(channels))
    return digest.hexdigest()[:16]


def _declared(compiled: Path) -> dict[str, dict[str, Any]]:
    pipeline = next(iter(yaml.safe_load_all(compiled.read_text(encoding="utf-8"))))
    declared: dict[str, dict[str, Any]] = pipeline["root"]["inputDefinitions"]["parameters"]
    return declared


def _value(name: str, text: str, kind: str) -> object:
    words = {"NUMBER_INTEGER": "a whole number", "NUMBER_DOUBLE": "a number", "BOOLEAN": "true or false", "LIST": "a list, as [a, b]"}
    try:
        if kind == "NUMBER_INTEGER":
            return int(text)
        if kind == "NUMBER_DOUBLE":
            return float(text)
        if kind == "BOOLEAN":
            return {"true": True, "false": False}[text.lower()]
        if kind in ("LIST", "STRUCT"):
            value = yaml.safe_load(text)
            if not isinstance(value, list if kind == "LIST" else dict):
                raise ValueError(text)
            return value
    except (ValueError, KeyError, yaml.YAMLError):
        raise ConfigError(f"{name}: must be {words.get(kind, 'a mapping, as {key: value}')}, not '{text}'.") from None
    return text
