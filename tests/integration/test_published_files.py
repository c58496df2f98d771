"""The published two commands, on a configuration of their shape: from training to a `.pth` of features, and from a bare checkpoint."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dino4cells import steps, storage
from dino4cells.cluster.job import Processes
from dino4cells.cluster.local import LocalLauncher
from dino4cells.config import Config
from dino4cells.data.metadata import read_metadata
from dino4cells.errors import ArtifactError, ConfigError, DataError, Interrupted
from dino4cells.features.store import read_features
from dino4cells.models.artifact import load_card, load_model
from dino4cells.models.backbones import build_backbone
from dino4cells.training.distributed import ProcessGroup
from dino4cells.training.fit import fit

MakeConfig = Callable[..., Config]

CONFIGURATION = """\
 model:
   model_type: DINO
   arch: vit_tiny
   root: '{data}/'
   data_path: {data}/cells.csv
   output_dir: {data}/model
   datatype: HPA
   image_mode: normalized_4_channels
   saveckp_freq: 50
   batch_size_per_gpu: 8
   num_channels: 4
   patch_size: 8
   image_size: 16
   out_dim: 64
   head_hidden_dim: 64
   head_bottleneck_dim: 32
   local_crops_scale: '0.2 0.5'
   epochs: 1
   center_momentum: 0.9
   num_workers: 0
   lr: 0.0005

 embedding:
   pretrained_weights: {weights}
   output_path: {data}/features.pth
   df_path: {data}/cells.csv
   image_size: 224
   num_workers: 0
   embedding_has_labels: True
   target_labels: {labels}
   num_augmentation_repetitions: 0

 normalization:
   ToTensor:
    - True
    - # no params
   self_normalize:
    - True
    - # no params
 global_transfo1:
   RandomResizedCrop:
    - True
    - {{size: 16, scale: [0.4, 1]}}
 global_transfo2:
   RandomResizedCrop:
    - True
    - {{size: 16, scale: [0.4, 1]}}
 local_crops_number: 2
 local_transfo:
   RandomResizedCrop:
    - True
    - {{size: 8, scale: [0.2, 0.5]}}
 testing_transfo:
   ToTensor:
    - True
    - # no params
   self_normalize:
    - True
    - # no params
"""
LABELS = ["Nucleus", "Cytosol"]


@pytest.fixture
def cells(draw_cells: Callable[..., str], tmp_path: Path) -> Path:
    """A directory with images and a table as the handbook has it: 24 cells, two localizations, two cell lines."""
    data = Path(draw_cells(tmp_path / "data", 24))
    frame = pd.read_csv(data / "metadata.csv")
    frame["cell_type"] = [("U-2 OS", "HeLa")[row // 3 % 2] for row in range(24)]
    frame["Nucleus"] = (frame["protein_location"] == "nucleus").astype(int)
    frame["Cytosol"] = 1 - frame["Nucleus"]
    frame.to_csv(data / "cells.csv", index=False)
    (data / "channels.txt").unlink()
    return data


def configured(data: Path, weights: Path, labels: object = LABELS) -> Path:
    path = data.parent / "config.yaml"
    path.write_text(CONFIGURATION.format(data=data, weights=weights, labels=labels))
    return path


def test_the_published_two_commands_lead_from_a_configuration_to_features(cells: Path, dino4cells: Callable[..., Any]) -> None:
    config = configured(cells, cells / "model" / "checkpoint.pth")
    trained = dino4cells("train", "--config", config)
    assert trained.code == 0, trained.err
    extracted = dino4cells("extract", "--config", config)
    assert extracted.code == 0, extracted.err
    assert "wrote 24 cells × 192 features" in extracted.out

    features, targets, cell_types, ids = torch.load(cells / "features.pth", weights_only=True)
    frame = pd.read_csv(cells / "cells.csv")
    assert features.shape == (24, 192)
    assert torch.stack(targets).tolist() == frame[sorted(LABELS)].to_numpy().tolist()
    assert (cell_types, ids) == (frame["cell_type"].tolist(), frame["ID"].tolist())
    assert sorted(path.name for path in cells.iterdir()) == ["cells.csv", "features.pth", "images", "metadata.csv", "model"]

    # One image by hand, as the handbook's testing_transfo says.
    image = torch.from_numpy(np.array(Image.open(cells / frame["file"][5]))).permute(2, 0, 1) / 255
    image = (image - image.mean(dim=(1, 2), keepdim=True)) / (image.std(dim=(1, 2), keepdim=True, correction=0) + 1e-7)
    with torch.inference_mode():
        expected = load_model(str(cells / "model")).backbone(image[None])[0]
    torch.testing.assert_close(features[5], expected, rtol=0, atol=1e-4)

    again = dino4cells("extract", "--config", config)
    assert again.code == 2
    assert "features.pth: holds a finished result already" in again.err
    assert dino4cells("extract", "--config", config, "--overwrite").code == 0


def test_a_bare_checkpoint_gives_the_features_of_its_model(cells: Path, dino4cells: Callable[..., Any], tmp_path: Path) -> None:
    weights = tmp_path / "downloads" / "DINO_single_cell_checkpoint.pth"
    assert dino4cells("train", "--config", configured(cells, weights)).code == 0
    weights.parent.mkdir()
    shutil.move(cells / "model" / "checkpoint.pth", weights)

    config = configured(cells, weights, labels=False)
    extracted = dino4cells("extract", "--config", config, "--patch_size", "16")
    assert extracted.code == 0, extracted.err
    features, locations, _, _ = torch.load(cells / "features.pth", weights_only=True)
    assert locations[:2] == ["nucleus", "cytosol"]

    as_directory = dino4cells("extract", "--config", config, "--model", weights, "--output", cells / "features", "--baselines")
    assert as_directory.code == 0, as_directory.err
    table = read_features(str(cells / "features"))
    np.testing.assert_allclose(table.dino, features.numpy(), rtol=0, atol=1e-6)
    assert len(set(table.metadata["dino_model"])) == 1
    assert table.card.model == str(weights)

    alone = dino4cells("extract", "--model", weights, "--data", cells / "cells.csv", "--output", cells / "alone.pth")
    assert alone.code == 0, alone.err
    features, ids = torch.load(cells / "alone.pth", weights_only=True)
    assert len(features) == len(ids) == 24


def test_features_of_a_file_are_classified(cells: Path, dino4cells: Callable[..., Any], tmp_path: Path) -> None:
    config = configured(cells, cells / "model", labels=False)
    assert dino4cells("train", "--config", config).code == 0
    assert dino4cells("extract", "--config", config).code == 0
    words = ("--config", config, "--features", cells / "features.pth", "--output", tmp_path / "judged", "--folds", "2")
    judged = dino4cells("classify", *words)
    assert judged.code == 0, judged.err
    assert "protein_location" in judged.out
    assert (tmp_path / "judged" / "report.html").exists()

    features, _, cell_types, ids = torch.load(cells / "features.pth", weights_only=True)
    torch.save([features, [""] * 24, cell_types, ids], cells / "features.pth")
    empty = dino4cells("classify", *words, "--overwrite")
    assert empty.code == 2
    assert "features.pth, cell 1 (field-0): the column 'protein_location' is empty (and in 23 more)" in empty.err


def test_images_that_cannot_be_read_keep_their_rows_and_are_announced(
    cells: Path, dino4cells: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    config = configured(cells, cells / "model")
    assert dino4cells("train", "--config", config).code == 0
    (cells / "images" / "003.png").write_bytes(b"no image")
    extracted = dino4cells("extract", "--config", config)
    assert extracted.code == 0, extracted.err
    assert "1 of them without features (see the warning)" in extracted.out
    assert "1 of 24 images could not be read; their features are NaN" in caplog.text
    assert "003.png" in caplog.text
    features = torch.load(cells / "features.pth", weights_only=True)[0]
    assert features.isnan().all(dim=1).nonzero().flatten().tolist() == [3]


def test_a_table_without_the_labels_is_refused_before_anything_is_extracted(cells: Path, dino4cells: Callable[..., Any]) -> None:
    config = configured(cells, cells / "model")
    assert dino4cells("train", "--config", config).code == 0
    pd.read_csv(cells / "cells.csv").drop(columns="cell_type").to_csv(cells / "cells.csv", index=False)
    refused = dino4cells("extract", "--config", config)
    assert refused.code == 2
    assert "there is no column 'cell_type'" in refused.err
    assert not list(cells.glob("features.pth*"))


def test_two_processes_write_the_same_file_as_one(cells: Path, tmp_path: Path, tiny_config: MakeConfig) -> None:
    model = str(tmp_path / "model")
    steps.train(tiny_config(epochs=1), data=str(cells), output=model)
    one, two = (str(tmp_path / f"{name}.pth") for name in ("one", "two"))
    steps.extract(model, data=str(cells), output=one)
    card = steps.extract(f"{model}/checkpoint.pth", data=str(cells), output=two, processes=Processes(LocalLauncher(), per_node=2))
    assert card.rows == 24
    first, second = (torch.load(path, weights_only=True) for path in (one, two))
    torch.testing.assert_close(first[0], second[0], rtol=0, atol=1e-5)
    assert first[1] == second[1]
    assert not storage.exists(f"{two}.parts")


def test_an_extraction_that_fails_leaves_nothing_and_the_old_file_whole(cells: Path, tmp_path: Path, tiny_config: MakeConfig) -> None:
    model, output = str(tmp_path / "model"), tmp_path / "f.pth"
    steps.train(tiny_config(epochs=1), data=str(cells), output=model)
    output.write_text("old")
    with pytest.raises(ArtifactError, match="holds a finished result already"):
        steps.extract(model, data=str(cells), output=str(output))
    for image in (cells / "images").iterdir():
        image.write_bytes(b"no image")
    with pytest.raises(DataError):
        steps.extract(model, data=str(cells), output=str(output), overwrite=True)
    assert output.read_text() == "old"
    assert not storage.exists(f"{output}.parts")


def test_a_file_is_written_to_any_storage(cells: Path, tmp_path: Path, tiny_config: MakeConfig) -> None:
    model = str(tmp_path / "model")
    steps.train(tiny_config(epochs=1), data=str(cells), output=model)
    steps.extract(model, data=str(cells), output="memory://published/f.pth")
    assert storage.list_files("memory://published") == ["f.pth"]
    assert read_features("memory://published/f.pth").dino.shape == (24, 192)


@pytest.mark.parametrize(
    ("channels", "keys", "blocks"),
    [
        (3, {"model.image_mode": "single_channel_g"}, (("channel_1",) * 3,)),
        (1, {"model.image_mode": "one_channel"}, (("channel_0",), ("channel_1",), ("channel_2",), ("channel_3",))),
        (1, {"testing_transfo.Get_specific_channel": "[true, {c: 2}]"}, (("channel_0", "channel_1", "channel_2", "channel_3"),)),
        (3, {"embedding.channels": "channel_3,channel_1,channel_0"}, (("channel_3", "channel_1", "channel_0"),)),
    ],
)
def test_a_checkpoint_for_some_of_the_channels_is_used_as_the_configuration_says(
    channels: int, keys: dict[str, str], blocks: tuple[tuple[str, ...], ...], cells: Path, tmp_path: Path, tiny_config: MakeConfig
) -> None:
    torch.save(build_backbone("vit_tiny", 8, 32, channels).state_dict(), tmp_path / "weights.pth")
    output = str(tmp_path / "features")
    card = steps.extract(str(tmp_path / "weights.pth"), config=tiny_config(keys), data=str(cells), output=output)
    assert card.blocks == blocks
    assert np.isfinite(read_features(output).dino).all()


def test_statistics_that_a_checkpoint_does_not_hold_are_asked_for(cells: Path, tmp_path: Path, tiny_config: MakeConfig) -> None:
    torch.save(build_backbone("vit_tiny", 8, 32, 4).state_dict(), tmp_path / "weights.pth")
    config = tiny_config({"testing_transfo.Normalize": "[true, {mean: data, std: data}]"})
    with pytest.raises(ConfigError, match=r"Normalize: asks for the mean .*weights\.pth does not hold; give them"):
        steps.extract(str(tmp_path / "weights.pth"), config=config, data=str(cells), output=str(tmp_path / "features"))


# Starting weights


def test_training_starts_from_given_weights_and_says_so(
    cells: Path, tmp_path: Path, tiny_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    steps.train(tiny_config(epochs=1), data=str(cells), output=first)
    caplog.set_level(logging.INFO)
    # A step of length nearly zero, so that the weights can be compared.
    config = tiny_config(epochs=1, init=first, lr=1e-12, min_lr=0, weight_decay=0, weight_decay_end=0)
    card = steps.train(config, data=str(cells), output=second)
    said = caplog.text
    assert f"Starting from {first} (teacher):" in said
    assert "channels: channel_0 from 0, channel_1 from 1, channel_2 from 2, channel_3 from 3" in said
    assert "head: taken" in said
    assert card.init == load_card(second).init
    assert "\n".join(card.init) in said
    before, after = (load_model(url).backbone.state_dict() for url in (first, second))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-5)


def test_a_resumed_run_goes_on_from_its_checkpoint_and_not_from_the_starting_weights(
    cells: Path, tmp_path: Path, tiny_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    weights = str(tmp_path / "weights")
    steps.train(tiny_config(epochs=1), data=str(cells), output=weights)
    config = tiny_config(epochs=2, init=weights)
    whole = steps.train(config, data=str(cells), output=str(tmp_path / "whole"))
    interrupt_after(2, config, str(cells), tmp_path / "parts")
    caplog.clear()
    caplog.set_level(logging.INFO)
    resumed = steps.train(config, data=str(cells), output=str(tmp_path / "parts"))
    assert "Starting from" not in caplog.text
    assert resumed.init == whole.init
    first, second = (load_model(str(tmp_path / name)).backbone.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(second[name], value) for name, value in first.items())


def interrupt_after(records: int, config: Config, data: str, output: Path) -> None:
    """A run that is asked to stop (SIGTERM) at its n-th logged step."""
    seen: list[int] = []

    def stop(dino: object, samples: int, seconds: float) -> None:
        seen.append(samples)
        if len(seen) == records:
            os.kill(os.getpid(), signal.SIGTERM)

    group = ProcessGroup(0, 1, 0, torch.device("cpu"))
    with pytest.raises(Interrupted):
        fit(config, read_metadata(data), str(output), group, resume_directory=f"{output}.checkpoints", on_record=stop)
