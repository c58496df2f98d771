"""Options that commands share; any key of the configuration is an option too."""

from __future__ import annotations

import difflib
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

import dino4cells
from dino4cells.cli.completion import SECTION_OF_COMMAND, AnyKeyCommand
from dino4cells.cli.published_flags import NOT_USED, OTHER_FLAGS, WITHOUT_VALUE, precision_of
from dino4cells.errors import ConfigError

logger = logging.getLogger(__name__)
ANY_KEY = {"allow_extra_args": True, "ignore_unknown_options": True}
ANY_KEY_HELP = (
    "Every key of the configuration is an option as well: {keys}. A key alone is that of the section {section}, if it has it. "
    "All keys: dino4cells config --reference."
)
KEYS = {
    "model": "--epochs 20, --model.seed 1, --global_transfo1.RandomResizedCrop.size 48",
    "embedding": "--tokens patches, --batch_size 64, --model.channels 'nucleus, ER'",
    "classification": "--folds 3, --class_weights balanced, --model.seed 1",
}
"""Of each section, how keys are given."""

ConfigOption = Annotated[str, typer.Option("--config", metavar="YAML", help="config.yaml of the handbook: a path or URL.")]


def any_key(command: str, example: str = "") -> dict[str, Any]:
    """How a command is made that takes every key of the configuration as an option: for `app.command`.

    Args:
        command: its name.
        example: one way to call it.
    """
    section = SECTION_OF_COMMAND.get(command, "model")
    told = ANY_KEY_HELP.format(keys=KEYS[section], section=section)
    return {"cls": AnyKeyCommand, "context_settings": ANY_KEY, "epilog": f"Example: {example}\n\n{told}"}


def _presets(incomplete: str) -> list[str]:
    """Names for the shell to complete; a look into the directory alone, since reading a configuration takes longer to import."""
    directory = Path(dino4cells.__file__).parent / "config" / "presets"
    return sorted(path.stem for path in directory.glob(f"{incomplete}*.yaml"))


PresetOption = Annotated[
    str,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Settings below the file's: handbook, small or small-fluorescence; else the preset that it names.",
        autocompletion=_presets,
    ),
]
DataOption = Annotated[
    str, typer.Option("--data", metavar="URL", help="Directory or URL that holds a metadata.csv; else as the configuration says.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a finished result that is there.")]
GpusOption = Annotated[str, typer.Option("--gpus", metavar="0,1,…", help="GPUs to use, one process each; else one, or the CPU.")]
ProcessesOption = Annotated[int, typer.Option("--processes", metavar="N", min=1, help="Processes that share the work on a CPU.")]
LabelOption = Annotated[str, typer.Option("--label", metavar="COLUMN", help="Classes; else protein_location or cell_type.")]
GroupOption = Annotated[
    str, typer.Option("--group", metavar="COLUMN", help="Values that never straddle a train/test split, such as plate.")
]


def overrides_of(context: typer.Context) -> dict[str, object]:
    """Options that the command does not know, as dotted keys of the configuration: `--key value` or `--key=value`.

    Flags of the published scripts are understood; those that mean nothing here are told in one warning.
    """
    from dino4cells.config.overrides import kind_of

    overrides: dict[str, object] = {}
    not_used: list[str] = []
    words = list(context.args)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"{word}: this word belongs to no option; write --key value.")
        flag, equals, value = word.removeprefix("--").partition("=")
        name = flag.replace("-", "_")
        ignored = name.lower() in NOT_USED
        key = "" if ignored or name == "use_fp16" else _key(flag, context)
        if not equals:
            value = _value(flag, words, kind_of(key) if key else "switch" if name in WITHOUT_VALUE else "many" if ignored else "one")
        if ignored:
            not_used.append(f"--{flag}")
        elif name == "use_fp16":
            overrides["model.precision"] = precision_of(value)
        else:
            overrides[key] = value
    if not_used:
        logger.warning("%s: steered the published scripts and is not used here", ", ".join(not_used))
    return overrides


def _value(flag: str, words: list[str], kind: str) -> str:
    """Takes the value of an option off the words: one word; several for a pair or a list; none for a switch that stands alone."""
    if words and words[0] == "=":  # `--master_port = 1234`
        words.pop(0)
    values: list[str] = []
    while words and not words[0].startswith("--") and (kind == "many" or not values):
        values.append(words.pop(0))
    if not values and kind != "switch":
        raise ConfigError(f"--{flag}: has no value; write --{flag} value.")
    return ", ".join(values) if values else "True"


def _key(flag: str, context: typer.Context) -> str:
    """The key that a flag stands for; refuses a word that is none, and suggests the option that may have been meant."""
    from dino4cells.config.overrides import full_key

    command = context.command.name or ""
    named = OTHER_FLAGS.get(command, {}).get(flag)
    if named:
        return named
    try:
        return full_key(flag, SECTION_OF_COMMAND.get(command, "model"))
    except ConfigError:
        options = [option.removeprefix("--") for parameter in context.command.params for option in parameter.opts]
        near = difflib.get_close_matches(flag, options, n=1)
        if near:
            raise ConfigError(f"--{flag}: there is no such option; did you mean --{near[0]}?") from None
        raise
