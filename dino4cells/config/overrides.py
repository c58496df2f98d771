"""Options over a file: `epochs=3`, `model.epochs=3`, `global_transfo1.RandomResizedCrop.size=64`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import get_args, get_origin

import yaml

from dino4cells.config.classification import CLASSIFICATION_KEYS_OF_THE_PAPER
from dino4cells.config.config import OTHER_NAMES, SECTIONS, TRANSFORM_SECTIONS
from dino4cells.config.values import TRANSFORM_NAMES, is_empty, suggestion
from dino4cells.config.yaml import Document, Place
from dino4cells.errors import ConfigError


def apply_overrides(document: Document, overrides: Mapping[str, object]) -> None:
    """Puts options into a document in place, with `option NAME` as the place of each.

    Args:
        document: Sections of the file over its preset.
        overrides: Values by dotted key, or by a key alone (`full_key`). None and empty text mean not given; the text `None`
            means the default.

    Raises:
        ConfigError: No section has such a key.
    """
    for name, value in overrides.items():
        if value is None or value == "":
            continue
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        section, *rest = full_key(name).split(".")
        if section in TRANSFORM_SECTIONS:
            _override_transform(document, section, rest, _read(value), name)
        elif rest:
            keys = document.values.setdefault(section, {})
            if isinstance(keys, dict):
                keys.pop(rest[0], None) if is_empty(value) else keys.update({rest[0]: value})
        else:
            document.values[section] = value
        # a parameter of a transform stands in the second item of its entry
        path = (section, rest[0], "1", *rest[1:]) if len(rest) > 1 else (section, *rest)
        document.forget(path)
        document.places[path] = Place(f"option {name}")


def full_key(name: str, section: str = "model") -> str:
    """The dotted key that an option's name stands for: `epochs` and `--epochs` are `model.epochs`.

    Args:
        name: A dotted key, or a key alone: that of `section` where it has it, else of the first section that has it.
        section: The section that the command is about.

    Raises:
        ConfigError: No section has such a key.
    """
    key = name.removeprefix("--").replace("-", "_")
    first, _, rest = key.partition(".")
    if not rest:
        owner = next((owner for owner in (section, *SECTIONS) if owner in SECTIONS and _has_key(owner, key)), None)
        if owner is not None:
            return f"{owner}.{OTHER_NAMES.get(owner, {}).get(key, key)}"
        if key == "local_crops_number" or key in TRANSFORM_SECTIONS:
            return key
    elif first in TRANSFORM_SECTIONS and len(rest.split(".")) <= 2:
        return key
    elif first in SECTIONS and _has_key(first, rest):
        return f"{first}.{OTHER_NAMES.get(first, {}).get(rest, rest)}"
    raise ConfigError(f"option {name}: the configuration has no such key{_near(rest or key) or '; `dino4cells config` shows all'}")


def kind_of(key: str) -> str:
    """How many words an option for a dotted key takes: `one`, `many` (a pair or a list), or `switch` (one, or none for true)."""
    section, _, name = key.partition(".")
    field = SECTIONS[section].model_fields.get(name) if section in SECTIONS else None
    if field is None:
        return "one"
    if field.annotation is bool:
        return "switch"
    kinds = (field.annotation, *get_args(field.annotation))
    return "many" if any(get_origin(kind) in (list, tuple) for kind in kinds) else "one"


def _has_key(section: str, key: str) -> bool:
    of_the_paper = section == "classification" and key in CLASSIFICATION_KEYS_OF_THE_PAPER
    return of_the_paper or key in SECTIONS[section].model_fields or key in OTHER_NAMES.get(section, {})


def _near(key: str) -> str:
    known = {field: f"{section}.{field}" for section, model in reversed(SECTIONS.items()) for field in model.model_fields}
    found = suggestion(key, known)
    for field, dotted in known.items():
        if found == f"; did you mean {field}?":
            return f"; did you mean {dotted}?"
    return found


def _override_transform(document: Document, section: str, rest: list[str], value: object, name: str) -> None:
    """`section`, `section.Name` or `section.Name.parameter`."""
    if not rest:
        document.values[section] = value
        return
    transform, *parameter = rest
    if transform not in TRANSFORM_NAMES:
        raise ConfigError(f"option {name}: {transform} is no transform that is known here{suggestion(transform, TRANSFORM_NAMES)}")
    entries = document.values.setdefault(section, {})
    if not isinstance(entries, dict):
        raise ConfigError(f"option {name}: {section} is no mapping of transforms in the file; correct it there")
    entry = entries.get(transform)
    active, parameters = (*entry, None)[:2] if isinstance(entry, list) and entry else (entry is not False, None)
    if parameter:
        if not is_empty(parameters) and not isinstance(parameters, dict):
            raise ConfigError(f"option {name}: {section}.{transform} has its parameters by position; give them by name in the file")
        entries[transform] = [active, {**(parameters if isinstance(parameters, dict) else {}), parameter[0]: value}]
    else:
        entries[transform] = [value, parameters] if isinstance(value, bool) else value


def _read(value: object) -> object:
    """A value of a transform: text is read as YAML, as in the file."""
    if not isinstance(value, str):
        return value
    try:
        parsed: object = yaml.safe_load(value)
    except yaml.YAMLError:
        return value
    return parsed
