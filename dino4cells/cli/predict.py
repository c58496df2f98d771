"""`dino4cells predict`."""

from __future__ import annotations

from typing import Annotated

import typer

from dino4cells.cli import results
from dino4cells.cli.completion import one_of
from dino4cells.cli.options import GpusOption, OverwriteOption, ProcessesOption, overrides_of


def predict(
    context: typer.Context,
    classifier: Annotated[str, typer.Argument(metavar="CLASSIFIER", help="What classify left: a directory or URL.")],
    output: Annotated[str, typer.Option("--output", metavar="URL", help="Where the predictions go, a directory.")],
    features: Annotated[str, typer.Option("--features", metavar="URL", help="Features of the cells.")] = "",
    data: Annotated[str, typer.Option("--data", metavar="URL", help="Or their images: a directory or URL that holds a metadata.csv.")] = "",
    model: Annotated[
        str, typer.Option("--model", metavar="URL", help="The model that features of images come from; else the classifier's own.")
    ] = "",
    kind: Annotated[
        str,
        typer.Option(
            "--kind", metavar="KIND", autocompletion=one_of("linear", "knn"), help="linear or knn: which, where classify judged features."
        ),
    ] = "linear",
    channels: Annotated[
        str,
        typer.Option("--channels", metavar="NAMES", help="The data's channel for each of the model's, in its order, or model=data pairs."),
    ] = "",
    gpus: GpusOption = "",
    processes: ProcessesOption = 1,
    overwrite: OverwriteOption = False,
) -> None:
    """Apply a classifier to cells that it has not seen: predictions.parquet has a row for each, with probabilities."""
    overrides = overrides_of(context)

    from dino4cells import steps
    from dino4cells.cluster.gpus import gpus_of
    from dino4cells.cluster.launchers import processes_of

    numbers = gpus_of(gpus)
    if channels:
        overrides["embedding.channels"] = channels
    card = steps.predict(
        classifier,
        output=output,
        features=features or None,
        data=data or None,
        model=model or None,
        kind=kind,
        overrides=overrides,
        overwrite=overwrite,
        processes=processes_of("local", processes, numbers),
        device="cuda" if numbers else "auto",
    )
    most = sorted(card.counts.items(), key=lambda item: -item[1])[:8]
    named = ", ".join(f"{count:,} {name or 'none'}" for name, count in most)
    failed = f", {card.failed_rows:,} of them without a prediction (see the column error)" if card.failed_rows else ""
    text = f"predicted {card.rows:,} cells{failed}: {named}\npredictions: {output}/predictions.parquet"
    results.show(text, {"predictions": output, **card.model_dump()})
