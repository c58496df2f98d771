"""`dino4cells config`."""

from __future__ import annotations

from typing import Annotated

import typer

from dino4cells.cli import results
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

        results.show(page().rstrip("\n"), {"reference": page()})
        return
    overrides = overrides_of(context)

    import yaml

    from dino4cells import steps

    resolved = steps.configuration(config, preset, overrides)
    if not explain:
        results.show(resolved.to_yaml().rstrip("\n"), yaml.safe_load(resolved.to_yaml()))
        return
    origins = resolved.origins()
    width = max((len(f"{key}: {_shown(value)}") for key, value, _ in origins if len(_shown(value)) < 60), default=0)
    lines = [f"{f'{key}: {_shown(value)}':<{width}}  # {place}" for key, value, place in origins]
    results.show("\n".join(lines), {key: {"value": value, "from": place} for key, value, place in origins})


def _shown(value: object) -> str:
    """A value as a file would have it: `{size: 96, scale: [0.05, 0.4]}`."""
    import yaml

    if isinstance(value, tuple):
        value = list(value)
    return yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True, sort_keys=False).removesuffix("\n...\n").strip()
