"""`dino4cells features`: what to do with features that are there."""

from __future__ import annotations

from typing import Annotated

import typer

from dino4cells.cli import results
from dino4cells.cli.options import ConfigOption, OverwriteOption, any_key, overrides_of

app = typer.Typer(help="Features that are there: write them for other tools.", no_args_is_help=True)


@app.callback()
def _features() -> None:
    """Features that are there: write them for other tools."""


@app.command(
    short_help="Write features as one file for other tools.",
    **any_key("features export", "dino4cells features export features --output features.h5ad"),
)
def export(
    context: typer.Context,
    features: Annotated[str, typer.Argument(metavar="FEATURES", help="The features, a path or URL.")],
    output: Annotated[str, typer.Option("--output", metavar="URL", help="A file that ends in .parquet, .h5ad (AnnData) or .pth.")],
    config: ConfigOption = "",
    overwrite: OverwriteOption = False,
) -> None:
    """Write features as one file: Parquet for pandas, polars and R, AnnData for scanpy, or the published layout."""
    overrides = overrides_of(context)

    from dino4cells import steps

    settings = steps.configuration(config, "", overrides) if config or overrides else None
    card = steps.export_features(features, output, config=settings, overwrite=overwrite)
    text = f"wrote {card.rows:,} cells × {card.embedding_dim} features to {output}"
    results.show(text, {"features": output, **card.model_dump()})
