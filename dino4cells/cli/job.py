"""`dino4cells job`: training or extraction as a PyTorchJob, by hand."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dino4cells.cli import results
from dino4cells.cli.completion import Command
from dino4cells.cli.options import ANY_KEY, ConfigOption, DataOption, PresetOption
from dino4cells.errors import ConfigError, JobFailed

if TYPE_CHECKING:
    from dino4cells.cluster.client import Cluster
    from dino4cells.cluster.job import JobSpec
    from dino4cells.cluster.status import JobStatus

app = typer.Typer(help="Training and extraction as a PyTorchJob on a Kubernetes cluster.", no_args_is_help=True)

SETTINGS_HELP = "Every key of the settings is an option as well: --nodes 2, --resources.gpus 1, --placement.queue biology."
FAILED = 1
"""Exit code when a job failed, and not the command."""
PATIENCE_SECONDS = 20.0
"""A person waits less long for the cluster's API than a launcher does."""

PLACE = "--image registry/dino4cells:0.1.0 --nodes 2 --data s3://lab/cells --output s3://lab/model"

StepOption = Annotated[Literal["train", "extract"], typer.Option("--step", help="What the job does.")]
OverrideOption = Annotated[list[str] | None, typer.Option("--override", metavar="KEY=VALUE", help="A key of the configuration.")]
ModelOption = Annotated[str, typer.Option("--model", metavar="URL", help="The model, for extract.")]
OutputOption = Annotated[str, typer.Option("--output", metavar="URL", help="Where the artifact goes.")]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--settings", metavar="YAML", help="Image, nodes, resources, secrets, placement: a path or URL; later ones win."),
]
JobNameOption = Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the job; else one that its content gives.")]
NamespaceOption = Annotated[
    str, typer.Option("--namespace", "-n", metavar="NAME", help="Namespace; else that of the kubeconfig's context.")
]
ContextOption = Annotated[str, typer.Option("--context", metavar="NAME", help="Context of the kubeconfig; else its current one.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the job, as submit prints it.")]


@app.command(
    cls=Command,
    short_help="Write the manifest that kubectl takes.",
    context_settings=ANY_KEY,
    epilog=f"Example: dino4cells job render {PLACE}\n\n{SETTINGS_HELP}",
)
def render(
    context: typer.Context,
    step: StepOption = "train",
    config: ConfigOption = "",
    preset: PresetOption = "",
    override: OverrideOption = None,
    data: DataOption = "",
    model: ModelOption = "",
    output: OutputOption = "",
    settings: SettingsOption = None,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", metavar="NAME", help="Namespace of the job; else that in which it is applied.")
    ] = "",
    name: JobNameOption = "",
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="File to write; else the screen.")] = None,
) -> None:
    """Write the manifest that `kubectl apply -f` takes; nothing is sent."""
    import yaml

    from dino4cells.cluster.pytorchjob import render as manifest_of

    job = _job(context, step, config, preset, override, data, model, output, settings, name)
    manifest = manifest_of(job, namespace or None, name=name or None)
    text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=120)
    if to is not None:
        to.write_text(text, encoding="utf-8")
    results.show(text.rstrip("\n") if to is None else f"wrote {to}", manifest)


@app.command(
    cls=Command,
    short_help="Send the job to the cluster.",
    context_settings=ANY_KEY,
    epilog=f"Example: dino4cells job submit {PLACE}\n\n{SETTINGS_HELP}",
)
def submit(
    context: typer.Context,
    step: StepOption = "train",
    config: ConfigOption = "",
    preset: PresetOption = "",
    override: OverrideOption = None,
    data: DataOption = "",
    model: ModelOption = "",
    output: OutputOption = "",
    settings: SettingsOption = None,
    namespace: NamespaceOption = "",
    kubeconfig_context: ContextOption = "",
    name: JobNameOption = "",
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job to its end; Ctrl-C deletes it.")] = False,
) -> None:
    """Send the job to the cluster. An equal job that is there is taken over; another of the same name is refused.

    Exit code: 0 accepted (with --wait: succeeded), 1 the job failed, 2 it could not be sent or followed.
    """
    import functools

    from dino4cells.cluster.api import connect
    from dino4cells.cluster.context import namespace_of
    from dino4cells.cluster.launcher import LauncherSettings, PyTorchJobLauncher
    from dino4cells.cluster.states import Limits

    job = _job(context, step, config, preset, override, data, model, output, settings, name)
    place = namespace_of(namespace, kubeconfig_context)
    limits = Limits() if wait else Limits(unreachable=PATIENCE_SECONDS)
    launcher = PyTorchJobLauncher(LauncherSettings(place, name=name, limits=limits), connect=functools.partial(connect, kubeconfig_context))
    if wait:
        try:
            launcher.run(job)
        except JobFailed as error:
            error.exit_code = FAILED
            raise
        results.show(lambda: None, {"state": "Succeeded", "namespace": place})
        return
    given = launcher.submit(job).name
    where = f"{given} -n {place}" + (f" --context {kubeconfig_context}" if kubeconfig_context else "")
    lines = [
        f"  how it stands   dino4cells job status {where}",
        f"  what it says    dino4cells job logs {where} --follow",
        f"  to end it       dino4cells job delete {where}",
    ]
    results.show("\n".join(lines), {"job": given, "namespace": place})


@app.command(cls=Command, short_help="Show how a job stands.", epilog="Example: dino4cells job status train-0a1b2c3d4e --namespace biology")
def status(
    name: NameArgument,
    namespace: NamespaceOption = "",
    kubeconfig_context: ContextOption = "",
) -> None:
    """Show how a job stands: its state and since when, its pods with reasons, the last line of progress."""
    import contextlib

    from dino4cells.cluster.status import status_of

    cluster = _cluster(namespace, kubeconfig_context)
    with contextlib.closing(cluster.api):
        found = status_of(cluster, name, datetime.datetime.now(datetime.timezone.utc))
    results.show(lambda: _print_status(found), found)


@app.command(
    cls=Command, short_help="Show the log of a job.", epilog="Example: dino4cells job logs train-0a1b2c3d4e --namespace biology --follow"
)
def logs(
    name: NameArgument,
    namespace: NamespaceOption = "",
    kubeconfig_context: ContextOption = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job has ended.")] = False,
    pod: Annotated[str, typer.Option("--pod", metavar="PLACE", help="master-0, worker-1, …; else the one of rank 0.")] = "",
) -> None:
    """Show the log of a job; Ctrl-C ends the showing and not the job. Its events are text in a terminal, and elsewhere as it wrote them."""
    import contextlib

    from dino4cells.cluster.status import show_log
    from dino4cells.cluster.stopping import Stopped
    from dino4cells.events import readable

    lines: list[str] = []

    def show(line: str) -> None:
        lines.append(line)
        results.show_line(readable(line, sys.stdout))

    cluster = _cluster(namespace, kubeconfig_context)
    with contextlib.closing(cluster.api), contextlib.suppress(Stopped):
        show_log(cluster, name, show, _aside, place=pod, follow=follow)
    results.show(lambda: None, {"job": name, "lines": lines})


@app.command(
    cls=Command, short_help="Delete a job with its pods.", epilog="Example: dino4cells job delete train-0a1b2c3d4e --namespace biology"
)
def delete(name: NameArgument, namespace: NamespaceOption = "", kubeconfig_context: ContextOption = "") -> None:
    """Delete a job with its pods; its checkpoints and artifacts stay."""
    import contextlib

    from dino4cells.cluster.status import delete_job

    cluster = _cluster(namespace, kubeconfig_context)
    with contextlib.closing(cluster.api):
        delete_job(cluster, name)
    space = cluster.api.namespace
    results.show(f"{name}: deleted from namespace {space}; its pods end within half a minute", {"deleted": name, "namespace": space})


def settings_of(context: typer.Context) -> dict[str, str]:
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


def _job(
    context: typer.Context,
    step: Literal["train", "extract"],
    config: str,
    preset: str,
    override: list[str] | None,
    data: str,
    model: str,
    output: str,
    settings: list[str] | None,
    name: str,
) -> JobSpec:
    """The job that the options of render and submit say."""
    from dino4cells.cluster.names import is_job_name
    from dino4cells.cluster.settings import read_settings
    from dino4cells.cluster.work import job_of

    if name and not is_job_name(name):
        raise ConfigError(f"--name: '{name}' is no name of a job; use up to 50 lower-case letters, digits and -, a letter first.")
    read = read_settings(settings or [], settings_of(context))
    return job_of(step, read, config, preset, override or [], data=data, model=model, output=output)


def _cluster(namespace: str, context: str) -> Cluster:
    """The namespace that a command asks about."""
    import functools

    from dino4cells.cluster.api import Api, connect
    from dino4cells.cluster.client import Cluster
    from dino4cells.cluster.context import namespace_of

    return Cluster(Api(namespace_of(namespace, context), functools.partial(connect, context), PATIENCE_SECONDS, say=_aside))


def _aside(line: str) -> None:
    """Print what is not the answer itself."""
    print(line, file=sys.stderr, flush=True)


def _print_status(found: JobStatus) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    lasted = found.lasted(datetime.datetime.now(datetime.timezone.utc))
    facts = {
        "job": f"{found.name} in namespace {found.namespace}",
        "state": found.state + (f" ({found.detail})" if found.detail else ""),
        "since": f"{found.since} ({lasted})" if lasted else "",
        "reason": found.reason,
        "progress": found.progress,
    }
    grid = Table.grid(padding=(0, 2))
    for fact, value in facts.items():
        if value:
            grid.add_row(Text(fact, "bold"), Text(value))
    console.print(grid)
    if found.pods:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("pod", "state", "restarts", "node"):
            table.add_column(column, overflow="fold")
        for pod in found.pods:
            table.add_row(*map(Text, (pod.place, pod.state, str(pod.restarts), pod.node)))
        console.print()
        console.print(table)
        for pod in found.pods:
            if pod.reason:
                console.print(Text(f"{pod.place}: {pod.reason}"))
