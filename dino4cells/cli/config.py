"""`dino4cells config`."""

from __future__ import annotations

import typer

from dino4cells.cli.options import ConfigOption, PresetOption, overrides_of


def show_config(
    context: typer.Context,
    config: ConfigOption = "",
    preset: PresetOption = "",
) -> None:
    """Print the resolved configuration: defaults, preset, file and options together."""
    from dino4cells import steps

    print(steps.configuration(config, preset, overrides_of(context)).to_yaml(), end="")
