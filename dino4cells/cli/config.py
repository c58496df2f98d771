"""`dino4cells config`."""

from __future__ import annotations

from typing import Annotated

import typer

from dino4cells.cli.options import ConfigOption, PresetOption, overrides_of


def show_config(
    context: typer.Context,
    config: ConfigOption = "",
    preset: PresetOption = "",
    explain: Annotated[bool, typer.Option("--explain", help="Only what differs from the defaults, and where it comes from.")] = False,
    reference: Annotated[bool, typer.Option("--reference", help="Every key and transform explained, as a Markdown page.")] = False,
) -> None:
    """Print the resolved configuration: defaults, preset, file and options together."""
    if reference:
        from dino4cells.cli.reference import page

        print(page(), end="")
        return
    overrides = overrides_of(context)

    from dino4cells import steps

    resolved = steps.configuration(config, preset, overrides)
    if not explain:
        print(resolved.to_yaml(), end="")
        return
    origins = resolved.origins()
    width = max((len(f"{key}: {_shown(value)}") for key, value, _ in origins if len(_shown(value)) < 60), default=0)
    for key, value, place in origins:
        print(f"{f'{key}: {_shown(value)}':<{width}}  # {place}")


def _shown(value: object) -> str:
    """A value as a file would have it: `{size: 96, scale: [0.05, 0.4]}`."""
    import yaml

    if isinstance(value, tuple):
        value = list(value)
    return yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True, sort_keys=False).removesuffix("\n...\n").strip()
