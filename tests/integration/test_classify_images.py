"""A classifier of images: the backbone and the head learn together, in one process and two, and go on after an interruption."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dino4cells import steps
from dino4cells.artifacts import open_artifact
from dino4cells.classify.assembly import on_images
from dino4cells.classify.classifier import KIND, load_classifier
from dino4cells.classify.heads import build_head
from dino4cells.cluster.job import Processes
from dino4cells.cluster.local import LocalLauncher
from dino4cells.config import Config
from dino4cells.errors import CheckpointError, ConfigError, DataError, Interrupted
from dino4cells.models.artifact import load_model
from dino4cells.training.distributed import ProcessGroup

# float32 sums in another order: weights of about 0.02 to 1, and means of their products with 192 features.
TOLERANCE = 1e-4
LEARN = {
    "classification.train_cell_type": True,
    "classification.use_pretrained_features": False,
    "classification.train_feature_extractor": True,
    "classification.dropout": 0,
    "classification.batch_size_per_gpu": 8,
    "classification.num_workers": 0,
    "classification.lr": 0.01,
    "classification.epochs": 2,
    "classification.folds": 4,
}
# Plain gradient descent makes no step out of a rounding error where the gradient should be zero, as AdamW does.
SGD = {"classification.optimizer": "SGD", "classification.lr": 1.6, "classification.wd": 0, "classification.wd_end": 0}
BATCH_NORM = {
    "classification.classifier_type": "residual_add_clf",
    "classification.norm_layer": "batch_norm",
    "classification.n_layers": 4,
    "classification.n_units": 32,
}


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> str:
    """64 images of 24 × 24 pixels whose first channel is bright below or on the right, which says the class; one cannot be read."""
    directory = tmp_path_factory.mktemp("halves")
    (directory / "images").mkdir()
    random = np.random.default_rng(0)
    files = [f"images/{row:02d}.png" for row in range(64)]
    for row, file in enumerate(files):
        image = random.integers(0, 60, (24, 24, 4), dtype=np.uint8)
        bright = (np.arange(24) // 12 * 180).astype(np.uint8)
        image[:, :, 0] += bright[:, None] if row % 2 == 0 else bright[None]
        Image.fromarray(image, "RGBA").save(directory / file)
    (directory / files[5]).write_bytes(b"no image")
    frame = pd.DataFrame({"file": files, "ID": [f"cell-{row}" for row in range(64)], "cell_type": ["below", "right"] * 32})
    frame.to_csv(directory / "metadata.csv", index=False)
    (directory / "channels.txt").write_text("microtubules\nprotein\nnucleus\nER\n")
    return str(directory)


@pytest.fixture(scope="module")
def settings(tiny_config: Callable[..., Config]) -> Callable[..., Config]:
    """The tiny configuration for a classifier of these images; a mapping replaces keys."""

    def make(others: dict[str, object] | None = None) -> Config:
        views = {
            "global_transfo1.RandomResizedCrop.scale": [0.8, 1],
            "flip_and_color_jitter_transforms": "{}",
            "global_transfo1.Warp_cell": False,
        }
        return tiny_config({**LEARN, **views, "model.max_bad_images": 0.1, **(others or {})})

    return make


def metrics_of(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(open_artifact(str(output), KIND).read_bytes("metrics.json"))
    return found


def test_backbone_and_head_learn_together_from_images(settings: Callable[..., Config], halves: str, tmp_path: Path) -> None:
    steps.train_classifier(settings({"classification.epochs": 20}), data=halves, output=str(tmp_path / "out"))
    metrics = metrics_of(tmp_path / "out")
    assert metrics["scores"]["valid"]["balanced_accuracy"] > 0.85, metrics["scores"]
    assert sum(metrics["cells"].values()) == 64
    assert sum(metrics["judged"].values()) == 63
    predictions = pd.read_parquet(tmp_path / "out" / "predictions.parquet").set_index("file")
    assert predictions.loc["images/05.png", ["prediction", "probability_right"]].isna().all()
    trained = load_classifier(str(tmp_path / "out"))
    assert trained.card.backbone is not None
    assert trained.card.backbone.channels == ("microtubules", "protein", "nucleus", "ER")
    assert trained.network(torch.rand(2, 4, 16, 16)).shape == (2, 2)


def test_a_head_alone_learns_on_the_features_of_a_trained_backbone_which_stays_as_it_is(
    settings: Callable[..., Config], tiny_config: Callable[..., Config], halves: str, tmp_path: Path
) -> None:
    steps.train(tiny_config(epochs=1, max_bad_images=0.1), data=halves, output=str(tmp_path / "model"))
    frozen = {"classification.train_feature_extractor": False, "classification.epochs": 1}
    with pytest.raises(ConfigError, match="no backbone is given, so that a random one would stay random"):
        steps.train_classifier(settings(frozen), data=halves, output=str(tmp_path / "out"))
    steps.train_classifier(settings(frozen), data=halves, model=str(tmp_path / "model"), output=str(tmp_path / "out"))
    before = torch.load(tmp_path / "model" / "checkpoint.pth", weights_only=False)["teacher"]
    trained = load_classifier(str(tmp_path / "out"))
    assert trained.network.backbone is not None
    for name, value in trained.network.backbone.state_dict().items():
        torch.testing.assert_close(value, before[f"backbone.{name}"], rtol=0, atol=0)
    # A published checkpoint is named by the handbook's key.
    by_key = {**frozen, "classification.feature_extractor_state_dict": str(tmp_path / "model" / "checkpoint.pth")}
    steps.train_classifier(settings(by_key), data=halves, output=str(tmp_path / "again"))
    assert metrics_of(tmp_path / "again")["scores"] == metrics_of(tmp_path / "out")["scores"]


def test_images_are_normalized_by_the_numbers_of_the_training_cells_or_of_the_backbone(
    settings: Callable[..., Config], tiny_config: Callable[..., Config], halves: str, tmp_path: Path
) -> None:
    by_data = {
        f"{section}.{name}": value
        for section in ("normalization", "testing_transfo")
        for name, value in (("self_normalize", False), ("Normalize", [True, {"mean": "data", "std": "data"}]))
    }
    alone = ProcessGroup(0, 1, 0, torch.device("cpu"))
    run = on_images(settings(by_data), halves, None, alone)
    files = [file for file in run.parts["train"].cells.frame["file"] if not file.endswith("05.png")]
    pixels = np.stack([np.asarray(Image.open(Path(halves, file))) for file in files]).reshape(-1, 4) / 255
    numbers = {"mean": pixels.mean(axis=0), "std": pixels.std(axis=0)}
    for section in ("normalization", "testing_transfo"):
        [given] = [parameters for name, parameters in run.config.section(section) if name == "Normalize"]
        assert isinstance(given, dict)
        for name, expected in numbers.items():
            np.testing.assert_allclose(given[name], expected, atol=1e-5)
    assert run.backbone is not None
    assert ["Normalize", given] in run.backbone.normalization
    model = steps.train(tiny_config(by_data, epochs=1, max_bad_images=0.1), data=halves, output=str(tmp_path / "model"))
    run = on_images(settings(by_data), halves, load_model(str(tmp_path / "model")), alone)
    assert [list(entry) for entry in run.config.section("testing_transfo")] == model.normalization


def test_two_processes_with_half_the_batch_train_the_same_classifier_as_one_with_the_whole(
    settings: Callable[..., Config], halves: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    steps.train_classifier(settings({**SGD, **BATCH_NORM}), data=halves, output=str(tmp_path / "one"))
    half = settings({**SGD, **BATCH_NORM, "classification.batch_size_per_gpu": 4})
    steps.train_classifier(half, data=halves, output=str(tmp_path / "two"), processes=Processes(LocalLauncher(), per_node=2))
    one, two = (load_classifier(str(tmp_path / name)) for name in ("one", "two"))
    start = build_head(one.card.head, one.card.features, 2)
    assert (one.network.head.state_dict()["final_layer.weight"] - start.state_dict()["final_layer.weight"]).abs().max() > 100 * TOLERANCE
    assert (one.card.processes, two.card.processes) == (1, 2)
    for name, value in one.network.state_dict().items():
        torch.testing.assert_close(
            two.network.state_dict()[name], value, rtol=0, atol=TOLERANCE, msg=lambda text, name=name: f"{name}: {text}"
        )
    scores = [metrics_of(tmp_path / name)["scores"] for name in ("one", "two")]
    assert scores[0] == scores[1]
    assert (tmp_path / "one" / "log.jsonl").read_text().count("\n") == 2


def test_a_classifier_that_is_stopped_goes_on_and_ends_the_same(settings: Callable[..., Config], halves: str, tmp_path: Path) -> None:
    config = settings({"model.checkpoint_minutes": 1e-6, "classification.early_stopping": 50})
    output, saved = tmp_path / "out", tmp_path / "out.checkpoints"

    def stop_when_saved() -> None:
        while len(list(saved.glob("checkpoint-*.pth"))) < 2 and threading.main_thread().is_alive():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_when_saved, daemon=True).start()
    with pytest.raises(Interrupted):
        steps.train_classifier(config, data=halves, output=str(output))
    assert not (output / "manifest.json").exists()
    with pytest.raises(CheckpointError, match="another configuration or other data"):
        steps.train_classifier(settings({"classification.lr": 0.5}), data=halves, output=str(output))
    steps.train_classifier(config, data=halves, output=str(output))
    assert not saved.exists()
    steps.train_classifier(config, data=halves, output=str(tmp_path / "whole"))
    one, two = (load_classifier(str(directory)).network.state_dict() for directory in (tmp_path / "whole", output))
    for name, value in one.items():
        assert torch.equal(two[name], value), name
    # The mean loss of the epoch that was interrupted is that of its second part.
    records = [[{**json.loads(line), "loss": 0} for line in (place / "log.jsonl").open()] for place in (output, tmp_path / "whole")]
    assert records[0] == records[1]


def test_images_of_other_channels_than_the_backbones_are_refused(
    settings: Callable[..., Config], tiny_config: Callable[..., Config], halves: str, tmp_path: Path
) -> None:
    steps.train(tiny_config(epochs=1, max_bad_images=0.1), data=halves, output=str(tmp_path / "model"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "images").symlink_to(Path(halves) / "images")
    (tmp_path / "other" / "metadata.csv").write_text((Path(halves) / "metadata.csv").read_text())
    (tmp_path / "other" / "channels.txt").write_text("DNA\nRNA\nAGP\nMito\n")
    with pytest.raises(DataError, match="DNA, RNA, AGP, Mito"):
        steps.train_classifier(settings(), data=str(tmp_path / "other"), model=str(tmp_path / "model"), output=str(tmp_path / "out"))
