"""Choices of extraction on tiny cells: tokens, blocks, and the channels that the network is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dino4cells import steps
from dino4cells.config import Config
from dino4cells.errors import ConfigError
from dino4cells.features.store import Features, read_features
from dino4cells.models.artifact import load_model
from dino4cells.models.vit import DinoVisionTransformer
from tests.conftest import Finished

WIDTH = 192


@pytest.fixture(scope="module")
def few(draw_cells: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Six cells of two sizes."""
    return draw_cells(tmp_path_factory.mktemp("few") / "data", 6, [(32, 32), (24, 17)], seed=2)


def network_sees(directory: str, file: str, black: tuple[int, ...] = ()) -> torch.Tensor:
    """An image as the handbook's extraction gives it to the network, with some channels black."""
    image = torch.from_numpy(np.array(Image.open(Path(directory, file)))).permute(2, 0, 1).float() / 255
    image[list(black)] = 0
    mean, deviation = image.mean(dim=(1, 2), keepdim=True), image.std(dim=(1, 2), correction=0, keepdim=True)
    return ((image - mean) / (deviation + 1e-7))[None]


def extracted(model: str, data: str, output: Path, config: Config) -> Features:
    steps.extract(model, config=config, data=data, output=str(output))
    return read_features(str(output))


def test_tokens_and_blocks_are_options_of_the_command_and_stand_in_the_card_for_the_untrained_network_too(
    dino4cells: Callable[..., Finished], model: str, few: str, tmp_path: Path
) -> None:
    done = dino4cells(
        *("extract", "--model", model, "--data", few, "--output", tmp_path / "features"),
        *("--tokens", "class_and_patches", "--blocks", 2, "--baselines"),
    )
    assert (done.code, f"6 cells × {4 * WIDTH} features" in done.out) == (0, True), done.err
    features = read_features(str(tmp_path / "features"))
    card = json.loads((tmp_path / "features" / "features.json").read_text())
    assert (card["tokens"], card["last_blocks"], card["embedding_dim"]) == ("class_and_patches", 2, 4 * WIDTH)
    trained = load_model(model)
    for table, network in ((features.dino, trained.backbone), (features.baselines["untrained"], trained.untrained())):
        assert table.shape == (6, 4 * WIDTH)
        assert isinstance(network, DinoVisionTransformer)
        for row, file in enumerate(features.metadata["file"]):
            with torch.inference_mode():
                last = network.forward_features(network_sees(few, file))[0]
            np.testing.assert_allclose(table[row, 2 * WIDTH : 3 * WIDTH], last[0].numpy(), rtol=0, atol=1e-4)
            np.testing.assert_allclose(table[row, 3 * WIDTH :], last[1:].mean(dim=0).numpy(), rtol=0, atol=1e-4)


def test_channels_that_are_not_kept_are_black_to_the_network_and_leave_the_baselines(
    model: str, few: str, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config({"embedding.keep_channels": "nucleus, protein", "embedding.baselines": True})
    features = extracted(model, few, tmp_path / "features", config)
    trained = load_model(model)
    for row, file in enumerate(features.metadata["file"]):
        with torch.inference_mode():
            expected = trained.backbone(network_sees(few, file, black=(0, 3)))[0].numpy()
        np.testing.assert_allclose(features.dino[row], expected, rtol=0, atol=1e-5)
    assert features.baselines["intensity"].shape == (6, 2 * 9)
    assert features.card.blocks == (("protein", "nucleus"),)
    assert features.card.black_channels == ("microtubules", "ER")


def test_of_a_model_of_one_channel_at_a_time_only_the_kept_ones_have_features(
    cells: str, few: str, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    one = str(tmp_path / "model")
    steps.train(tiny_config(epochs=1, image_mode="one_channel"), data=cells, output=one)
    whole = extracted(one, few, tmp_path / "whole", tiny_config(image_mode="one_channel"))
    config = tiny_config({"embedding.keep_channels": ["ER", "protein"]}, image_mode="one_channel")
    some = extracted(one, few, tmp_path / "some", config)
    assert (whole.card.embedding_dim, some.card.embedding_dim) == (4 * WIDTH, 2 * WIDTH)
    assert some.card.blocks == (("protein",), ("ER",))
    expected = np.hstack([whole.dino[:, WIDTH : 2 * WIDTH], whole.dino[:, 3 * WIDTH :]])
    np.testing.assert_allclose(some.dino, expected, rtol=0, atol=1e-5)


def test_channels_that_the_model_does_not_have_or_use_are_refused(
    model: str, few: str, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    with pytest.raises(ConfigError, match=r"keep_channels: the model has no channel 'DNA'; its channels are microtubules, protein"):
        extracted(model, few, tmp_path / "features", tiny_config({"embedding.keep_channels": ["DNA"]}))
    assert not (tmp_path / "features").exists()
