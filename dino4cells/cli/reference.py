"""The page `docs/configuration.md`: `reference.md`, filled with what the models and the transforms say of themselves."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from string import Template
from types import NoneType
from typing import Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from dino4cells.config import SECTIONS, TRANSFORM_SECTIONS, Config
from dino4cells.config.classification import CLASSIFICATION_KEYS_OF_THE_PAPER
from dino4cells.config.config import IGNORED_SECTIONS
from dino4cells.config.file import preset_names

THE_HANDBOOKS_KEYS: Final = {
    "model": (
        *("model_type", "arch", "patch_size", "root", "data_path", "output_dir", "datatype", "image_mode", "num_channels"),
        *("sample_single_cells", "num_workers", "epochs", "batch_size_per_gpu", "optimizer", "lr", "min_lr", "warmup_epochs"),
        *("weight_decay", "weight_decay_end", "clip_grad", "freeze_last_layer", "seed", "momentum_teacher", "center_momentum"),
        *("student_temp", "teacher_temp", "warmup_teacher_temp", "warmup_teacher_temp_epochs", "out_dim", "norm_last_layer"),
        *("use_bn_in_head", "local_crops_scale", "saveckp_freq"),
    ),
    "embedding": (
        *("pretrained_weights", "output_path", "df_path", "image_size", "num_workers", "embedding_has_labels", "target_labels"),
        "num_augmentation_repetitions",
    ),
    "classification": (
        *("train_protein", "train_cell_type", "use_pretrained_features", "train_path", "valid_path", "test_path", "cells_train_path"),
        *("cells_valid_path", "averaged_features_path", "averaged_train_path", "averaged_valid_path", "averaged_test_path"),
        *("whole_images", "train_feature_extractor", "feature_extractor_state_dict", "train", "train_classifier_head"),
        *("load_classifier_head", "classifier_state_dict", "classifier_type", "num_classes", "n_layers", "n_units", "norm_layer"),
        *("skip", "dropout", "loss", "optimizer", "lr", "min_lr", "wd", "wd_end", "schedule", "epochs", "batch_size_per_gpu"),
        *("balance", "early_stopping", "num_workers", "output_dir", "output_prefix", "overwrite"),
    ),
}
"""Keys and command-line arguments of the published code, by section; every other key is ours."""

_BOUNDS: Final = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def page() -> str:
    """The page as Markdown."""
    from dino4cells.augment.registry import describe

    template = Template((files("dino4cells.cli") / "reference.md").read_text(encoding="utf-8"))
    return template.substitute(
        presets=_rows([f"`{name}`", _first_sentence_of_preset(name)] for name in preset_names() if name != "none"),
        ignored_sections=", ".join(f"`{name}`" for name in IGNORED_SECTIONS),
        ignored_keys=", ".join(f"`{name}`" for name in CLASSIFICATION_KEYS_OF_THE_PAPER),
        sections="\n\n".join(_section(name) for name in SECTIONS),
        local_crops_number=_alone("local_crops_number"),
        transform_sections=_rows([f"`{name}`", Config.model_fields[name].description or ""] for name in TRANSFORM_SECTIONS),
        transforms=_rows(
            [f"`{name}`", "<br>".join(f"`{one.name}`: {one.type}{_or(one.default)}" for one in transform.parameters), transform.summary]
            for name, transform in describe().items()
        ),
    )


def _section(name: str) -> str:
    rows = (
        [f"`{key}`" if key in THE_HANDBOOKS_KEYS[name] else f"`{key}` +", value_of(field), default_of(field), field.description or ""]
        for key, field in SECTIONS[name].model_fields.items()
    )
    head = "| key | value | default | what it says |\n| --- | --- | --- | --- |"
    return f"### `{name}`\n\n{Config.model_fields[name].description}\n\n{head}\n{_rows(rows)}"


def _alone(key: str) -> str:
    field = Config.model_fields[key]
    return f"{field.description} Value: {value_of(field)}; default {default_of(field)}."


def _or(default: str | None) -> str:
    return "" if default is None else f" (`{default}`)"


def value_of(field: FieldInfo) -> str:
    """What a key may hold, in words: its type or choices, and its range."""
    kinds = [kind for kind in (get_args(field.annotation) if _is_union(field) else (field.annotation,)) if kind is not NoneType]
    words = " or ".join(_kind(kind) for kind in kinds)
    bounds = [f"{word} {getattr(part, sign):,}" for part in field.metadata for sign, word in _BOUNDS.items() if hasattr(part, sign)]
    return " ".join([words, ", ".join(bounds)]).strip()


def _is_union(field: FieldInfo) -> bool:
    return get_origin(field.annotation) not in (None, Literal, list, tuple, dict)


def _kind(kind: object) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{str(choice).lower() if isinstance(choice, bool) else choice}`" for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return "two numbers"
    names = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text"}
    return "names" if get_origin(kind) is list else names[kind]  # type: ignore[index]


def default_of(field: FieldInfo) -> str:
    """The default as a file would say it; nothing for none."""
    default = field.default
    if default is None:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _first_sentence_of_preset(name: str) -> str:
    """The first sentence of the comment that a preset begins with."""
    lines = (files("dino4cells.config.presets") / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.removeprefix("# ") for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])
    return comment.split(". ")[0].rstrip(".") + "."


def _rows(rows: Iterable[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row).strip() + " |" for row in rows)
