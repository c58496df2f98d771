"""From a `config.yaml`, a preset and options to one Config: merging, and warnings about what the file holds and is not used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from pydantic import ValidationError

from dino4cells import storage
from dino4cells.config.agreement import PRESET, settle
from dino4cells.config.classification import CLASSIFICATION_KEYS_OF_THE_PAPER
from dino4cells.config.config import IGNORED_SECTIONS, OTHER_NAMES, SECTIONS, TRANSFORM_SECTIONS, Config
from dino4cells.config.errors import config_error
from dino4cells.config.overrides import apply_overrides
from dino4cells.config.values import TRANSFORM_NAMES, is_empty, suggestion
from dino4cells.config.yaml import Document, read_yaml
from dino4cells.errors import ConfigError
from dino4cells.redaction import holds_secret

DEFAULT_PRESET: Final = "handbook"


def load_config(source: str | None = None, *, preset: str | None = None, overrides: Mapping[str, object] | None = None) -> Config:
    """Reads a configuration: options over the file, the file over a preset, the preset over the models' defaults.

    Args:
        source: Path or URL of a `config.yaml`; None: the preset alone.
        preset: Name of a packaged preset; None or empty: the one that the file's key `preset` names, else `handbook`.
        overrides: Values by dotted key (`model.epochs`, `global_transfo1.RandomResizedCrop.size`) or by a key alone: that of `model`,
            else of the section that has it (`epochs`). A value may be text, as a command line gives it; None and empty text: not given.

    Returns:
        The resolved configuration; its `warnings` say what the file holds and is not used.

    Raises:
        ConfigError: A value is wrong; the message names file, line and key.
        StorageError: The file cannot be read.

    Example:
        >>> load_config(preset="small", overrides={"epochs": 3}).model.epochs
        3
    """
    text = "" if source is None else storage.read_text(source)
    return parse_config(text, "config.yaml" if source is None else source, preset=preset, overrides=overrides)


def parse_config(
    text: str, where: str = "config.yaml", *, preset: str | None = None, overrides: Mapping[str, object] | None = None
) -> Config:
    """As `load_config`, from the text of a file that messages call `where`."""
    user = read_yaml(text, where)
    asked = user.values.pop("preset", None)
    name = preset or (DEFAULT_PRESET if is_empty(asked) else str(asked))
    base = _read_preset(name, "" if preset else f"{user.place(('preset',))}: ")
    document = _merge(_keep_known(base), _keep_known(user))
    apply_overrides(document, overrides or {})
    _keep_known(document)  # an option may name a key of the paper's own scripts
    _refuse_secrets(document)
    settle(document)
    try:
        config = Config.model_validate(document.values)
    except ValidationError as error:
        raise config_error(error, document) from error
    config._warnings = tuple(document.warnings)
    config._places = document
    return config


def _refuse_secrets(document: Document) -> None:
    """A configuration is written beside every model and shown in manifests and pages."""
    for section, values in document.values.items():
        for key, value in values.items() if isinstance(values, dict) else [("", values)]:
            if isinstance(value, str) and holds_secret(value):
                path = (section, key) if key else (section,)
                place, name = str(document.place(path)), ".".join(path)
                subject = place if place == f"option {name}" else f"{place}: {name}"
                raise ConfigError(
                    f"{subject} holds a password, a token or a signature, which artifacts and logs would show; give the address "
                    "without, and what opens the store as variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
                )


def preset_names() -> list[str]:
    """Names of the packaged presets, and `none`: the models' defaults and no transforms."""
    packaged = (entry.name for entry in files("dino4cells.config.presets").iterdir())
    return [*sorted(name.removesuffix(".yaml") for name in packaged if name.endswith(".yaml")), "none"]


def _read_preset(name: str, asked_at: str) -> Document:
    if name not in preset_names():
        raise ConfigError(f"{asked_at}there is no preset {name!r}; choose one of {', '.join(preset_names())}")
    if name == "none":
        return Document()
    document = read_yaml((files("dino4cells.config.presets") / f"{name}.yaml").read_text(encoding="utf-8"), f"{PRESET}{name}")
    below = document.values.pop("preset", None)
    return document if below is None else _merge(_read_preset(str(below), f"{PRESET}{name}: "), document)


def _keep_known(document: Document) -> Document:
    """Drops, with a warning each, what no model knows, and without one what is empty; every section becomes a mapping."""
    ignored = [name for name in document.values if name in IGNORED_SECTIONS]
    if ignored:
        place = document.place((ignored[0],))
        document.warnings.append(f"{place}: sections that steered the paper's own scripts are not used here: {', '.join(ignored)}")
    kept: dict[str, object] = {}
    for name, value in document.values.items():
        if name in SECTIONS:
            kept[name] = _known_keys(document, name, _mapping(document, name, value))
        elif name in TRANSFORM_SECTIONS:
            kept[name] = _known_transforms(document, name, _mapping(document, name, value))
        elif name in Config.model_fields:
            if not is_empty(value):
                kept[name] = value
        elif name not in IGNORED_SECTIONS:
            near = _other_section(name) or suggestion(name, [*Config.model_fields, "preset"])
            document.warnings.append(f"{document.place((name,))}: {name} is not known and not used{near}")
    document.values = kept
    return document


def _mapping(document: Document, name: str, value: object) -> dict[str, object]:
    if is_empty(value):
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{document.place((name,))}: {name} must be a mapping of keys, not {value!r}; indent its keys below it")
    return value


def _known_keys(document: Document, section: str, values: dict[str, object]) -> dict[str, object]:
    kept: dict[str, object] = {}
    waiting: list[str] = []
    for key, value in values.items():
        if other := OTHER_NAMES.get(section, {}).get(key):
            document.places[section, other] = document.place((section, key))
            key = other
        if key in SECTIONS[section].model_fields:
            if not is_empty(value):
                kept[key] = value
        elif section == "classification" and key in CLASSIFICATION_KEYS_OF_THE_PAPER:
            waiting.append(key)
        else:
            near = suggestion(key, SECTIONS[section].model_fields) or _other_section(key)
            document.warnings.append(f"{document.place((section, key))}: {section}.{key} is not known and not used{near}")
    if waiting:
        place = document.place((section, waiting[0]))
        document.warnings.append(f"{place}: keys of {section} that steered the paper's own scripts are not used here: {', '.join(waiting)}")
    return kept


def _known_transforms(document: Document, section: str, entries: dict[str, object]) -> dict[str, object]:
    """Without unknown transforms that are switched off: published files have one; an active one is an error of the model."""
    kept: dict[str, object] = {}
    for name, entry in entries.items():
        active = entry[0] if isinstance(entry, list) and entry else entry
        if name not in TRANSFORM_NAMES and (active is False or active == "False"):
            near = suggestion(name, TRANSFORM_NAMES)
            document.warnings.append(f"{document.place((section, name))}: {section}.{name} is no known transform; it is switched off{near}")
        else:
            kept[name] = entry
    return kept


def _other_section(key: str) -> str:
    owners = [f"{section}.{key}" for section, model in SECTIONS.items() if key in model.model_fields]
    return f"; did you mean {' or '.join(owners)}?" if owners else ""


def _merge(base: Document, user: Document) -> Document:
    """The user's keys over the preset's; a section of transforms is replaced as a whole, since its order matters."""
    merged = Document(dict(base.values), dict(base.places), base.warnings + user.warnings)
    for name, value in user.values.items():
        below = base.values.get(name)
        if name in SECTIONS and isinstance(value, dict) and isinstance(below, dict):
            merged.values[name] = {**below, **value}
        else:
            merged.values[name] = value
            merged.forget((name,))
    merged.places.update(user.places)
    return merged
