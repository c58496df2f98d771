"""Training end to end: from PNG files of 512 px to weights, reading, views and step sharing the cores.

Each side trains vit_tiny/16 in batches of 24 on files that it has not read before, so that what it keeps in memory is of no use. Timed are
steps in the middle of a run: after the first ones, in which threads start and batches are read ahead, and before the last ones, for which
nothing is left to read.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import Machine, Row
from benchmarks.reference.images import write_images
from benchmarks.reference.training import Settings, train
from benchmarks.works.step import BATCH, CPU, flops_of_an_image
from dino4cells.config import load_config
from dino4cells.data.metadata import read_metadata
from dino4cells.training.distributed import ProcessGroup
from dino4cells.training.fit import fit
from dino4cells.training.precision import autocast_type

DRAWN, COPIES = 60, 4  # images; the others are links to them, read as often and drawn once
WARM_UP, TIMED, LEFT_OVER = 2, 4, 4  # steps
WORKERS = (2, 0)  # processes of the plain data loader, a turn each: which is faster depends on the machine


class Enough(Exception):
    """The steps that are timed are done."""


class Watch:
    """Seconds a step, once the first ones are done."""

    def __init__(self) -> None:
        self.steps = 0
        self.started = self.seconds = 0.0

    def step_done(self) -> None:
        self.steps += 1
        if self.steps == WARM_UP:
            self.started = time.perf_counter()
        if self.steps == WARM_UP + TIMED:
            self.seconds = (time.perf_counter() - self.started) / TIMED
            raise Enough


def write_data(directory: str) -> list[Path]:
    """A data directory with images for the steps of a run."""
    drawn = write_images(Path(directory, "images"), DRAWN)
    paths = [path.with_stem(f"{path.stem}-{copy}") for copy in range(COPIES) for path in drawn]
    for path, original in zip(paths, drawn * COPIES, strict=True):
        os.link(original, path)
    Path(directory, "metadata.csv").write_text("file\n" + "".join(f"images/{path.name}\n" for path in paths))
    Path(directory, "channels.txt").write_text("microtubules\nprotein\nnucleus\nER\n")
    return paths


def reference_seconds(paths: list[Path], workers: int) -> float:
    """A step of the plain trainer."""
    watch = Watch()
    with contextlib.suppress(Enough), contextlib.closing(train(paths, Settings(), workers)) as losses:
        for _ in losses:
            watch.step_done()
    return watch.seconds


def our_seconds(directory: str) -> float:
    """A step of `dino4cells train` with the published settings."""
    watch = Watch()
    config = load_config(overrides={"model.batch_size": BATCH, "model.epochs": 1})
    quietly = contextlib.redirect_stderr(io.StringIO())
    with contextlib.suppress(Enough), tempfile.TemporaryDirectory() as output, quietly:
        fit(
            config,
            read_metadata(directory),
            f"{output}/model",
            ProcessGroup(0, 1, 0, CPU),
            resume_directory=f"{output}/checkpoints",
            on_record=lambda *_: watch.step_done(),
        )
    return watch.seconds


def measure(machine: Machine) -> list[Row]:
    """Images a second of either side, in the better of its turns."""
    with tempfile.TemporaryDirectory() as directory:
        paths = write_data(directory)
        assert len(paths) == BATCH * (WARM_UP + TIMED + LEFT_OVER)
        turns = [(reference_seconds(paths, workers), our_seconds(directory)) for workers in WORKERS]
    theirs, ours = (min(seconds) for seconds in zip(*turns, strict=True))
    workers = WORKERS[[seconds for seconds, _ in turns].index(theirs)]
    arithmetic = autocast_type("auto", CPU, "vit_tiny")
    share = flops_of_an_image() * BATCH / ours / machine.multiply_adds[arithmetic]
    note = f"every image read for the first time; the reference's loader has {workers} processes"
    return [Row("training from files", BATCH / theirs, BATCH / ours, "images/s", theirs / ours, share, 4, note)]
