"""The command line: commands parse, call `dino4cells.steps`, print. Errors that a user can fix are one sentence and exit code 2."""

from __future__ import annotations

import io
import logging
import sys
from typing import Annotated

import typer

import dino4cells
from dino4cells.cli import data, features, job, pipeline
from dino4cells.cli.classify import classify
from dino4cells.cli.config import show_config
from dino4cells.cli.doctor import doctor
from dino4cells.cli.export import export
from dino4cells.cli.extract import extract
from dino4cells.cli.options import ANY_KEY, ANY_KEY_HELP
from dino4cells.cli.profiles import profiles
from dino4cells.cli.published_flags import plain_switches
from dino4cells.cli.run import run
from dino4cells.cli.simulate import simulate
from dino4cells.cli.train import train
from dino4cells.errors import Dino4CellsError

EXTRAS = {
    "kfp": "kubeflow",
    "kubernetes": "kubeflow",
    "matplotlib": "report",
    "bokeh": "report",
    "onnx": "export",
    "onnxscript": "export",
    "harmonypy": "profiles",
    "anndata": "anndata",
}
"""Packages that are installed only on demand, and the extra that brings each."""

app = typer.Typer(
    help="Self-supervised features of single cells (DINO): train a model, extract features of every cell, classify them.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"max_content_width": 100},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"dino4cells {dino4cells.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


EXAMPLES = {
    "train": "dino4cells train --config config.yaml --gpus 0,1,2,3",
    "extract": "dino4cells extract --config config.yaml",
    "profiles": "dino4cells profiles features --controls \"compound == 'DMSO'\" --aggregate well --sphere --output wells",
    "classify": "dino4cells classify --features features --group plate --output classes",
    "export": "dino4cells export model --output net.onnx",
    "run": "dino4cells run --data cells --group plate --epochs 20",
    "config": "dino4cells config --config config.yaml --epochs 20",
    "simulate": "dino4cells simulate cells --cells 168",
    "doctor": "dino4cells doctor --settings job.yaml --namespace biology --output s3://lab/model",
}
"""One way to call each command, shown in its help."""

app.command(epilog=f"Example: {EXAMPLES['simulate']}")(simulate)
app.command("config", context_settings=ANY_KEY, epilog=f"Example: {EXAMPLES['config']}\n\n{ANY_KEY_HELP}")(show_config)
for _verb in (train, extract, profiles, classify, run):
    app.command(context_settings=ANY_KEY, epilog=f"Example: {EXAMPLES[_verb.__name__]}\n\n{ANY_KEY_HELP}")(_verb)
app.command(epilog=f"Example: {EXAMPLES['export']}")(export)
app.command(context_settings=ANY_KEY, epilog=f"Example: {EXAMPLES['doctor']}\n\n{job.SETTINGS_HELP}")(doctor)
app.add_typer(data.app, name="data")
app.add_typer(features.app, name="features")
app.add_typer(pipeline.app, name="pipeline")
app.add_typer(job.app, name="job")


def main() -> None:
    """Entry point of the command `dino4cells`."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # Lines of the steps are seen when they are written, also where the output is a pipe.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        app(plain_switches(sys.argv[1:]), prog_name="dino4cells")
    except Dino4CellsError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        print(f"error: {error.name} is not installed; run: pip install 'dino4cells[{EXTRAS[error.name]}]'", file=sys.stderr)
        raise SystemExit(Dino4CellsError.exit_code) from None
