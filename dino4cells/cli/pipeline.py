"""`dino4cells pipeline`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The Kubeflow pipeline train → extract → classify.", no_args_is_help=True)


@app.command("compile", epilog="Example: dino4cells pipeline compile dino4cells.yaml")
def compile_pipeline(output: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")] = Path("dino4cells.yaml")) -> None:
    """Write the pipeline as the YAML that the Kubeflow UI takes (Pipelines → Upload pipeline)."""
    from dino4cells.pipelines.pipeline import compile_pipeline as write

    print(f"wrote {write(output)}")
