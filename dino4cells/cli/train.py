"""`dino4cells train`."""

from __future__ import annotations

from typing import Annotated

import typer

from dino4cells.cli import results
from dino4cells.cli.options import ConfigOption, DataOption, GpusOption, OverwriteOption, PresetOption, ProcessesOption, overrides_of


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
    overrides = overrides_of(context)  # a word that is no option is refused before torch is imported, which takes seconds

    from dino4cells import steps
    from dino4cells.cluster.gpus import gpus_of
    from dino4cells.cluster.launchers import processes_of

    numbers = gpus_of(gpus)
    settings = steps.configuration(config, preset, overrides)
    card = steps.train(
        settings,
        data=data or None,
        output=output or None,
        overwrite=overwrite,
        processes=processes_of("local", processes, numbers),
        device="cuda" if numbers else "auto",
    )
    summary, place = card.training, output or settings.model.output_dir
    results.show(
        f"trained {card.arch} on {summary.images:,} images of {len(card.channels)} channels ({', '.join(card.channels)}): "
        f"loss {summary.loss_start:.3f} → {summary.loss_end:.3f}, {summary.images_per_second:,.0f} images/s\n"
        f"model: {place}",
        {"model": place, **card.model_dump()},
    )
