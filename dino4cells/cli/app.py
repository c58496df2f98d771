"""The command line: commands parse, call `dino4cells.steps`, print. Errors that a user can fix are one sentence and exit code 2."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

import dino4cells
from dino4cells.cli import data, features, job, pipeline, results
from dino4cells.cli.classify import classify
from dino4cells.cli.completion import Command, one_of
from dino4cells.cli.config import show_config
from dino4cells.cli.doctor import doctor
from dino4cells.cli.export import export
from dino4cells.cli.extract import extract
from dino4cells.cli.help import SUMMARIES, Commands
from dino4cells.cli.options import ANY_KEY, any_key
from dino4cells.cli.predict import predict
from dino4cells.cli.profiles import profiles
from dino4cells.cli.published_flags import plain_switches
from dino4cells.cli.run import run
from dino4cells.cli.simulate import simulate
from dino4cells.cli.train import train
from dino4cells.cluster.stopping import Stopped, stop_signals
from dino4cells.errors import Dino4CellsError, Interrupted
from dino4cells.events import logged
from dino4cells.redaction import hide_in_tracebacks, redacted
from dino4cells.storage_retry import counted_repeats

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

UsageError: Any = typer.BadParameter.__bases__[0]
"""What click raises for a command line that it does not understand; typer brings a click of its own since 0.27."""

app = typer.Typer(
    cls=Commands,
    help="Self-supervised features of single cells (DINO): train a model, extract features of every cell, classify them.",
    epilog="--quiet, --json and --log may stand before or after a command.",
    no_args_is_help=True,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
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
    quiet: Annotated[bool, typer.Option("--quiet", help=results.QUIET_HELP)] = False,
    as_json: Annotated[bool, typer.Option("--json", help=results.JSON_HELP)] = False,
    log: Annotated[str, typer.Option("--log", metavar="STYLE", autocompletion=one_of("text", "json"), help=results.LOG_HELP)] = "",
) -> None:
    """Told by --help alone: `main` takes the last three out of the words, because they may stand behind the command as well."""


EXAMPLES = {
    "train": "dino4cells train --config config.yaml --gpus 0,1,2,3",
    "extract": "dino4cells extract --model model --data cells --output features",
    "profiles": "dino4cells profiles features --controls \"compound == 'DMSO'\" --aggregate well --sphere --output wells",
    "classify": "dino4cells classify --features features --group plate --output classes",
    "predict": "dino4cells predict classes --features new-features --output predictions",
    "export": "dino4cells export model --output net.onnx",
    "run": "dino4cells run --data cells --group plate --epochs 20",
    "config": "dino4cells config --config config.yaml --epochs 20",
    "simulate": "dino4cells simulate cells --cells 168",
    "doctor": "dino4cells doctor --settings job.yaml --namespace biology --output s3://lab/model",
}
"""One way to call each command, shown in its help."""


def _add(function: Callable[..., None], name: str, **options: Any) -> None:
    """Add a command of one word, with its line in the list of commands and its example."""
    options = {"cls": Command, "epilog": f"Example: {EXAMPLES[name]}", **options}
    app.command(name, short_help=SUMMARIES[name], **options)(function)


_add(simulate, "simulate")
_add(export, "export")
_add(doctor, "doctor", context_settings=ANY_KEY, epilog=f"Example: {EXAMPLES['doctor']}\n\n{job.SETTINGS_HELP}")
for _verb in (train, extract, profiles, classify, predict, run):
    _add(_verb, _verb.__name__, **any_key(_verb.__name__, EXAMPLES[_verb.__name__]))
_add(show_config, "config", **any_key("config", EXAMPLES["config"]))
for _group, _name in ((data.app, "data"), (features.app, "features"), (pipeline.app, "pipeline"), (job.app, "job")):
    app.add_typer(_group, name=_name, short_help=SUMMARIES[_name])


AFTER_INTERRUPTION = {
    "train": "the same command goes on from the last checkpoint, where one was written, and else starts anew.",
    "classify": "the same command goes on from the last checkpoint of a head, or with the folds that are left where they take long.",
    "extract": "the parts that are finished stay; the same command goes on from there.",
    "predict": "features of images that are finished stay beside the output; the same command goes on from there.",
    "data pack": "the shards that are finished stay; the same command goes on from there.",
    "run": "what its finished steps have written stays; the same command starts another run.",
    "job logs": "the job goes on.",
    "pipeline submit": "a run that has started goes on; see Kubeflow's pages.",
}
"""What there is to know after Ctrl-C or SIGTERM, by command; every other one starts anew."""


def main() -> None:
    """Entry point of the command `dino4cells`."""
    hide_in_tracebacks()
    # Lines of the steps are seen when they are written, also where the output is a pipe.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        options, words = results.global_options(sys.argv[1:])
    except Dino4CellsError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    with logged(options.style), counted_repeats(), results.answering(options):
        raise SystemExit(_code_of(words, options.quiet))


def _code_of(words: Sequence[str], quiet: bool) -> int:
    """Run a command; returns its exit code."""
    try:
        with results.withholding(quiet), stop_signals():
            return int(app(plain_switches(words), prog_name="dino4cells", standalone_mode=False) or 0)
    except Dino4CellsError as error:
        return _failed(f"{error}", error.exit_code)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        sentence = f"{error.name} is not installed; run: pip install 'dino4cells[{EXTRAS[error.name]}]'"
        return _failed(sentence, Dino4CellsError.exit_code)
    except Interrupted as stop:
        return _failed(str(stop), stop.exit_code, "interrupted")
    except Stopped as stop:
        command = next((name for name in AFTER_INTERRUPTION if " ".join(words).startswith(name)), "")
        return _failed(AFTER_INTERRUPTION.get(command, "the same command starts anew."), 128 + stop.signal, "interrupted")
    except UsageError as error:
        error.message = redacted(error.message)
        if not results.fail(error.format_message()):
            error.show()
        return int(error.exit_code)


def _failed(sentence: str, code: int, kind: str = "error") -> int:
    """Say why a command did not do what it was asked for."""
    if not results.fail(sentence if kind == "error" else f"{kind}: {sentence}"):
        print(f"{kind}: {sentence}", file=sys.stderr, flush=True)
    return code
