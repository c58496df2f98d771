"""`dino4cells data`: what is in a table of cells and its images, before anything is trained on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dino4cells.cli import results
from dino4cells.cli.options import ConfigOption, DataOption, OverwriteOption, PresetOption, any_key, overrides_of
from dino4cells.printable import as_markup, printable
from dino4cells.progress import Progress

if TYPE_CHECKING:
    from dino4cells.data.findings import Findings, LabelColumn, Span

WRONG = 2
"""Exit code when something is wrong with the data."""
CLASSES_SHOWN = 20
SKIPPED_SHOWN = 5

app = typer.Typer(
    help="Look at a table of cells and its images: what they are, and what is wrong with them; or pack them.", no_args_is_help=True
)

ProcessesOption = Annotated[int, typer.Option("--processes", metavar="N", min=0, help="Processes that decode images; 0: as many as cores.")]


@app.command(short_help="Say what is there, and what is wrong.", **any_key("validate", "dino4cells data validate --data cells"))
def validate(
    context: typer.Context,
    config: ConfigOption = "",
    preset: PresetOption = "",
    data: DataOption = "",
    processes: ProcessesOption = 0,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Open every image, or only see which files are there.")] = True,
) -> None:
    """Read a table and all its images, and report what is there and what is wrong: exit code 0 when nothing is, else 2."""
    from dino4cells import steps
    from dino4cells.data.metadata import read_table
    from dino4cells.data.validate import validate as look
    from dino4cells.data.validate_table import validate_table

    settings = steps.configuration(config, preset, overrides_of(context))
    metadata = read_table(settings, data or None)
    if images:
        with Progress("validate", len(metadata)) as progress:
            findings = look(metadata, settings, processes=processes or None, progress=progress.advance)
    else:
        findings = validate_table(metadata, settings)
    results.show(lambda: _show(findings), findings)
    if not findings.are_fine:
        raise typer.Exit(WRONG)


@app.command(short_help="Measure each channel's brightness.", **any_key("stats", "dino4cells data stats --data cells --sample 1000"))
def stats(
    context: typer.Context,
    config: ConfigOption = "",
    preset: PresetOption = "",
    data: DataOption = "",
    sample: Annotated[int, typer.Option("--sample", metavar="N", min=0, help="Images to measure, evenly drawn; 0: all.")] = 0,
    processes: ProcessesOption = 0,
) -> None:
    """Print mean and standard deviation of every channel, and the line that normalizes by them."""
    from dino4cells import steps
    from dino4cells.data.metadata import read_table
    from dino4cells.data.source import image_source
    from dino4cells.data.statistics import DIGITS, evenly_drawn, measure

    settings = steps.configuration(config, preset, overrides_of(context))
    source = image_source(read_table(settings, data or None), settings.model)
    images = len(evenly_drawn(len(source), sample or None))
    with Progress("stats", images) as progress:
        moments = measure(source, sample or None, processes=processes or None, progress=progress.advance)
    by_channel = [[round(value, DIGITS) for value in values] for values in moments.mean_and_deviation()]
    mean, deviation = ([round(value, DIGITS) for value in values] for values in moments.given_to_network(source.mode).mean_and_deviation())
    line = f"Normalize: [True, {{mean: {mean}, std: {deviation}}}]"
    channels = [{"channel": name, "mean": one, "std": other} for name, one, other in zip(source.kept_channels, *by_channel, strict=True)]

    def show() -> None:
        console = _console()
        title = f"{images - len(moments.failures):,} images, in [0, 1]"
        table = Table("channel", "mean", "standard deviation", title=title, title_justify="left")
        for name, one, other in zip(source.kept_channels, *by_channel, strict=True):
            table.add_row(as_markup(name), f"{one:.5f}", f"{other:.5f}")
        console.print(table)
        if moments.failures:
            console.print(f"{len(moments.failures):,} images could not be read and do not count:")
            for reason in moments.failures[:SKIPPED_SHOWN]:
                console.print(f"  {printable(reason)}", markup=False, soft_wrap=True)
        print(line)

    unreadable, normalize = list(moments.failures), {"mean": mean, "std": deviation}
    results.show(show, {"images": images, "unreadable": unreadable, "channels": channels, "Normalize": normalize})


@app.command(
    short_help="Put millions of images into a few files.", **any_key("pack", "dino4cells data pack --data cells --to s3://bucket/packed")
)
def pack(
    context: typer.Context,
    to: Annotated[str, typer.Option("--to", metavar="URL", help="Directory or URL of the packed images.")],
    config: ConfigOption = "",
    preset: PresetOption = "",
    data: DataOption = "",
    shard_mb: Annotated[int, typer.Option("--shard-mb", metavar="N", min=1, help="Size of a shard, in MiB.")] = 256,
    with_rows: Annotated[bool, typer.Option("--with-rows", help="Put the table's rows into the shards too, as JSON.")] = False,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Keep rows whose files cannot be read, with the reason, and pack the others.")
    ] = False,
    overwrite: OverwriteOption = False,
    processes: Annotated[int, typer.Option("--processes", metavar="N", min=0, help="Processes that copy; 0: as many as cores.")] = 0,
) -> None:
    """Copy images into a few large files, for tables of millions of cells; the result is given as --data. Goes on after an interruption."""
    from dino4cells import steps
    from dino4cells.data.metadata import read_table
    from dino4cells.data.packing import pack as copy

    settings = steps.configuration(config, preset, overrides_of(context))
    metadata = read_table(settings, data or None)
    with Progress("pack", len(metadata)) as progress:
        card = copy(
            metadata,
            metadata.channels or settings.model.channels,
            to,
            shard_mb=shard_mb,
            with_rows=with_rows,
            skip_unreadable=skip_unreadable,
            overwrite=overwrite,
            processes=processes or None,
            progress=progress.advance,
        )
    skipped = f"; {card.failed_rows:,} could not be read and keep the reason" if card.failed_rows else ""
    text = f"{to}: {card.rows:,} cells, {card.images_bytes / 1e6:,.1f} MB of images in {card.shards:,} shards{skipped}"
    results.show(text, {"packed": to, **card.model_dump()})


def _console() -> Console:
    return Console(width=None if Console().is_terminal else 110, highlight=False)


def _show(findings: Findings) -> None:
    console = _console()
    facts = Table.grid(padding=(0, 2))
    for name, fact in _facts(findings):
        facts.add_row(name, as_markup(fact))
    console.print(facts)
    if findings.labels or findings.binary_labels:
        labels = Table("label", "classes", "cells of each class, largest first", title="Labels", title_justify="left")
        for column in findings.labels:
            labels.add_row(as_markup(column.name), f"{len(column.classes)}", _side_by_side(_classes(column)))
        if findings.binary_labels:
            ones = [f"{name} {count:,}" for name, count in findings.binary_labels.items()]
            labels.add_row("columns of 0 and 1", f"{len(ones)}", _side_by_side(ones))
        console.print(labels)
    if findings.are_fine:
        console.print("Nothing is wrong.")
        return
    for problem in findings.problems:
        console.print(printable(f"{problem.kind}: {problem.count:,} cells, {problem.meaning}"), style="bold red", markup=False)
        for example in problem.examples:
            console.print(f"  {printable(example)}", markup=False, soft_wrap=True)
        if problem.count > len(problem.examples) and problem.kind not in ("configuration", "channel names"):
            console.print(f"  and {problem.count - len(problem.examples):,} more")


def _facts(findings: Findings) -> list[tuple[str, str]]:
    channels = ", ".join(f"{number} in {count:,} images" for number, count in findings.channels.items())
    if len(findings.channels) == 1:
        channels = str(next(iter(findings.channels)))
    names = ", ".join(findings.channel_names) if findings.channel_names else "without names (write them into channels.txt, one a line)"
    if not findings.images_seen:
        seen = f"at the table and the names of files in {findings.seconds:,.1f} s, and at no image"
        return [("table", findings.data), ("cells", f"{findings.rows:,}"), ("channels", names), ("looked", seen)]
    facts = [
        ("table", findings.data),
        ("cells", f"{findings.rows:,}, {findings.readable:,} with an image that can be read"),
        ("channels", f"{channels or 'not known'}: {names}"),
        ("height", _span(findings.heights)),
        ("width", _span(findings.widths) + (f"; {findings.distinct_sizes:,} different sizes" if findings.distinct_sizes > 1 else "")),
        ("files", ", ".join(f"{kind} ({count:,})" for kind, count in findings.kinds.items()) or "none that can be read"),
    ]
    if findings.constant_channels:
        facts.append(("no contrast", ", ".join(f"{name} in {count:,} images" for name, count in findings.constant_channels.items())))
    facts.append(("looked at", f"in {findings.seconds:,.1f} s, {findings.images_per_second:,.0f} images/s"))
    return facts


def _span(span: Span | None) -> str:
    if span is None:
        return "not known"
    return f"{span.least} px" if span.least == span.most else f"{span.least} to {span.most} px, half of them up to {span.median:g}"


def _classes(column: LabelColumn) -> list[str]:
    shown = [f"{name} {count:,}" for name, count in list(column.classes.items())[:CLASSES_SHOWN]]
    more = [f"{len(column.classes) - CLASSES_SHOWN:,} more"] if len(column.classes) > CLASSES_SHOWN else []
    empty = [f"empty {column.empty:,}"] if column.empty else []
    return shown + more + empty


def _side_by_side(names: list[str]) -> Columns:
    """As many as there is room for in a line, a name never apart from its number unless it is longer than a line."""
    return Columns([Text(printable(name), overflow="fold") for name in names], padding=(0, 3))
