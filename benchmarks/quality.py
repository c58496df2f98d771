"""How good are the features? Trains the `small` preset from random weights on real cells and judges them by 10-NN.

Usage: make quality [DATA=directory of the data sets], about half an hour on two cores.

For `pbc_blood` and `bbbc021_cells` it prints accuracy and balanced accuracy of the teacher's class token over the epochs (10-NN by cosine,
5 folds, stratified; `bbbc021_cells` grouped by plate) beside three baselines judged in the same way on the same folds: the same network
untrained, 50 principal components of the pixels, and intensity statistics. Training time does not count the judging. The last line is
one JSON object with a key for each data set. One recipe for both; labels are used for judging alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA

from dino4cells.augment.normalization import with_data_statistics
from dino4cells.augment.views import ViewKind
from dino4cells.classify import CrossValidation, Folds, cross_validate, make_folds
from dino4cells.cluster.entry import process_of_a_job
from dino4cells.config import load_config
from dino4cells.data.dataset import Batch, CellImages, to_unit_range
from dino4cells.data.metadata import read_metadata
from dino4cells.data.source import plain_source
from dino4cells.features.embedding import embed
from dino4cells.features.intensity import intensity_statistics
from dino4cells.training.distributed import ProcessGroup, gather_from_ranks, process_group
from dino4cells.training.fit import fit
from dino4cells.training.loop import DINO, build_network

SETS = {"pbc_blood": None, "bbbc021_cells": "plate"}  # name → column whose values never straddle a split
IMAGES_SEEN = {"pbc_blood": 36_000, "bbbc021_cells": 36_000}
JUDGEMENTS = 4  # along a run
PIXEL_COMPONENTS = 50
EMBEDDED_AT_ONCE = 128


def main() -> None:
    """Judge every data set that is asked for; rank 0 prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--images", type=int, help="images seen in training, instead of the benchmark's")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value for a key of the preset")
    arguments = parser.parse_args()
    if "RANK" not in os.environ:
        sys.exit(_under_torchrun(arguments.processes))
    results = {}
    with process_of_a_job(), process_group() as group:
        if group.is_first:
            machine = platform.processor() or platform.machine()
            print(f"{machine}, {os.cpu_count()} cores, torch {torch.__version__}, {group.world_size} processes")
        for name in arguments.sets:
            overrides = dict(pair.split("=", 1) for pair in arguments.set)
            results[name] = judge_data_set(arguments.data / name, SETS[name], arguments.images or IMAGES_SEEN[name], overrides, group)
        if group.is_first:
            print(json.dumps(results))


def _under_torchrun(processes: int) -> int:
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *sys.argv]
    return subprocess.call(command, env={"OMP_NUM_THREADS": threads, **os.environ})


def judge_data_set(
    directory: Path, group_column: str | None, images_seen: int, overrides: dict[str, str], group: ProcessGroup
) -> dict[str, object]:
    """Train on one data set and judge the features along the way."""
    metadata = read_metadata(str(directory))
    labels = metadata.frame["cell_type"].to_numpy()
    groups = metadata.frame[group_column].to_numpy() if group_column else None
    folds = make_folds(labels, groups, group_name=group_column or "group")
    epochs = max(1, round(images_seen / len(metadata)))
    images = CellImages(plain_source(metadata.urls, 3))
    config = with_data_statistics(load_config(preset="small", overrides={"epochs": epochs, **overrides}), images)
    batch = images.__getitems__([(0, index) for index in range(len(images))])
    view = ViewKind.from_sections(config, ("testing_transfo",))

    def say(text: str) -> None:
        if group.is_first:
            print(text, flush=True)

    say(f"\n{directory.name}: {len(labels):,} cells, {len(set(labels))} classes, {folds.description}; {epochs} epochs")
    say(f"{'':<24}{'accuracy':>9} {'balanced':>9}")
    scores: dict[str, object] = {}
    if group.is_first:
        for name, values in {"pixel_pca": _pixel_components(batch), "intensity": _intensities(batch)}.items():
            scores[name] = _scores(cross_validate(values, labels, folds, "knn", standardize=name == "intensity"))
            say(_row(name, scores[name]))
    untrained = _embed_all(build_network(config.model, batch.images_BCHW.shape[1]).backbone.to(group.device).eval(), view, batch, group)
    scores["untrained"] = _scores(_knn(untrained, labels, folds))
    say(_row("untrained", scores["untrained"]))
    judged, judging_seconds = 0, 0.0

    def judge(dino: DINO, seen: int, seconds: float) -> None:
        nonlocal judged, judging_seconds
        # The last step that would be incomplete is left out of a run, so its end is a little before the last epoch's.
        if JUDGEMENTS * seen / (epochs * len(metadata)) < judged + 0.95:
            return
        started, judged = time.monotonic(), judged + 1
        values = _embed_all(dino.teacher.backbone, view, batch, group)
        scores["trained"] = _scores(_knn(values, labels, folds))
        say(_row(f"epoch {seen / len(metadata):5.1f} {seconds - judging_seconds:5.0f} s", scores["trained"]))
        judging_seconds += time.monotonic() - started

    with tempfile.TemporaryDirectory() as output:
        fit(config, metadata, f"{output}/model", group, resume_directory=f"{output}/checkpoints", on_record=judge)
        if group.is_first:
            seconds = json.loads(Path(output, "model", "model.json").read_text())["training"]["seconds"] - judging_seconds
            rate = epochs * len(metadata) / seconds
            say(f"{seconds:,.0f} s of training, {rate:.0f} images/s")
            scores["images_per_second"] = round(rate, 1)
    order = ("untrained", "pixel_pca", "intensity", "trained", "images_per_second")
    return {key: scores[key] for key in order if key in scores}


def _embed_all(backbone: torch.nn.Module, view: ViewKind, batch: Batch, group: ProcessGroup) -> np.ndarray:
    """Class tokens of all images, (N, D); each process embeds a share."""
    mine = np.array_split(np.arange(len(batch)), group.world_size)[group.rank]
    tokens = []
    with torch.inference_mode():
        for start in range(0, len(mine), EMBEDDED_AT_ONCE):
            rows = torch.from_numpy(mine[start : start + EMBEDDED_AT_ONCE])
            part = Batch(batch.images_BCHW[rows], batch.sizes_B2[rows], batch.index_B[rows], batch.epoch_B[rows])
            tokens.append(embed(backbone, view, part.to(group.device), seed=0).cpu().numpy())
    return np.concatenate([share for share in gather_from_ranks(np.concatenate(tokens)) if isinstance(share, np.ndarray)])


def _pixel_components(batch: Batch) -> np.ndarray:
    return PCA(PIXEL_COMPONENTS, random_state=0).fit_transform(to_unit_range(batch.images_BCHW).flatten(1).numpy())


def _intensities(batch: Batch) -> np.ndarray:
    return np.stack([intensity_statistics(image.numpy()) for image in to_unit_range(batch.images_BCHW)])


def _knn(values: np.ndarray, labels: np.ndarray, folds: Folds) -> CrossValidation:
    return cross_validate(values, labels, folds, "knn", neighbours=10)


def _scores(result: CrossValidation) -> dict[str, float]:
    return {"accuracy": round(result.pooled.accuracy, 4), "balanced_accuracy": round(result.pooled.balanced_accuracy, 4)}


def _row(name: str, scores: object) -> str:
    assert isinstance(scores, dict)
    return f"{name:<24}{scores['accuracy']:>9.3f} {scores['balanced_accuracy']:>9.3f}"


if __name__ == "__main__":
    main()
