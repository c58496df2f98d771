"""What is done with the features of many cells: reading and exporting them, and intervals of the scores on them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from benchmarks.measuring import Machine, Row, alternate, apart, peak_memory_mib
from dino4cells.classify.bootstrap import RESAMPLES, Resamples, class_draws, intervals
from dino4cells.features.exports import export
from dino4cells.features.store import read_features
from tests.unit.simulated_features import write_features

FEATURES = 384
FEW, MANY = 10_000, 100_000
ENDINGS = ("parquet", "h5ad")
CELLS, CLASSES, PLATES, RESULTS = 100_000, 20, 12, 6
RESAMPLED = 10  # by the reference


def measure(machine: Machine) -> list[Row]:
    """Memory with a tenth of the cells is the reference; of the intervals there is none."""
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for cells in (FEW, MANY):
            apart(_write, f"{directory}/{cells}", cells)
        for what in ("read", *ENDINGS):
            (_, few), (took, many) = (apart(_memory_of, f"{directory}/{cells}", what) for cells in (FEW, MANY))
            work = "features: reading" if what == "read" else f"features: export to .{what},"
            note = f"{took:.1f} s; reference: ours with {FEW:,} cells; the matrix of {MANY:,} is {4 * MANY * FEATURES / 2**20:,.0f} MiB"
            rows.append(Row(f"{work} memory beside the modules, {MANY:,} × {FEATURES}", few, many, "MiB", few / many, note=note))
    reference, ours = _judgements()
    taken = alternate({"reference": reference, "ours": ours}, rounds=2)
    plain = taken["reference"] * RESAMPLES / RESAMPLED
    note = f"{RESULTS} results, {CLASSES} classes, {RESAMPLES:,} resamples; reference: numpy, a resample at a time, {RESAMPLED} of them"
    rows.append(Row(f"intervals: three scores of {CELLS:,} cells", plain, taken["ours"], "s", plain / taken["ours"], note=note))
    return rows


def _write(url: str, cells: int) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"file": [f"images/{row}.png" for row in range(cells)], "ID": [f"cell-{row}" for row in range(cells)]})
    frame["plate"] = [f"plate {plate}" for plate in random.integers(PLATES, size=cells)]
    write_features(url, frame, random.standard_normal((cells, FEATURES), dtype=np.float32))


def _memory_of(url: str, what: str) -> tuple[float, float]:
    """Seconds, and the MiB that reading or exporting adds to a process that has imported everything."""
    import anndata  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    before, started = peak_memory_mib(), time.perf_counter()
    if what == "read":
        read_features(url)
    else:
        export(url, f"{url}.{what}")
    return time.perf_counter() - started, peak_memory_mib() - before


def _judgements() -> tuple[Callable[[], object], Callable[[], object]]:
    """Calls that give the scores of the results in some resamples, and in all of them with their intervals."""
    random = np.random.default_rng(0)
    truth = random.integers(CLASSES, size=CELLS)
    said = [np.where(random.random(CELLS) < 0.6, truth, random.integers(CLASSES, size=CELLS)) for _ in range(RESULTS)]
    names = np.asarray([f"class {code}" for code in range(CLASSES)])

    def reference() -> None:
        for guess in said:
            for _ in range(RESAMPLED):
                drawn = random.integers(CELLS, size=CELLS)
                confusion = np.bincount(truth[drawn] * CLASSES + guess[drawn], minlength=CLASSES**2).reshape(CLASSES, CLASSES)
                hits, cells, named = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
                _ = hits.sum() / CELLS, (hits / cells).mean(), (2 * hits / (cells + named)).mean()

    labels, predictions = names[truth], [names[guess] for guess in said]

    def ours() -> None:
        resamples = Resamples.of(CELLS)
        for predicted in predictions:
            intervals(class_draws(labels, predicted, resamples))

    return reference, ours
