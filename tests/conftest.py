"""Tiny cells and a configuration that trains on them in a second."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from PIL import Image

from dino4cells.config import Config, load_config

pytest_plugins = ["tests.object_store", "tests.tally"]

# Tiny tensors gain nothing by a second thread, and lose much by it where cores are shared; read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test is decided by a timing: machines are shared.
settings.register_profile("dino4cells", deadline=None)
settings.load_profile("dino4cells")

CHANNELS = ("microtubules", "protein", "nucleus", "ER")
# Over the handbook's settings, which stay as they are; presets that are tuned do not.
TINY: dict[str, object] = {
    "model.patch_size": 8,
    "model.image_size": 16,
    "model.out_dim": 64,
    "model.head_hidden_dim": 64,
    "model.head_bottleneck_dim": 32,
    "model.epochs": 2,
    "model.batch_size": 8,
    "model.lr": 0.01,
    "model.warmup_epochs": 1,
    "model.freeze_last_layer": 0,
    "model.precision": "float32",
    "model.drop_path_rate": 0,
    "model.momentum_teacher": 0.9,
    "model.num_workers": 0,
    "local_crops_number": 2,
    "global_transfo1.RandomResizedCrop.size": 16,
    "global_transfo2.RandomResizedCrop.size": 16,
    "local_transfo.RandomResizedCrop.size": 8,
    "embedding.num_workers": 0,
    "embedding.batch_size": 8,
    "embedding.precision": "float32",
    "embedding.baselines": False,
}


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Config]:
    """The handbook's configuration, made tiny; keyword arguments replace keys of `model`, a mapping any others."""

    def make(others: dict[str, object] | None = None, **model: object) -> Config:
        return load_config(overrides={**TINY, **{f"model.{key}": value for key, value in model.items()}, **(others or {})})

    return make


@pytest.fixture(scope="session")
def draw_cells() -> Callable[..., str]:
    """Writes a data directory of random four-channel images: `draw(directory, count, sizes=[(32, 32)])`, sizes in turn."""

    def draw(directory: Path, count: int, sizes: Sequence[tuple[int, int]] = ((32, 32),), seed: int = 0) -> str:
        random = np.random.default_rng(seed)
        (directory / "images").mkdir(parents=True)
        files = [f"images/{index:03d}.png" for index in range(count)]
        for index, file in enumerate(files):
            image = random.integers(0, 256, (*sizes[index % len(sizes)], 4), dtype=np.uint8)
            Image.fromarray(image, "RGBA").save(directory / file)
        frame = pd.DataFrame({"file": files, "ID": [f"field-{index // 3}" for index in range(count)]})
        frame["protein_location"] = [("nucleus", "cytosol")[index % 2] for index in range(count)]
        frame["plate"] = [index % 3 + 1 for index in range(count)]
        frame.to_csv(directory / "metadata.csv", index=False)
        (directory / "channels.txt").write_text("\n".join(CHANNELS) + "\n")
        return str(directory)

    return draw


@pytest.fixture(scope="session")
def cells(draw_cells: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data directory of 24 cells of 32 × 32 pixels, to read and not to change."""
    return draw_cells(tmp_path_factory.mktemp("cells") / "data", 24)


@dataclass(frozen=True)
class Finished:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def dino4cells(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Runs the command line in this process: `dino4cells("config", "--preset", "small").out`."""
    from dino4cells.cli import main

    def run(*words: object) -> Finished:
        monkeypatch.setattr("sys.argv", ["dino4cells", *(str(word) for word in words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Finished(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def tiny_yaml(tiny_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A `config.yaml` with the tiny configuration, one epoch."""
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(tiny_config(epochs=1).to_yaml())
    return str(path)
