"""Options that commands share; any key of the configuration is an option too."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer

from dino4cells.errors import ConfigError

ANY_KEY = {"allow_extra_args": True, "ignore_unknown_options": True}
ANY_KEY_HELP = (
    "Every key of the configuration is an option as well: --epochs 20, --model.seed 1, --global_transfo1.RandomResizedCrop.size 48."
)

ConfigOption = Annotated[str, typer.Option("--config", metavar="YAML", help="config.yaml of the handbook: a path or URL.")]
PresetOption = Annotated[
    str, typer.Option("--preset", metavar="NAME", help="Settings below the file's: small, small-fluorescence, handbook.")
]
DataOption = Annotated[str, typer.Option("--data", metavar="URL", help="Directory or URL that holds a metadata.csv.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a finished result that is there.")]
GpusOption = Annotated[str, typer.Option("--gpus", metavar="0,1,…", help="GPUs to use, one process each.")]
ProcessesOption = Annotated[int, typer.Option("--processes", min=1, help="Processes that share the work on a CPU.")]
LabelOption = Annotated[str, typer.Option("--label", metavar="COLUMN", help="Classes; else protein_location or cell_type.")]
GroupOption = Annotated[
    str, typer.Option("--group", metavar="COLUMN", help="Values that never straddle a train/test split, such as plate.")
]


def overrides_of(context: typer.Context) -> dict[str, object]:
    """Options that the command does not know, as keys of the configuration: `--key value` or `--key=value`."""
    overrides: dict[str, object] = {}
    words = list(context.args)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"{word}: this word belongs to no option; write --key value.")
        key, equals, value = word.removeprefix("--").partition("=")
        _check_key(key, context)
        if not equals and (not words or words[0].startswith("--")):
            raise ConfigError(f"--{key}: has no value; write --{key} value.")
        overrides[key] = value if equals else words.pop(0)
    return overrides


def _check_key(key: str, context: typer.Context) -> None:
    """Refuse a word that is no key of the configuration, and suggest the option that may have been meant."""
    from dino4cells.config.overrides import full_key

    try:
        full_key(key)
    except ConfigError:
        options = [option.removeprefix("--") for parameter in context.command.params for option in parameter.opts]
        near = difflib.get_close_matches(key, options, n=1)
        if near:
            raise ConfigError(f"--{key}: there is no such option; did you mean --{near[0]}?") from None
        raise
