"""`dino4cells profiles`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from dino4cells.cli import results
from dino4cells.cli.completion import one_of
from dino4cells.cli.options import ConfigOption, OverwriteOption, overrides_of
from dino4cells.errors import ConfigError

if TYPE_CHECKING:
    from dino4cells.features.profiling import Normalization


def profiles(
    context: typer.Context,
    features: Annotated[str, typer.Argument(metavar="FEATURES", help="The features, a path or URL.")],
    output: Annotated[str, typer.Option("--output", metavar="URL", help="Where the profiles go, a directory.")],
    normalize: Annotated[
        str,
        typer.Option(
            "--normalize",
            metavar="KIND",
            autocompletion=one_of("robust", "standard", "none"),
            help="robust (median, MAD), standard (mean, deviation) or none.",
        ),
    ] = "robust",
    by: Annotated[str, typer.Option("--by", metavar="COLUMNS", help="Rows that are normalized together; '': all.")] = "plate",
    controls: Annotated[
        str, typer.Option("--controls", metavar="QUERY", help="Rows to measure on, such as \"cell_type == 'DMSO'\"; else all.")
    ] = "",
    aggregate: Annotated[
        str,
        typer.Option(
            "--aggregate",
            metavar="LEVEL",
            autocompletion=one_of("well", "image", "compound"),
            help="Medians of each well, image or compound, or of any columns.",
        ),
    ] = "",
    sphere: Annotated[bool, typer.Option("--sphere", help="Decorrelate the features as the controls have them.")] = False,
    regularization: Annotated[
        float, typer.Option("--regularization", metavar="X", min=0, help="Of the sphering; the mean eigenvalue is 1.")
    ] = 0.01,
    harmony: Annotated[str, typer.Option("--harmony", metavar="COLUMNS", help="Batches that Harmony aligns, such as plate.")] = "",
    config: ConfigOption = "",
    overwrite: OverwriteOption = False,
) -> None:
    """Normalize features by plate, aggregate them, sphere them on controls, align batches: in this order, what is asked for."""
    if normalize not in ("robust", "standard", "none"):
        raise ConfigError(f"--normalize: there is no normalization '{normalize}'; choose robust, standard or none.")
    overrides = overrides_of(context)

    from dino4cells import steps

    card = steps.profile(
        features,
        output=output,
        normalize=cast("Normalization", normalize),
        by=_names(by),
        controls=controls or None,
        aggregate=aggregate if "," not in aggregate else _names(aggregate),
        sphere=sphere,
        regularization=regularization,
        harmony=_names(harmony),
        config=steps.configuration(config, "", overrides) if config or overrides else None,
        overwrite=overwrite,
    )
    failed = f", {card.failed_rows:,} of them without features (see Metadata_dino_error)" if card.failed_rows else ""
    results.show(
        f"wrote {card.rows:,} profiles × {card.embedding_dim} features{failed}\nprofiles: {output}",
        {"profiles": output, **card.model_dump()},
    )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
