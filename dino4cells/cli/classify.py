"""`dino4cells classify`."""

from __future__ import annotations

from typing import Annotated

import typer

from dino4cells.cli import results
from dino4cells.cli.options import ConfigOption, GpusOption, GroupOption, LabelOption, OverwriteOption, ProcessesOption, overrides_of
from dino4cells.errors import ConfigError


def classify(
    context: typer.Context,
    features: Annotated[
        str, typer.Option("--features", metavar="URL", help="The features of every cell; for a head else embedding.output_path.")
    ] = "",
    output: Annotated[
        str, typer.Option("--output", metavar="URL", help="Where the results go; for a head else classification.output_dir.")
    ] = "",
    label: LabelOption = "",
    group: GroupOption = "",
    split: Annotated[str, typer.Option("--split", metavar="COLUMN", help="Says train, valid or test of each cell.")] = "",
    not_same: Annotated[
        str,
        typer.Option(
            "--nearest-not-same",
            metavar="COLUMNS",
            help="Of profiles, also: has the nearest that differs in these (compound,plate) the same class?",
        ),
    ] = "",
    data: Annotated[str, typer.Option("--data", metavar="URL", help="The images: to learn from, or for the report's pictures.")] = "",
    model: Annotated[str, typer.Option("--model", metavar="URL", help="The model: the backbone, or for the report's loss curve.")] = "",
    config: ConfigOption = "",
    gpus: GpusOption = "",
    processes: ProcessesOption = 1,
    overwrite: OverwriteOption = False,
) -> None:
    """Train a classifier head where --train_cell_type or --train_protein is True (an option or a key of the configuration).

    Without either: cross-validate k-NN and a linear probe on --features, beside baselines, and write a report to --output.

    A head learns on features; with --use_pretrained_features False on images, there with --train_feature_extractor True together with
    the backbone.
    """
    named = {"label": label, "group": group, "split": split, "not_same": not_same}
    overrides = {**overrides_of(context), **{f"classification.{key}": value for key, value in named.items() if value}}

    from dino4cells import steps

    settings = steps.configuration(config, "", overrides)
    wanted = settings.classification
    if wanted.train_protein or wanted.train_cell_type:
        from dino4cells.classify.summary import print_scores, scores_of
        from dino4cells.cluster.gpus import gpus_of
        from dino4cells.cluster.launchers import processes_of

        if model and not config and not wanted.use_pretrained_features:  # images are seen as the model has learnt to see them
            settings = steps.configuration_of(model, overrides)
        numbers = gpus_of(gpus)
        place = steps.train_classifier(
            settings,
            features=features or None,
            data=data or None,
            model=model or None,
            output=output or None,
            overwrite=overwrite,
            processes=processes_of("local", processes, numbers),
            device="cuda" if numbers else "auto",
        )
        results.show(lambda: print_scores(place), {"classifier": place, **scores_of(place)})
        return
    if not features or not output:
        option, what = ("--features", "the features to judge") if not features else ("--output", "where the report goes")
        raise ConfigError(
            f"{option}: is not given; name {what}, or set --train_cell_type or --train_protein to True to train a classifier head."
        )
    from dino4cells import summary

    steps.classify(features, config=settings, output=output, data=data or None, model=model or None, overwrite=overwrite)
    results.show(
        lambda: summary.print_summary(output, features=features, model=model or None),
        {"classification": output, **summary.metrics_of(output)},
    )
