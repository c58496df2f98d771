"""`dino4cells export`."""

from __future__ import annotations

from typing import Annotated

import typer

from dino4cells.cli import results
from dino4cells.cli.completion import one_of
from dino4cells.cli.options import ConfigOption, OverwriteOption


def export(
    model: Annotated[str, typer.Argument(metavar="URL", help="Model, or checkpoint (.pth).")],
    output: Annotated[str, typer.Option("--output", metavar="URL", help="The file to write: .onnx, or .pt for TorchScript.")],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            autocompletion=one_of("onnx", "torchscript"),
            help="onnx or torchscript; else what the output's ending says.",
        ),
    ] = "",
    side: Annotated[
        int | None, typer.Option("--side", metavar="PX", min=1, help="Height and width of its images; else the model's own.")
    ] = None,
    config: ConfigOption = "",
    overwrite: OverwriteOption = False,
) -> None:
    """Write a model and its normalization as one file for other runtimes, ONNX or TorchScript, and compare it with the model."""
    from dino4cells import steps
    from dino4cells.steps.export import export as write

    settings = steps.configuration(config) if config else None
    done = write(model, output=output, format=format, side=side, config=settings, overwrite=overwrite)
    checked = "not checked: onnxruntime is not installed"
    if done.difference is not None:
        checked = f"largest difference from the model's features {done.difference:.1e}"
    results.show(
        f"wrote {done.output}: any number of images × {len(done.channels)} ({', '.join(done.channels)}) × {done.side} × {done.side}, "
        f"in [0, 1]; {checked}",
        done,
    )
