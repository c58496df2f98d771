"""From a table to features in every layout and image mode: what extraction writes equals the network's answer to each input by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dino4cells import steps
from dino4cells.config import Config
from dino4cells.errors import ConfigError, DataError
from dino4cells.features.intensity import STATISTICS
from dino4cells.features.store import Features, read_features
from dino4cells.models.artifact import TrainedModel, load_model

Command = Callable[..., Any]
Train = Callable[..., str]
CHANNELS = ("microtubules", "protein", "nucleus", "ER")
DIM = 192


@pytest.fixture(scope="module", autouse=True)
def _without_umap() -> Iterator[None]:
    """Reports get by with principal components: the compilation of UMAP takes longer than all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "umap", None)
        yield


@pytest.fixture(scope="module")
def train(cells: str, tiny_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains for an epoch and returns the model's URL; keyword arguments are keys of `model`."""

    def make(data: str = cells, **model: object) -> str:
        url = str(tmp_path_factory.mktemp("trained") / "model")
        steps.train(tiny_config(epochs=1, **model), data=data, output=url)
        return url

    return make


def extracted(model: str, data: str, place: Path, config: Config | None = None) -> Features:
    steps.extract(model, config=config, data=data, output=str(place / "features"), baselines=True)
    return read_features(str(place / "features"))


def picture(data: str, file: str) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(Path(data, file)))).permute(2, 0, 1).float() / 255


def tokens(model: TrainedModel, image: torch.Tensor) -> np.ndarray:
    """The network's answer to an image of the channels that it takes, each normalized by itself (the handbook's extraction)."""
    mean, deviation = image.mean(dim=(1, 2), keepdim=True), image.std(dim=(1, 2), correction=0, keepdim=True)
    with torch.inference_mode():
        answer: np.ndarray = model.backbone(((image - mean) / (deviation + 1e-7))[None])[0].numpy()
    return answer


@pytest.mark.parametrize(
    ("mode", "blocks"),
    [
        ("one_channel", [(0,), (1,), (2,), (3,)]),
        ("two_channels", [(0, 1), (1, 1), (2, 1), (3, 1)]),
        ("single_channel_g", [(1, 1, 1)]),
        ("protein_channel", [(1,)]),
    ],
)
def test_features_of_a_mode_are_those_of_its_inputs_side_by_side(
    train: Train, cells: str, tmp_path: Path, mode: str, blocks: list[tuple[int, ...]]
) -> None:
    url = train(image_mode=mode)
    model, features = load_model(url), extracted(url, cells, tmp_path)

    assert (model.card.image_mode, model.card.in_channels, model.card.channels) == (mode, len(blocks[0]), CHANNELS)
    assert features.dino.shape == (24, DIM * len(blocks))
    assert features.card.embedding_dim == DIM * len(blocks)
    assert features.card.blocks == tuple(tuple(CHANNELS[place] for place in block) for block in blocks)
    for row in (0, 7, 23):
        image = picture(cells, features.metadata["file"][row])
        by_hand = np.concatenate([tokens(model, image[list(block)]) for block in blocks])
        np.testing.assert_allclose(features.dino[row], by_hand, rtol=0, atol=1e-5)
    kept = sorted({place for block in blocks for place in block})
    assert features.baselines["untrained"].shape == features.dino.shape
    assert features.baselines["intensity"].shape == (24, len(STATISTICS) * len(kept))
    np.testing.assert_allclose(
        features.baselines["intensity"][0, 0], picture(cells, features.metadata["file"][0])[kept[0]].mean(), atol=1e-6
    )


def test_stretched_images_are_stretched_in_extraction_too(train: Train, cells: str, tmp_path: Path) -> None:
    url = train(image_mode="unnormalized_4_channels")
    features, model = extracted(url, cells, tmp_path), load_model(url)
    image = picture(cells, features.metadata["file"][3])
    low, high = image.amin(dim=(1, 2), keepdim=True), image.amax(dim=(1, 2), keepdim=True)
    stretched = torch.floor((image - low) * 255 / (high - low) + 1e-4) / 255
    np.testing.assert_allclose(features.dino[3], tokens(model, stretched), rtol=0, atol=1e-4)


def test_another_image_mode_than_the_models_is_refused(
    train: Train, cells: str, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    url = train(image_mode="one_channel")
    with pytest.raises(ConfigError, match=r"model\.image_mode is two_channels and the model was trained with one_channel; leave it out"):
        extracted(url, cells, tmp_path, tiny_config(image_mode="two_channels"))


def test_a_model_of_some_channels_takes_them_from_data_of_all_when_told(
    train: Train, cells: str, tmp_path: Path, dino4cells: Command
) -> None:
    url = train(channels=["nucleus", "protein"])
    model = load_model(url)
    assert (model.card.channels, model.card.in_channels) == (("nucleus", "protein"), 2)
    words = ["extract", "--model", url, "--data", cells, "--output", tmp_path / "features"]
    refused = dino4cells(*words)
    assert refused.code == 2
    assert "the channels are microtubules, protein, nucleus, ER and the model was trained on nucleus, protein" in refused.err
    assert "add --channels nucleus,protein." in refused.err
    told = dino4cells(*words, "--channels", "nucleus,protein")
    assert told.code == 0, told.err
    features = read_features(str(tmp_path / "features"))
    assert features.card.channels_of_data == ("nucleus", "protein")
    by_hand = tokens(model, picture(cells, features.metadata["file"][5])[[2, 1]])
    np.testing.assert_allclose(features.dino[5], by_hand, rtol=0, atol=1e-5)


def test_channels_of_other_names_and_order_give_the_same_features_when_mapped(
    train: Train, cells: str, draw_cells: Callable[..., str], tmp_path: Path, dino4cells: Command
) -> None:
    url = train()
    shuffled = draw_cells(tmp_path / "data", 24)
    for path in Path(shuffled, "images").iterdir():
        Image.fromarray(np.array(Image.open(path))[..., [2, 0, 3, 1]], "RGBA").save(path)
    Path(shuffled, "channels.txt").write_text("DAPI\nmicrotubules\nER\nantibody\n")
    output = tmp_path / "features"
    words = ["extract", "--model", url, "--data", shuffled, "--output", output, "--channels", "nucleus=DAPI,protein=antibody"]
    answer = dino4cells(*words)
    assert answer.code == 0, answer.err
    np.testing.assert_allclose(read_features(str(output)).dino, extracted(url, cells, tmp_path / "plain").dino, rtol=0, atol=1e-6)
    judged = dino4cells("classify", "--features", output, "--data", shuffled, "--output", tmp_path / "classes", "--folds", 2)
    assert judged.code == 0, judged.err


def test_data_without_names_are_taken_in_the_models_order_with_a_warning(
    train: Train, draw_cells: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = draw_cells(tmp_path / "data", 6)
    Path(data, "channels.txt").unlink()
    extracted(train(), data, tmp_path)
    assert f"{data}/metadata.csv: the data do not name their channels; they are taken for the model's, in this order: " in caplog.text


def test_a_transform_that_changes_the_number_of_channels_is_refused(
    train: Train, cells: str, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config({"testing_transfo.Get_specific_channel": "[true, {c: 0}]"})
    with pytest.raises(ConfigError, match="gives the network 1 channels of 4 in image mode normalized, and the model takes 4"):
        extracted(train(), cells, tmp_path, config)


# Layouts


@pytest.fixture
def split(cells: str, tmp_path: Path) -> Path:
    """The cells, a file per channel, whose names are made of columns."""
    place = tmp_path / "split"
    frame = pd.read_csv(Path(cells, "metadata.csv"), dtype=str)
    frame["cell"] = [f"{row:03d}" for row in range(len(frame))]
    for cell, file in zip(frame["cell"], frame.pop("file"), strict=True):
        (place / cell).mkdir(parents=True)
        array = np.array(Image.open(Path(cells, file)))
        for number, name in enumerate(CHANNELS):
            Image.fromarray(array[..., number]).save(place / cell / f"{name}.tif")
    frame.to_csv(place / "metadata.csv", index=False)
    (place / "channels.txt").write_text("\n".join(CHANNELS) + "\n")
    return place


def test_files_of_single_channels_give_the_features_of_whole_images(train: Train, cells: str, split: Path, tmp_path: Path) -> None:
    whole = train()
    pattern = {"file_pattern": "{cell}/{channel}.tif"}
    url = train(data=str(split), **pattern)
    model, same = load_model(url), load_model(whole).backbone.state_dict()
    assert model.card.channels == CHANNELS
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, same[name]), name
    features = extracted(url, str(split), tmp_path)
    np.testing.assert_allclose(features.dino, extracted(whole, cells, tmp_path / "whole").dino, rtol=0, atol=1e-6)
    assert features.card.layout.file_pattern == "{cell}/{channel}.tif"


def test_cell_painting_strips_are_trained_on_extracted_and_shown(
    train: Train, tiny_config: Callable[..., Config], tmp_path: Path, dino4cells: Command
) -> None:
    place, random = tmp_path / "strips", np.random.default_rng(0)
    place.mkdir()
    for row in range(24):
        Image.fromarray(random.integers(0, 256, (16, 16 * 6), dtype=np.uint8)).save(place / f"{row}.png")
    lines = [f"{row}.png,16,{('DMSO', 'taxol')[row % 2]}" for row in range(24)]
    (place / "metadata.csv").write_text("Image_Name,channel_width,Target\n" + "\n".join(lines) + "\n")
    (place / "0.png").write_bytes(b"")

    strips = {"datatype": "CellPainting", "image_mode": "normalized_4_channels", "num_channels": 5, "max_bad_images": 0.1}
    url = train(data=str(place), **strips)
    assert load_model(url).card.in_channels == 5
    features = extracted(url, str(place), tmp_path)
    assert features.metadata["dino_error"].notna().tolist() == [True] + [False] * 23
    array = np.array(Image.open(place / "9.png")).reshape(16, 6, 16).transpose(1, 0, 2)[:5]
    by_hand = tokens(load_model(url), torch.from_numpy(array / 255).float())
    np.testing.assert_allclose(features.dino[9], by_hand, rtol=0, atol=1e-5)
    words = ["classify", "--features", tmp_path / "features", "--data", place, "--output", tmp_path / "classes", "--label", "Target"]
    answer = dino4cells(*words, "--folds", 2)
    assert answer.code == 0, answer.err


def test_strips_without_their_columns_are_refused_before_anything_runs(train: Train, cells: str) -> None:
    with pytest.raises(DataError, match="there is no column 'Image_Name'"):
        train(data=cells, datatype="CellPainting")
