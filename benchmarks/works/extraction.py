"""Extraction end to end, from files of 224 px to written features by vit_small/16, and its memory with ten times the cells."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.measuring import Machine, Row, alternate, apart, peak_memory_mib
from benchmarks.reference.extraction import extract
from benchmarks.reference.images import write_images
from benchmarks.reference.network import PlainTransformer
from dino4cells.artifacts import Artifact
from dino4cells.config import Config, load_config
from dino4cells.data.metadata import read_metadata
from dino4cells.features.extract import extract_features
from dino4cells.features.store import FeaturesCard, read_features
from dino4cells.manifest import Manifest
from dino4cells.models.artifact import KIND, NetworkCard, TrainedModel
from dino4cells.models.backbones import build_backbone
from dino4cells.training.distributed import ProcessGroup

IMAGES, SIDE, CHANNELS, PATCH, WIDTH, DEPTH = 96, 224, 4, 16, 384, 12
BATCH = 32
FEW, MANY, TINY = 1_000, 10_000, 32
HERE = ProcessGroup(0, 1, 0, torch.device("cpu"))


def measure(machine: Machine) -> list[Row]:
    """Images a second, how close the features come to fp32's, and memory."""
    with tempfile.TemporaryDirectory() as directory:
        paths = write_images(Path(directory, "images"), IMAGES, SIDE, CHANNELS)
        write_table(directory, [str(path.relative_to(directory)) for path in paths])
        model, config = trained_model("vit_small", SIDE), load_config(overrides={"embedding.batch_size": BATCH})
        plain = PlainTransformer(CHANNELS, SIDE, PATCH, WIDTH, heads=6).eval()
        plain.load_state_dict(model.backbone.state_dict())
        features: dict[str, NDArray[np.float32]] = {}
        cards: list[FeaturesCard] = []

        def reference() -> None:
            features["reference"] = extract(plain, paths)

        def ours() -> None:
            cards.append(run(model, config, directory))

        seconds = alternate({"reference": reference, "ours": ours}, rounds=2, warm_up=0)
        features["ours"] = read_features(f"{directory}/features").dino
    precision = torch.bfloat16 if cards[-1].precision == "bfloat16" else torch.float32
    few, many = (apart(memory_of_an_extraction, cells) for cells in (FEW, MANY))
    return [
        Row(
            f"extraction: vit_small/{PATCH}, {SIDE} px, {CHANNELS} channels, from PNG files to Parquet",
            IMAGES / seconds["reference"],
            IMAGES / seconds["ours"],
            "images/s",
            seconds["reference"] / seconds["ours"],
            share_of_peak=operations() * IMAGES / seconds["ours"] / machine.multiply_adds[precision],
            target=5,
            note=f"{cards[-1].precision}; least cosine with the reference's fp32 {least_cosine(**features):.5f}",
        ),
        Row(
            f"extraction: memory beside the modules, {MANY:,} cells",
            few,
            many,
            "MiB",
            few / many,
            note=f"reference: ours with {FEW:,} cells",
        ),
    ]


def trained_model(arch: str, side: int) -> TrainedModel:
    """A model artifact's content with random weights."""
    backbone = build_backbone(arch, PATCH, side, CHANNELS).eval()
    card = NetworkCard(
        arch=arch,
        patch_size=PATCH,
        image_size=side,
        embedding_dim=backbone.embed_dim,
        channels=tuple(f"channel_{number}" for number in range(CHANNELS)),
        seed=0,
        normalization=[],
    )
    return TrainedModel(card, load_config(), backbone, Artifact("benchmark", Manifest(kind=KIND, version="", created="", files=[])))


def write_table(directory: str, files: list[str]) -> None:
    """The `metadata.csv` of a data directory."""
    pd.DataFrame({"file": files, "ID": [str(row) for row in range(len(files))]}).to_csv(Path(directory, "metadata.csv"), index=False)


def run(model: TrainedModel, config: Config, directory: str) -> FeaturesCard:
    """Extract the features of a data directory into its `features`."""
    return extract_features(model, read_metadata(directory), f"{directory}/features", HERE, config, baselines=False)


def operations() -> float:
    """Floating point operations of a forward pass that gives the class token; of the last block, all tokens need keys and values alone."""
    tokens = (SIDE // PATCH) ** 2 + 1
    block = 12 * WIDTH**2 * tokens + 2 * WIDTH * tokens**2
    last = 2 * WIDTH**2 * tokens + 10 * WIDTH**2 + 2 * WIDTH * tokens
    return 2.0 * ((DEPTH - 1) * block + last + CHANNELS * PATCH**2 * WIDTH * (tokens - 1))


def least_cosine(reference: NDArray[np.float32], ours: NDArray[np.float32]) -> float:
    """The worst of all images."""
    lengths = np.linalg.norm(reference, axis=1) * np.linalg.norm(ours, axis=1)
    return float(((reference * ours).sum(axis=1) / lengths).min())


def memory_of_an_extraction(cells: int) -> float:
    """MiB that extracting so many tiny cells adds to a process that has written them and imported everything."""
    with tempfile.TemporaryDirectory() as directory:
        paths = write_images(Path(directory, "images"), 100, TINY, CHANNELS)
        write_table(directory, [str(paths[row % len(paths)].relative_to(directory)) for row in range(cells)])
        before = peak_memory_mib()
        run(trained_model("vit_tiny", TINY), load_config(), directory)
        return peak_memory_mib() - before
