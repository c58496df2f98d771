"""The command line: parses, calls `dino4cells.steps`, prints. Errors that a user can fix are one sentence and exit code 2."""

from __future__ import annotations

import difflib
import io
import logging
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

import dino4cells
from dino4cells.errors import ConfigError, Dino4CellsError

EXTRAS = {"kfp": "kubeflow", "matplotlib": "report"}
"""Packages that are installed only on demand, and the extra that brings each."""

ANY_KEY = {"allow_extra_args": True, "ignore_unknown_options": True}
ANY_KEY_HELP = (
    "Every key of the configuration is an option as well: --epochs 20, --model.seed 1, --global_transfo1.RandomResizedCrop.size 48."
)

app = typer.Typer(
    help="Self-supervised features of single cells (DINO): train a model, extract features of every cell, classify them.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"max_content_width": 100},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
pipeline_app = typer.Typer(help="The Kubeflow pipeline train → extract → classify.", no_args_is_help=True)
app.add_typer(pipeline_app, name="pipeline")

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


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"dino4cells {dino4cells.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


@app.command()
def simulate(
    output: Annotated[str, typer.Argument(metavar="URL", help="Directory or URL to write to.")],
    cells: Annotated[int, typer.Option(help="Number of cells; 14 × plates draws each class, line and plate once.")] = 1680,
    size: Annotated[int, typer.Option(help="Side of an image, in pixels (32 to 256).")] = 64,
    plates: Annotated[int, typer.Option(help="Number of plates, each with its own brightness and background.")] = 6,
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same files.")] = 0,
) -> None:
    """Draw fluorescence cells with four channels and seven protein localizations, to try everything on."""
    from dino4cells.data.simulate import simulate as draw
    from dino4cells.progress import Progress

    with Progress("simulate", cells, unit="cells") as progress:
        data = draw(
            output, cells=cells, size=size, plates=plates, seed=seed, progress=lambda drawn: progress.advance(drawn - progress.done)
        )
    print(
        f"{data.cells:,} cells of {len(data.classes)} classes, {len(data.cell_lines)} lines and {len(data.plates)} plates are in {data.url}"
    )


@app.command("config", context_settings=ANY_KEY, epilog=ANY_KEY_HELP)
def show_config(
    context: typer.Context,
    config: ConfigOption = "",
    preset: PresetOption = "",
) -> None:
    """Print the resolved configuration: defaults, preset, file and options together."""
    from dino4cells import steps

    print(steps.configuration(config, preset, _overrides(context)).to_yaml(), end="")


@app.command(context_settings=ANY_KEY, epilog=ANY_KEY_HELP)
def train(
    context: typer.Context,
    config: ConfigOption = "",
    preset: PresetOption = "",
    data: DataOption = "",
    output: Annotated[str, typer.Option("--output", metavar="URL", help="Where the model goes; else model.output_dir.")] = "",
    gpus: GpusOption = "",
    processes: ProcessesOption = 1,
    overwrite: OverwriteOption = False,
) -> None:
    """Train a model on images of single cells, without labels. An interrupted run goes on where it stopped."""
    from dino4cells import steps
    from dino4cells.cluster.gpus import gpus_of
    from dino4cells.cluster.launchers import processes_of

    numbers = gpus_of(gpus)
    card = steps.train(
        steps.configuration(config, preset, _overrides(context)),
        data=data or None,
        output=output or None,
        overwrite=overwrite,
        processes=processes_of("local", processes, numbers),
        device="cuda" if numbers else "auto",
    )
    summary = card.training
    print(
        f"trained {card.arch} on {summary.images:,} images of {len(card.channels)} channels ({', '.join(card.channels)}): "
        f"loss {summary.loss_start:.3f} → {summary.loss_end:.3f}, {summary.images_per_second:,.0f} images/s"
    )


@app.command(context_settings=ANY_KEY, epilog=ANY_KEY_HELP)
def extract(
    context: typer.Context,
    model: Annotated[
        str, typer.Option("--model", metavar="URL", help="The model; else embedding.pretrained_weights or model.output_dir.")
    ] = "",
    config: ConfigOption = "",
    data: DataOption = "",
    output: Annotated[str, typer.Option("--output", metavar="URL", help="Where the features go; else embedding.output_path.")] = "",
    baselines: Annotated[bool | None, typer.Option("--baselines/--no-baselines", help="Also features to compare with.")] = None,
    gpus: GpusOption = "",
    processes: ProcessesOption = 1,
    overwrite: OverwriteOption = False,
) -> None:
    """Write the features of every cell, a row each, in the order of the metadata."""
    from dino4cells import steps
    from dino4cells.cluster.gpus import gpus_of
    from dino4cells.cluster.launchers import processes_of

    overrides = _overrides(context)
    resolved = steps.configuration(config, "", overrides) if config else None
    if resolved is not None:
        model = model or resolved.embedding.pretrained_weights or resolved.model.output_dir or ""
    if not model:
        raise ConfigError("--model: is not given; say which model, there or by embedding.pretrained_weights in the configuration.")
    numbers = gpus_of(gpus)
    card = steps.extract(
        model,
        config=resolved or steps.configuration_of(model, overrides),
        data=data or None,
        output=output or None,
        overwrite=overwrite,
        baselines=baselines,
        processes=processes_of("local", processes, numbers),
        device="cuda" if numbers else "auto",
    )
    failed = f", {card.failed_rows:,} of them without features (see Metadata_dino_error)" if card.failed_rows else ""
    print(f"wrote {card.rows:,} cells × {card.embedding_dim} features{failed}, {card.images_per_second:,.0f} images/s")


@app.command(context_settings=ANY_KEY, epilog=ANY_KEY_HELP)
def classify(
    context: typer.Context,
    features: Annotated[str, typer.Option("--features", metavar="URL", help="The features of every cell.")],
    output: Annotated[str, typer.Option("--output", metavar="URL", help="Where classifiers, metrics and report go.")],
    label: LabelOption = "",
    group: GroupOption = "",
    data: Annotated[str, typer.Option("--data", metavar="URL", help="The images, for the report's pictures of cells.")] = "",
    model: Annotated[str, typer.Option("--model", metavar="URL", help="The model, for the report's loss curve.")] = "",
    config: ConfigOption = "",
    overwrite: OverwriteOption = False,
) -> None:
    """Cross-validate classifiers on the features, beside baselines, and write a report."""
    from dino4cells import steps, summary

    overrides = {**_overrides(context), "classification.label": label, "classification.group": group}
    steps.classify(
        features,
        config=steps.configuration(config, "", overrides),
        output=output,
        data=data or None,
        model=model or None,
        overwrite=overwrite,
    )
    summary.print_summary(output, features=features, model=model or None)


@app.command(context_settings=ANY_KEY, epilog=ANY_KEY_HELP)
def run(
    context: typer.Context,
    data: Annotated[str, typer.Option("--data", metavar="URL", help="Directory or URL with a metadata.csv; else simulated cells.")] = "",
    group: GroupOption = "",
    label: LabelOption = "",
    config: ConfigOption = "",
    preset: PresetOption = "",
    processes: ProcessesOption = 1,
    baselines: Annotated[bool, typer.Option("--baselines/--no-baselines", help="Also judge what to compare with.")] = True,
    launcher: Annotated[str, typer.Option(help="Where training runs: local (here), or pytorchjob.")] = "local",
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Directory for the artifacts of all runs.")] = Path("runs"),
) -> None:
    """Run the whole Kubeflow pipeline on this machine: train, extract, classify, report.

    Without a configuration it starts from the preset small, for simulated cells from small-fluorescence.
    """
    from dino4cells import steps, storage, summary
    from dino4cells.cluster.launchers import processes_of
    from dino4cells.pipelines.local import run_locally

    started = datetime.now()
    preset = steps.preset_for(preset, config, data)
    overrides = shlex.join(f"{key}={value}" for key, value in _overrides(context).items())
    # What can be known to fail is refused now, and not after hours of training.
    processes_of(launcher, processes)
    steps.check_run(config, preset, overrides, data=data, label=label, group=group)
    finished = run_locally(
        output,
        {
            "data": storage.absolute(data) if data else "",
            "preset": preset,
            "config": storage.absolute(config) if config else "",
            "overrides": overrides,
            "label": label,
            "group": group,
            "processes": processes,
            "launcher": launcher,
            "baselines": baselines,
        },
    )
    summary.print_summary(
        finished.classification, features=finished.features, model=finished.model, seconds=(datetime.now() - started).seconds
    )


@pipeline_app.command("compile")
def compile_pipeline(output: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")] = Path("dino4cells.yaml")) -> None:
    """Write the pipeline as the YAML that the Kubeflow UI takes (Pipelines → Upload pipeline)."""
    from dino4cells.pipelines.pipeline import compile_pipeline as write

    print(f"wrote {write(output)}")


def _overrides(context: typer.Context) -> dict[str, object]:
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
    from dino4cells.config_overrides import full_key

    try:
        full_key(key)
    except ConfigError:
        options = [option.removeprefix("--") for parameter in context.command.params for option in parameter.opts]
        near = difflib.get_close_matches(key, options, n=1)
        if near:
            raise ConfigError(f"--{key}: there is no such option; did you mean --{near[0]}?") from None
        raise


def main() -> None:
    """Entry point of the command `dino4cells`."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # Lines of the steps are seen when they are written, also where the output is a pipe.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        app(prog_name="dino4cells")
    except Dino4CellsError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        print(f"error: {error.name} is not installed; run: pip install 'dino4cells[{EXTRAS[error.name]}]'", file=sys.stderr)
        raise SystemExit(Dino4CellsError.exit_code) from None


if __name__ == "__main__":
    main()
