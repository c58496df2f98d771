"""`dino4cells export`: the file computes what the model computes, in another runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import dino4cells as python
from dino4cells import steps
from dino4cells.api.settings import resolved
from dino4cells.config import Config
from dino4cells.errors import ConfigError
from dino4cells.models.backbones import build_backbone
from dino4cells.steps.export import DESCRIPTION, export, network_of


@pytest.fixture(scope="module")
def model(tiny_config: Callable[..., Config], cells: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that normalizes by the statistics of its data."""
    url = str(tmp_path_factory.mktemp("exported") / "model")
    by_data = {"testing_transfo.self_normalize": False, "testing_transfo.Normalize": [True, {"mean": "data", "std": "data"}]}
    steps.train(tiny_config(by_data, epochs=1), data=cells, output=url)
    return url


def test_the_onnx_file_gives_the_models_features_for_any_number_of_images(
    model: str, tmp_path: Path, dino4cells: Callable[..., object]
) -> None:
    output = tmp_path / "net.onnx"
    done = dino4cells("export", model, "--format", "onnx", "--output", output, "--side", 24)
    assert done.code == 0, done.err
    assert "microtubules, protein, nucleus, ER" in done.out
    assert float(done.out.split()[-1]) < 1e-4
    session = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["channels"]) == ["microtubules", "protein", "nucleus", "ER"]
    assert json.loads(said["normalization"])[-1][0] == "Normalize"
    loaded = python.load_model(model)
    for count in (1, 5):
        images = np.random.default_rng(count).random((count, 4, 24, 24), dtype=np.float32)
        (features,) = session.run(["features"], {"images": images})
        np.testing.assert_allclose(features, loaded.embed(images), atol=1e-4, rtol=0)
    refused = dino4cells("export", model, "--output", output)
    assert (refused.code, "is there already" in refused.err) == (2, True)


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:FutureWarning")  # as readers of such files still call it
def test_the_torchscript_file_gives_the_models_features_for_any_number_of_images(
    model: str, tmp_path: Path, dino4cells: Callable[..., object]
) -> None:
    output = tmp_path / "net.pt"
    done = dino4cells("export", model, "--output", output, "--side", 24, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["difference"] < 1e-5
    described = {DESCRIPTION: ""}
    network = torch.jit.load(output, _extra_files=described)
    assert json.loads(json.loads(described[DESCRIPTION])["channels"]) == ["microtubules", "protein", "nucleus", "ER"]
    loaded = python.load_model(model)
    for count in (1, 5):
        images = torch.rand(count, 4, 24, 24, generator=torch.Generator().manual_seed(count))
        np.testing.assert_allclose(network(images).detach(), loaded.embed(images), atol=1e-4, rtol=0)


def test_what_is_exported_of_a_network_that_sees_one_channel_after_the_other_is_all_of_them(tmp_path: Path) -> None:
    checkpoint = str(tmp_path / "net.pth")
    torch.save(build_backbone("xresnet18", 8, 32, 1, seed=3).state_dict(), checkpoint)
    config = {"model": {"arch": "xresnet18", "image_mode": "one_channel", "channels": ["DNA", "actin"]}}
    config["testing_transfo"] = {"self_normalize": [True]}
    model = python.load_model(checkpoint, config)
    images = torch.rand(2, 2, 32, 32)
    computed = network_of(model.trained, resolved(config, "embedding", {}))(images)
    assert computed.shape == (2, 2 * 512)
    np.testing.assert_allclose(computed.detach(), model.embed(images), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "overrides", "message"),
    [
        ({"format": ""}, {}, "net: the ending '' says no format; use onnx (.onnx) or torchscript (.pt)."),
        ({"format": "tflite"}, {}, "--format: tflite is not written here; use onnx (.onnx) or torchscript (.pt)."),
        ({"side": 4}, {}, "4 px is smaller than the model takes; give 8 or more."),
        ({}, {"testing_transfo.Single_cell_centered": [True, [32]]}, "Single_cell_centered: normalization alone is exported"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_sentence(
    model: str, tmp_path: Path, options: dict[str, object], overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        export(model, output=str(tmp_path / "net"), config=steps.configuration_of(model, overrides), **{"format": "onnx", **options})
    assert message in str(refused.value)
    assert list(tmp_path.iterdir()) == []
