"""`dino4cells run`."""

from __future__ import annotations

import dataclasses
import json
import shlex
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from dino4cells.cli import results
from dino4cells.cli.options import ConfigOption, GroupOption, LabelOption, PresetOption, ProcessesOption, overrides_of


def run(
    context: typer.Context,
    data: Annotated[str, typer.Option("--data", metavar="URL", help="Directory or URL with a metadata.csv; else simulated cells.")] = "",
    group: GroupOption = "",
    label: LabelOption = "",
    config: ConfigOption = "",
    preset: PresetOption = "",
    processes: ProcessesOption = 1,
    baselines: Annotated[bool, typer.Option("--baselines/--no-baselines", help="Also judge what to compare with.")] = True,
    launcher: Annotated[
        str, typer.Option("--launcher", metavar="NAME", help="Where training runs: local, which is here; pytorchjob needs a cluster.")
    ] = "local",
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Directory for the artifacts of all runs.")] = Path("runs"),
) -> None:
    """Run the whole Kubeflow pipeline on this machine: train, extract, classify, report.

    Without a configuration it starts from the preset small, for simulated cells from small-fluorescence.
    """
    overrides = shlex.join(f"{key}={value}" for key, value in overrides_of(context).items())

    from dino4cells import steps, storage, summary
    from dino4cells.cluster.launchers import processes_of
    from dino4cells.pipelines.local import run_locally

    started = datetime.now()
    preset = steps.preset_for(preset, config, data)
    # What can be known to fail is refused now, and not after hours of training.
    processes_of(launcher, processes)
    steps.check_run(config, preset, overrides, data=data, label=label, group=group)
    finished = run_locally(
        output,
        {
            "data": storage.absolute(data) if data else "",
            "preset": preset,
            "config": storage.absolute(config) if config else "",
            "overrides": overrides,
            "label": label,
            "group": group,
            "processes": processes,
            "launcher": launcher,
            "baselines": baselines,
        },
    )
    seconds = (datetime.now() - started).total_seconds()

    def show() -> None:
        summary.print_summary(finished.classification, features=finished.features, model=finished.model, seconds=seconds)

    metrics = json.loads(storage.read_text(storage.join(finished.classification, "metrics.json")))
    results.show(show, {**dataclasses.asdict(finished), "seconds": seconds, "metrics": metrics})
