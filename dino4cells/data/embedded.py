"""The data that everything can be tried on: simulated cells, drawn once per machine and the same on every machine."""

from __future__ import annotations

import getpass
import tempfile
from pathlib import Path

import dino4cells
from dino4cells import storage
from dino4cells.data.metadata import METADATA_FILE
from dino4cells.data.simulate import simulate
from dino4cells.progress import Progress

CELLS, SIZE, PLATES = 1680, 64, 6


def simulated_directory() -> Path:
    """Where the simulated cells are on this machine, once they are drawn."""
    return Path(tempfile.gettempdir(), f"dino4cells-{dino4cells.__version__}-{getpass.getuser()}", "simulated_cells")


def simulated_cells() -> str:
    """The directory of the simulated cells, which are drawn at the first call (half a minute)."""
    directory = simulated_directory()
    if not storage.exists(storage.join(str(directory), METADATA_FILE)):
        with Progress("simulate", CELLS, unit="cells") as progress:
            simulate(str(directory), cells=CELLS, size=SIZE, plates=PLATES, progress=lambda drawn: progress.advance(drawn - progress.done))
    return str(directory)
