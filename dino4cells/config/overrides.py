"""Options over a file: `epochs=3`, `model.epochs=3`, `global_transfo1.RandomResizedCrop.size=64`."""

from __future__ import annotations

import os
from collections.abc import Mapping

import yaml

from dino4cells.config.classification import CLASSIFICATION_KEYS_OF_THE_PAPER
from dino4cells.config.config import SECTIONS, TRANSFORM_SECTIONS
from dino4cells.config.values import TRANSFORM_NAMES, is_empty, suggestion
from dino4cells.config.yaml import Document, Place
from dino4cells.errors import ConfigError


def apply_overrides(document: Document, overrides: Mapping[str, object]) -> None:
    """Puts options into a document in place, with `option NAME` as the place of each.

    Args:
        document: Sections of the file over its preset.
        overrides: Values by dotted key, or by a key alone where one section has it. None and empty text mean not given; the text `None`
            means the default.

    Raises:
        ConfigError: No section or several have such a key.
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


def full_key(name: str) -> str:
    """The dotted key that an option's name stands for: `epochs` and `--epochs` are `model.epochs`.

    Raises:
        ConfigError: No section has such a key, or several have it.
    """
    key = name.removeprefix("--").replace("-", "_")
    section, _, rest = key.partition(".")
    if not rest:
        owners = [owner for owner, model in SECTIONS.items() if key in model.model_fields]
        if len(owners) > 1 and "classification" not in owners:
            choices = " or ".join(f"{owner}.{key}" for owner in owners)
            raise ConfigError(f"option {name}: several sections have this key; say {choices}")
        if owners:
            return f"{owners[0]}.{key}"
        if key == "local_crops_number" or key in TRANSFORM_SECTIONS:
            return key
        raise ConfigError(f"option {name}: the configuration has no such key{_near(key) or '; `dino4cells config` shows all'}")
    if section in TRANSFORM_SECTIONS and len(rest.split(".")) <= 2:
        return key
    if section in SECTIONS and (rest in SECTIONS[section].model_fields or _is_of_the_paper(section, rest)):
        return key
    raise ConfigError(f"option {name}: the configuration has no such key{_near(rest) or '; `dino4cells config` shows all'}")


def _is_of_the_paper(section: str, key: str) -> bool:
    return section == "classification" and key in CLASSIFICATION_KEYS_OF_THE_PAPER


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
