"""`dino4cells extract`."""

from __future__ import annotations

from typing import Annotated

import typer

from dino4cells.cli import results
from dino4cells.cli.completion import one_of
from dino4cells.cli.options import ConfigOption, DataOption, GpusOption, OverwriteOption, ProcessesOption, overrides_of
from dino4cells.errors import ConfigError


def extract(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option("--model", metavar="URL", help="Model or checkpoint (.pth); else embedding.pretrained_weights or model.output_dir."),
    ] = "",
    config: ConfigOption = "",
    data: DataOption = "",
    output: Annotated[
        str,
        typer.Option(
            "--output", metavar="URL", help="Where they go: a directory, or one .parquet, .h5ad or .pth file; else embedding.output_path."
        ),
    ] = "",
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            autocompletion=one_of("parquet", "h5ad", "pth"),
            help="parquet, h5ad or pth; else what the output's ending says, or a directory.",
        ),
    ] = "",
    channels: Annotated[
        str,
        typer.Option("--channels", metavar="NAMES", help="The data's channel for each of the model's, in its order, or model=data pairs."),
    ] = "",
    baselines: Annotated[
        bool | None,
        typer.Option("--baselines/--no-baselines", help="Also features to compare with; else yes, unless the output is one file."),
    ] = None,
    gpus: GpusOption = "",
    processes: ProcessesOption = 1,
    overwrite: OverwriteOption = False,
) -> None:
    """Write the features of every cell, a row each, in the order of the metadata."""
    overrides = overrides_of(context)

    from dino4cells import steps
    from dino4cells.cluster.gpus import gpus_of
    from dino4cells.cluster.launchers import processes_of
    from dino4cells.features.exports import format_of, named

    if channels:
        overrides["embedding.channels"] = channels
    model = model or str(overrides.get("embedding.pretrained_weights", ""))
    resolved = steps.configuration(config, "", overrides) if config else None
    if resolved is not None:
        model = model or resolved.embedding.pretrained_weights or resolved.model.output_dir or ""
    if not model:
        raise ConfigError("--model: is not given; say which model, there or by embedding.pretrained_weights in the configuration.")
    numbers = gpus_of(gpus)
    settings = resolved or steps.configuration_of(model, overrides)
    wanted = output or settings.embedding.output_path
    place = named(wanted, form or None) if wanted else ""
    card = steps.extract(
        model,
        config=settings,
        data=data or None,
        output=place or None,
        overwrite=overwrite,
        baselines=baselines,
        processes=processes_of("local", processes, numbers),
        device="cuda" if numbers else "auto",
    )
    why = {"pth": "the warning", "h5ad": "obs.dino_error"}.get(format_of(place) or "", "Metadata_dino_error")
    failed = f", {card.failed_rows:,} of them without features (see {why})" if card.failed_rows else ""
    text = f"wrote {card.rows:,} cells × {card.embedding_dim} features{failed}, {card.images_per_second:,.0f} images/s\nfeatures: {place}"
    results.show(text, {"features": place, **card.model_dump()})
