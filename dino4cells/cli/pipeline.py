"""`dino4cells pipeline`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dino4cells.cli import results
from dino4cells.cli.completion import Command
from dino4cells.cli.options import ANY_KEY
from dino4cells.errors import JobFailed, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)
app = typer.Typer(help="The Kubeflow pipeline train → extract → classify.", no_args_is_help=True)

FAILED = 1
"""Exit code when a run failed, and not the command."""
EXAMPLE = "dino4cells pipeline submit --endpoint http://localhost:8080 --data s3://lab/cells group=plate epochs=20 --wait"


@app.command(
    "compile", cls=Command, short_help="Write the pipeline as YAML.", epilog="Example: dino4cells pipeline compile dino4cells.yaml"
)
def compile_pipeline(output: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")] = Path("dino4cells.yaml")) -> None:
    """Write the pipeline as the YAML that the Kubeflow UI takes (Pipelines → Upload pipeline)."""
    from dino4cells.pipelines.pipeline import compile_pipeline as write

    written = write(output)
    results.show(f"wrote {written}", {"wrote": str(written)})


@app.command(
    cls=Command,
    short_help="Start a run on Kubeflow Pipelines.",
    context_settings=ANY_KEY,
    epilog=f"Example: {EXAMPLE}\n\nEvery parameter of the pipeline is an option as well, or KEY=VALUE: --data URL, group=plate.",
)
def submit(
    context: typer.Context,
    endpoint: Annotated[str, typer.Option("--endpoint", metavar="URL", help="Kubeflow Pipelines; else KF_PIPELINES_ENDPOINT.")] = "",
    token_file: Annotated[str, typer.Option("--token-file", metavar="FILE", help="Holds a token; else KF_PIPELINES_TOKEN.")] = "",
    ca_file: Annotated[str, typer.Option("--ca-file", metavar="FILE", help="Certificates of the endpoint's authority.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", metavar="NAME", help="Your profile's, where several users share it.")] = "",
    experiment: Annotated[str, typer.Option("--experiment", metavar="NAME", help="Runs that belong together.")] = "dino4cells",
    run_name: Annotated[str, typer.Option("--run-name", metavar="NAME", help="Name of the run; else the time.")] = "",
    caching: Annotated[
        bool | None, typer.Option("--caching/--no-caching", help="Skip steps whose inputs are unchanged; else as compiled.")
    ] = None,
    service_account: Annotated[str, typer.Option("--service-account", metavar="NAME", help="Of the steps.")] = "",
    pipeline_root: Annotated[str, typer.Option("--pipeline-root", metavar="URL", help="Where artifacts go.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run to its end; Ctrl-C ends the following only.")] = False,
) -> None:
    """Start a run of the pipeline on Kubeflow Pipelines and print its address.

    Exit code: 0 started (with --wait: succeeded), 1 the run failed, 2 it could not be started or followed.
    """
    from dino4cells.pipelines import remote
    from dino4cells.pipelines.arguments import pairs_of, parameters_of

    parameters = parameters_of(pairs_of(context.args))
    pipelines = remote.Pipelines.found(endpoint, token_file, namespace, ca_file)
    run = remote.submit(
        pipelines,
        _with_version(parameters),
        experiment=experiment,
        name=run_name,
        caching=caching,
        account=service_account,
        root=pipeline_root,
    )
    answer = {"run": run.identifier, "url": run.url}
    results.show_line(f"run {run.identifier}\n{run.url}")
    if wait:
        try:
            remote.follow(pipelines, run)
        except JobFailed as error:
            error.exit_code = FAILED
            raise
    results.show(lambda: None, answer)


def _with_version(parameters: Mapping[str, object]) -> dict[str, object]:
    """The parameters with the version of the data, which tells the cache that other data is under the same URL."""
    from dino4cells.pipelines.arguments import data_version

    if parameters.get("data_version"):
        return dict(parameters)
    try:
        version = data_version(parameters)
    except StorageError as error:
        logger.warning("the data cannot be read from here, so that the cache does not know when it changes (%s)", error)
        version = ""
    return {**parameters, **({"data_version": version} if version else {})}
