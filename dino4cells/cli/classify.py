"""`dino4cells classify`."""

from __future__ import annotations

from typing import Annotated

import typer

from dino4cells.cli.options import ConfigOption, GroupOption, LabelOption, OverwriteOption, overrides_of


def classify(
    context: typer.Context,
    features: Annotated[str, typer.Option("--features", metavar="URL", help="The features of every cell.")],
    output: Annotated[str, typer.Option("--output", metavar="URL", help="Where classifiers, metrics and report go.")],
    label: LabelOption = "",
    group: GroupOption = "",
    data: Annotated[str, typer.Option("--data", metavar="URL", help="The images, for the report's pictures of cells.")] = "",
    model: Annotated[str, typer.Option("--model", metavar="URL", help="The model, for the report's loss curve.")] = "",
    config: ConfigOption = "",
    overwrite: OverwriteOption = False,
) -> None:
    """Cross-validate classifiers on the features, beside baselines, and write a report."""
    from dino4cells import steps, summary

    overrides = {**overrides_of(context), "classification.label": label, "classification.group": group}
    steps.classify(
        features,
        config=steps.configuration(config, "", overrides),
        output=output,
        data=data or None,
        model=model or None,
        overwrite=overwrite,
    )
    summary.print_summary(output, features=features, model=model or None)
