"""A wrong value told to its owner: one sentence with file, line, key, what is allowed, and what to do."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from dino4cells.config.config import TRANSFORM_SECTIONS, Config
from dino4cells.config.values import is_empty, suggestion
from dino4cells.config.yaml import Document, Path
from dino4cells.errors import ConfigError

_PROBLEMS = {
    "greater_than_equal": "must be at least {ge:g}",
    "greater_than": "must be greater than {gt:g}",
    "less_than_equal": "must be at most {le:g}",
    "less_than": "must be less than {lt:.20g}",
    "int": "must be a whole number",
    "float": "must be a number",
    "finite_number": "must be a finite number",
    "bool": "must be true or false",
    "string": "must be a text",
    "list": "must be a list",
    "literal_error": "must be one of {expected}",
    "value_error": "{error}",
}
"""Pydantic's kinds of error (or the word that they start with) in the words of a user."""


def config_error(error: ValidationError, document: Document) -> ConfigError:
    """The first wrong value as a sentence, and the keys of the others."""
    problems = error.errors(include_url=False)
    first, *others = problems
    sentence = _sentence(first, document)
    other_keys = sorted({".".join(_key(other)) for other in others} - {".".join(_key(first))})
    more = f" (also wrong: {', '.join(other_keys)})" if other_keys else ""
    return ConfigError(sentence + more)


def _sentence(problem: Any, document: Document) -> str:
    path = _key(problem)
    key = ".".join(path)
    value = problem["input"]
    place = str(document.place(path))
    subject = place if place == f"option {key}" else f"{place}: {key}"
    if problem["loc"][-1] == "[key]":  # the name of a transform
        text = _text(problem)
        return f"{subject} {text}" if text.endswith("?") else f"{subject} {text}; name a transform of the handbook, or delete the entry"
    if path[0] in TRANSFORM_SECTIONS:
        return f"{subject} {_text(problem)}, not {_shown(value)}; correct the entry"
    default = _default(path)
    without = "leave the key out" if is_empty(default) else f"leave the key out for {_shown(default)}"
    near = suggestion(value, [str(choice) for choice in _choices(problem)]) if isinstance(value, str) else ""
    return f"{subject} {_text(problem)}, not {_shown(value)}{near or f'; correct it, or {without}'}"


def _text(problem: Any) -> str:
    kind: str = problem["type"]
    template = _PROBLEMS.get(kind) or _PROBLEMS.get(kind.split("_")[0])
    return template.format(**problem.get("ctx", {})) if template else f"is wrong ({problem['msg']})"


def _choices(problem: Any) -> list[str]:
    expected = problem.get("ctx", {}).get("expected", "")
    return [part.strip(" '") for part in str(expected).replace(" or ", ", ").split(",") if part.strip()]


def _key(problem: Any) -> Path:
    """`model.epochs`, `global_transfo1.RandomResizedCrop`: section and key, without pydantic's own steps below them."""
    return tuple(str(step) for step in problem["loc"][:2])


def _default(path: Path) -> object:
    model: type[BaseModel] | None = Config
    for step in path[:-1]:
        annotation = model.model_fields[step].annotation if model is not None else None
        model = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    return model.model_fields[path[-1]].default if model is not None and path[-1] in model.model_fields else None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
