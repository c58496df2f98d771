"""What the shell completes: commands and options by typer; here values, keys of the configuration, and options of every command."""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from typer.core import TyperCommand

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

SECTION_OF_COMMAND = {"extract": "embedding", "predict": "embedding", "classify": "classification"}
"""The section that a key alone belongs to; `model` for every other command."""

EVERYWHERE = {"--quiet": (), "--json": (), "--log": ("text", "json")}
"""Options that stand before or after any command, and their values."""


def one_of(*values: str) -> Callable[[str], list[str]]:
    """Completes a value of an option that has few."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


class Command(TyperCommand):
    """A command; the shell completes the options that every command takes as well."""

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """What may stand here: typer's own items, and more of their kind."""
        items = super().shell_complete(ctx, incomplete)
        before = ctx.args[-1] if ctx.args else ""
        if incomplete.startswith("-"):
            more = {**dict.fromkeys(EVERYWHERE, ""), **self.other_options(incomplete)}
        else:
            more = dict.fromkeys(EVERYWHERE.get(before) or self.other_values(before), "")
        (any_item,) = super().shell_complete(ctx, "--help")  # of click's, or of the one that typer brings
        return [*items, *(type(any_item)(word, help=text) for word, text in more.items() if word.startswith(incomplete))]

    def other_options(self, incomplete: str) -> dict[str, str]:
        """Options that are no parameters of the command, with their help."""
        return {}

    def other_values(self, option: str) -> tuple[str, ...]:
        """Values of such an option."""
        return ()


class AnyKeyCommand(Command):
    """A command that takes every key of the configuration as an option."""

    @property
    def section(self) -> str:
        """The section that a key alone belongs to."""
        return SECTION_OF_COMMAND.get(self.name or "", "model")

    def other_options(self, incomplete: str) -> dict[str, str]:
        """Keys of the command's own section; those of a section that has been begun, `--model.`."""
        from dino4cells.config.config import SECTIONS

        own = SECTIONS[self.section].model_fields
        options = {f"--{key}": field.description or "" for key, field in own.items()}
        for name, section in SECTIONS.items():
            if incomplete.startswith(f"--{name}."):
                options |= {f"--{name}.{key}": field.description or "" for key, field in section.model_fields.items()}
        taken = {option for parameter in self.params for option in parameter.opts}
        return {option: text for option, text in options.items() if option not in taken}

    def other_values(self, option: str) -> tuple[str, ...]:
        """What a key may hold, where that is one of a few words."""
        from dino4cells.config.architectures import ARCHITECTURES
        from dino4cells.config.config import SECTIONS
        from dino4cells.config.overrides import full_key
        from dino4cells.errors import ConfigError

        try:
            section, _, key = full_key(option, self.section).partition(".")
        except ConfigError:
            return ()
        if key == "arch":
            return tuple(ARCHITECTURES)
        field = SECTIONS[section].model_fields.get(key) if section in SECTIONS else None
        return _choices(field) if field else ()


def _choices(field: FieldInfo) -> tuple[str, ...]:
    kinds = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not NoneType]
    if get_origin(field.annotation) is Literal:
        kinds = [field.annotation]
    if kinds == [bool]:
        return ("true", "false")
    return tuple(str(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind))
