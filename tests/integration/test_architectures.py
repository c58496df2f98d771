"""Networks with batch norm from training to features, on a few tiny cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training_alone import ALONE
from training_alone import run as train

from dino4cells import steps
from dino4cells.config import Config
from dino4cells.data.dataset import Batch, CellImages
from dino4cells.data.metadata import read_metadata
from dino4cells.data.source import plain_source
from dino4cells.errors import ConfigError, Interrupted
from dino4cells.features.store import read_features
from dino4cells.models.artifact import load_model
from dino4cells.training import checkpoint as checkpoints
from dino4cells.training.loop import DINO
from dino4cells.training.schedules import Schedules

MakeConfig = Callable[..., Config]
NETWORKS = {
    "xresnet18": {"arch": "xresnet18"},
    "resnet18": {"arch": "resnet18"},
    "head": {"arch": "vit_tiny", "use_bn_in_head": True, "drop_path_rate": 0.1},
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=list(NETWORKS))
def trained(request: pytest.FixtureRequest, tiny_config: MakeConfig, cells: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of an uninterrupted run, six steps; `name` is the network's."""
    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp(request.param) / "model"
    train(tiny_config(**NETWORKS[request.param]), cells, output)
    return output


def network_of(output: Path) -> dict[str, object]:
    """The settings that an artifact was trained with."""
    return next(settings for name, settings in NETWORKS.items() if output.parent.name.startswith(name))


def tensors(value: object, where: str = "") -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint by its place."""
    if isinstance(value, torch.Tensor):
        return {where: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return {place: tensor for key, item in items for place, tensor in tensors(item, f"{where}.{key}").items()}


def test_a_resumed_run_with_batch_norm_equals_an_uninterrupted_one(
    trained: Path, tiny_config: MakeConfig, cells: str, tmp_path: Path
) -> None:
    config = tiny_config(**network_of(trained))
    with pytest.raises(Interrupted):
        train(config, cells, tmp_path / "model", stop_after=3)
    torch.manual_seed(99)
    train(config, cells, tmp_path / "model")
    one, other = (tensors(checkpoints.load(str(output / "checkpoint.pth"))) for output in (trained, tmp_path / "model"))
    assert list(one) == list(other)
    assert any("running_var" in name for name in one)
    assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []
    assert (trained / "model.safetensors").read_bytes() == (tmp_path / "model/model.safetensors").read_bytes()


def test_extraction_gives_the_features_that_the_teacher_has_in_evaluation(trained: Path, cells: str, tmp_path: Path) -> None:
    card = steps.extract(str(trained), data=cells, output=str(tmp_path / "features"), baselines=True)
    assert card.failed_rows == 0
    features, model = read_features(str(tmp_path / "features")), load_model(str(trained))
    assert features.dino.shape == (24, model.backbone.embed_dim) == features.baselines["untrained"].shape
    assert not any(module.training for module in model.backbone.modules())
    for row in (0, 17):
        image = torch.from_numpy(np.array(Image.open(Path(cells, features.metadata["file"][row])))).permute(2, 0, 1).float() / 255
        mean, deviation = image.mean(dim=(1, 2), keepdim=True), image.std(dim=(1, 2), correction=0, keepdim=True)
        with torch.inference_mode():
            alone = model.backbone(((image - mean) / (deviation + 1e-7))[None])[0]
        np.testing.assert_allclose(features.dino[row], alone.numpy(), rtol=1e-4, atol=1e-5)


def test_attention_maps_of_a_model_are_those_of_its_vision_transformer(trained: Path) -> None:
    model = load_model(str(trained))
    images = torch.rand(2, 4, 24, 32)
    if model.card.arch == "vit_tiny":
        assert model.attention_maps(images).shape == (2, 3, 3, 4)
    else:
        with pytest.raises(ConfigError, match="has no class token"):
            model.attention_maps(images)


# Steps


def dino(config: Config) -> DINO:
    return DINO(config, 4, Schedules.from_config(config.model, 24, 24 * config.model.epochs, 8), ALONE)


def batch(cells: str, indices: range) -> Batch:
    return CellImages(plain_source(read_metadata(cells).urls, 4)).__getitems__([(0, index) for index in indices])


def test_the_teacher_keeps_statistics_of_its_own_batches_and_averages_parameters_alone(tiny_config: MakeConfig, cells: str) -> None:
    network = dino(tiny_config(arch="xresnet18", momentum_teacher=0.9))
    stem = network.teacher.backbone[0]
    seen: list[torch.Tensor] = []
    stem[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    images, before = batch(cells, range(8)), network.teacher.backbone[0][0].weight.clone()
    network.step(images, 0)
    torch.testing.assert_close(stem[1].running_mean, 0.1 * seen[0].mean(dim=(0, 2, 3)))
    torch.testing.assert_close(stem[1].running_var, 0.9 + 0.1 * seen[0].transpose(0, 1).flatten(1).var(dim=1))
    assert not torch.equal(stem[1].running_mean, network.student.backbone[0][1].running_mean)
    torch.testing.assert_close(stem[0].weight, 0.9 * before + 0.1 * network.student.backbone[0][0].weight)
    assert int(stem[1].num_batches_tracked) == 1


def test_a_batch_of_one_image_is_learnt_from_and_one_of_none_changes_nothing(tiny_config: MakeConfig, cells: str) -> None:
    network = dino(tiny_config({"local_crops_number": 1}, arch="resnet18", use_bn_in_head=True, warmup_epochs=0))
    before = {name: value.clone() for name, value in network.student.state_dict().items()}
    assert network.step(batch(cells, range(0)), 0).item() == 0
    assert all(torch.equal(before[name], value) for name, value in network.student.state_dict().items())
    assert network.step(batch(cells, range(1)), 8).item() > 0
    state = network.student.state_dict()
    assert all(value.isfinite().all() for value in state.values())
    assert not torch.equal(state["backbone.conv1.weight"], before["backbone.conv1.weight"])


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_convolutional_networks_learn_with_the_other_optimizers(optimizer: str, tiny_config: MakeConfig, cells: str) -> None:
    network = dino(tiny_config(arch="xresnet18", optimizer=optimizer, lr=0.3, warmup_epochs=0, weight_decay=1e-4, weight_decay_end=1e-4))
    losses = [network.step(batch(cells, range(8)), 0).item() for _ in range(6)]
    assert losses[-1] < losses[0]


def test_convolutional_networks_compute_in_float32_on_a_cpu_whatever_it_has(tiny_config: MakeConfig, cells: str) -> None:
    losses = [
        dino(tiny_config(arch="resnet18", precision=precision)).step(batch(cells, range(8)), 0).item() for precision in ("auto", "float32")
    ]
    assert losses[0] == losses[1]
    with pytest.raises(ConfigError, match=r"model\.precision: resnet18 cannot be trained in bfloat16 on a CPU; use auto or float32"):
        dino(tiny_config(arch="resnet18", precision="bfloat16"))


def test_bfloat16_loss_with_batch_norm_in_the_head_is_close_to_that_of_float32(tiny_config: MakeConfig, cells: str) -> None:
    def losses(precision: str) -> list[float]:
        network = dino(tiny_config(use_bn_in_head=True, precision=precision, lr=0.001))
        return [network.step(batch(cells, range(8 * step, 8 * step + 8)), 8 * step).item() for step in range(2)]

    assert losses("bfloat16") == pytest.approx(losses("float32"), rel=5e-3)


def test_views_that_are_too_small_for_the_network_are_refused_where_they_are_made(tiny_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"global_transfo1: its views have 16 px, and inception_v3 needs at least 75; make them larger"):
        dino(tiny_config(arch="inception_v3"))
    with pytest.raises(ConfigError, match=r"local_transfo: its views have 8 px, and vit_tiny needs at least 16"):
        dino(tiny_config(patch_size=16))


def test_the_network_takes_as_many_channels_as_the_views_have(tiny_config: MakeConfig, cells: str) -> None:
    network = dino(tiny_config({"flip_and_color_jitter_transforms.Get_specific_channel.c": 1}, arch="resnet18"))
    assert network.in_channels == network.student.backbone.conv1.in_channels == 1
    assert network.step(batch(cells, range(4)), 0).isfinite()
