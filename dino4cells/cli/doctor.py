"""`dino4cells doctor`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from dino4cells.cli import results
from dino4cells.cli.job import ContextOption, NamespaceOption, OutputOption, SettingsOption, settings_of

if TYPE_CHECKING:
    from dino4cells.cluster.doctor import Row, Visit
    from dino4cells.cluster.settings import JobSettings

PATIENCE_SECONDS = 5.0
"""So long one question is repeated that the cluster does not answer."""


def doctor(
    context: typer.Context,
    settings: SettingsOption = None,
    output: OutputOption = "",
    namespace: NamespaceOption = "",
    kubeconfig_context: ContextOption = "",
) -> None:
    """Say in one table what a job of these settings would miss on the cluster; nothing is submitted.

    Exit code: 0 nothing is missing, 1 something is doubtful, 2 something is missing. What this account may not look at does not count.
    """
    from dino4cells.cluster.doctor import examine, exit_code
    from dino4cells.cluster.settings import read_settings

    visit = _visit(read_settings(settings or [], settings_of(context)), output, namespace, kubeconfig_context)
    rows = list(examine(visit))
    listed = [{**dataclasses.asdict(row), "state": row.state.value} for row in rows]
    results.show(lambda: _print_table(rows), {"exit_code": exit_code(rows), "rows": listed})
    raise typer.Exit(exit_code(rows))


def _visit(settings: JobSettings, output: str, namespace: str, context: str) -> Visit:
    import functools

    from dino4cells.cluster.api import Api, connect
    from dino4cells.cluster.context import namespace_of
    from dino4cells.cluster.doctor import Visit
    from dino4cells.errors import ConfigError

    try:
        client = connect(context)
    except ConfigError as error:
        return Visit(settings, output, absent=str(error).partition("; ")[0].removeprefix("cluster: "))
    first = [client]
    again = functools.partial(connect, context)
    return Visit(
        settings, output, Api(namespace_of(namespace, context), lambda: first.pop() if first else again(), patience=PATIENCE_SECONDS)
    )


def _print_table(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dino4cells.cluster.doctor import State

    colours = {State.OK: "green", State.WARNING: "yellow", State.MISSING: "bold red", State.NOT_CHECKED: "dim"}
    console = Console(width=None if Console().is_terminal else 140, highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("what", "state", "found"):
        table.add_column(column, overflow="fold", no_wrap=column != "found")
    for row in rows:
        table.add_row(Text(row.what), Text(row.state.value, colours[row.state]), Text(row.finding))
    console.print(table)
    if any(row.remedy for row in rows):
        console.print("\nwhat to do", style="bold")
    for row in rows:
        if row.remedy:  # unbroken, since a command is copied
            console.print(Text(f"{row.what}: {row.remedy}"), soft_wrap=True)
    counts = ", ".join(f"{sum(row.state is state for row in rows)} {state.value}" for state in State)
    console.print(f"\n{counts}")
