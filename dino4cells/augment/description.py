"""What transforms take, in words: for messages, and for the reference of the configuration."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_type_hints

from dino4cells.augment.parameters import Says


@dataclass(frozen=True)
class Parameter:
    """One parameter of a transform.

    Attributes:
        name: as in a configuration.
        type: what it must be, in words.
        default: as a configuration would give it; None where the parameter is required.
    """

    name: str
    type: str
    default: str | None

    def __str__(self) -> str:
        return f"{self.name} ({self.type}; {'required' if self.default is None else f'default {self.default}'})"


@dataclass(frozen=True)
class Description:
    """A transform: what it does in one line, and its parameters in order."""

    summary: str
    parameters: tuple[Parameter, ...]

    @property
    def accepted(self) -> str:
        """The parameters as a list within a sentence."""
        return _listed(str(parameter) for parameter in self.parameters) or "no parameters"


def describe_transform(kind: type) -> Description:
    """The description of a transform's class, from its docstring and its fields."""
    hints = get_type_hints(kind, include_extras=True)
    fields = dataclasses.fields(kind)
    parameters = tuple(Parameter(field.name, _words(hints[field.name]), _default(field)) for field in fields)
    return Description((inspect.getdoc(kind) or "").splitlines()[0], parameters)


def _words(hint: Any) -> str:
    said = [part.text for part in getattr(hint, "__metadata__", ()) if isinstance(part, Says)]
    return said[-1]


def _default(field: dataclasses.Field[Any]) -> str | None:
    if field.default is dataclasses.MISSING:
        return None
    if isinstance(field.default, tuple):
        return f"[{', '.join(f'{value:.3g}' for value in field.default)}]"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)


def _listed(items: Iterable[str]) -> str:
    *most, last = list(items) or [""]
    return f"{', '.join(most)} and {last}" if most else last
