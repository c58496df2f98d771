"""`dino4cells simulate`."""

from __future__ import annotations

from typing import Annotated

import typer

from dino4cells.cli import results


def simulate(
    output: Annotated[str, typer.Argument(metavar="URL", help="Directory or URL to write to.")],
    cells: Annotated[int, typer.Option(metavar="N", help="Number of cells; 14 × plates draws each class, line and plate once.")] = 1680,
    size: Annotated[int, typer.Option(metavar="N", help="Side of an image, in pixels (32 to 256).")] = 64,
    plates: Annotated[int, typer.Option(metavar="N", help="Number of plates, each with its own brightness and background.")] = 6,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed; the same seed gives the same files.")] = 0,
    handbook: Annotated[bool, typer.Option("--handbook", help="Metadata as in the handbook's example: 19 columns of labels.")] = False,
) -> None:
    """Draw fluorescence cells with four channels and seven protein localizations, to try everything on."""
    from dino4cells.data.simulate import simulate as draw
    from dino4cells.progress import Progress

    with Progress("simulate", cells, unit="cells") as progress:
        data = draw(
            output,
            cells=cells,
            size=size,
            plates=plates,
            seed=seed,
            handbook=handbook,
            progress=lambda drawn: progress.advance(drawn - progress.done),
        )
    plural = "s" * (len(data.plates) != 1)
    found = f"{data.cells:,} cells of {len(data.classes)} classes, {len(data.cell_lines)} lines and {len(data.plates)} plate{plural}"
    results.show(f"{found} are in {data.url}", data)
