"""`dino4cells job`: training or extraction as a PyTorchJob, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml

from dino4cells.cli.options import ANY_KEY, ConfigOption, DataOption, PresetOption
from dino4cells.errors import ConfigError

app = typer.Typer(help="Training and extraction as a PyTorchJob on a Kubernetes cluster.", no_args_is_help=True)

SETTINGS_HELP = "Every key of the settings is an option as well: --nodes 2, --resources.gpus 1, --placement.queue biology."

EXAMPLE = "dino4cells job render --image registry/dino4cells:0.1.0 --nodes 2 --data s3://lab/cells --output s3://lab/model"

SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--settings", metavar="YAML", help="Image, nodes, resources, secrets, placement: a path or URL; later ones win."),
]
NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the job.")]


@app.command(context_settings=ANY_KEY, epilog=f"Example: {EXAMPLE}\n\n{SETTINGS_HELP}")
def render(
    context: typer.Context,
    step: Annotated[Literal["train", "extract"], typer.Option("--step", help="What the job does.")] = "train",
    config: ConfigOption = "",
    preset: PresetOption = "",
    override: Annotated[list[str] | None, typer.Option("--override", metavar="KEY=VALUE", help="A key of the configuration.")] = None,
    data: DataOption = "",
    model: Annotated[str, typer.Option("--model", metavar="URL", help="The model, for extract.")] = "",
    output: Annotated[str, typer.Option("--output", metavar="URL", help="Where the artifact goes.")] = "",
    settings: SettingsOption = None,
    namespace: NamespaceOption = "",
    name: Annotated[str, typer.Option("--name", help="Name of the job; else one that its content gives.")] = "",
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="File to write; else the screen.")] = None,
) -> None:
    """Write the manifest that `kubectl apply -f` takes; nothing is sent."""
    from dino4cells.cluster.names import is_job_name
    from dino4cells.cluster.pytorchjob import render as manifest_of
    from dino4cells.cluster.settings import read_settings
    from dino4cells.cluster.work import job_of

    if name and not is_job_name(name):
        raise ConfigError(f"--name: '{name}' is no name of a job; use up to 50 lower-case letters, digits and -, a letter first.")
    job = job_of(
        step, read_settings(settings or [], _settings_of(context)), config, preset, override or [], data=data, model=model, output=output
    )
    text = yaml.safe_dump(manifest_of(job, namespace or None, name=name or None), sort_keys=False, allow_unicode=True, width=120)
    if to is None:
        print(text, end="")
    else:
        to.write_text(text, encoding="utf-8")
        print(f"wrote {to}")


def _settings_of(context: typer.Context) -> dict[str, str]:
    """Options that the command does not know, as keys of the settings."""
    found: dict[str, str] = {}
    words = list(context.args)
    while words:
        word = words.pop(0)
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not key:
            raise ConfigError(f"{word}: this word belongs to no option; write --key value.")
        if not equals and (not words or words[0].startswith("--")):
            raise ConfigError(f"--{key}: has no value; write --{key} value.")
        found[key.replace("-", "_")] = value if equals else words.pop(0)
    return found
