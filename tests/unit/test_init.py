"""Starting weights: every kind of file, channels, positions, head, and what is said about them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision

from dino4cells.config import Config
from dino4cells.errors import CheckpointError, ConfigError
from dino4cells.models.backbones import build_backbone
from dino4cells.models.head import DINONetwork
from dino4cells.models.init import plan_channels, start_from
from dino4cells.models.vit import DinoVisionTransformer, interpolate_positions
from dino4cells.training.loop import build_network

MakeConfig = Callable[..., Config]
RGB = 3
IMAGE = torch.rand(2, RGB, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def source(tiny_config: MakeConfig) -> DINONetwork:
    """DINO's network on photographs: three channels, patches of 8 px, positions of 16 px."""
    network = build_network(tiny_config(seed=7).model, RGB).eval()
    torch.nn.init.normal_(network.backbone.pos_embed)
    return network


def full_checkpoint(network: DINONetwork) -> dict[str, object]:
    """As DINO's main script saves it; the student differs, so that a test sees which one was taken."""
    state = network.state_dict()
    return {
        "student": {f"module.{name}": value + 1 for name, value in state.items()},
        "teacher": state,
        "optimizer": {"state": {}, "param_groups": [{"lr": np.float64(1e-6), "params": [0]}]},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_tiny", output_dir=Path("/checkpoint/run"), lr=0.0005),
        "dino_loss": {"center": torch.zeros(1, 64)},
    }


def written(kind: str, network: DINONetwork, directory: Path) -> str:
    """The same weights in every form that they are found in."""
    backbone = network.backbone.state_dict()
    contents: dict[str, object] = {
        "full.pth": full_checkpoint(network),
        "backbone.pth": backbone,
        "student.pth": {"student": {f"module.{name}": value for name, value in network.state_dict().items()}},
        "wrapped.pth": {"state_dict": {f"backbone.{name}": value for name, value in backbone.items()}},
        "deit.pth": {"model": {**backbone, "head.weight": torch.zeros(1000, 192), "head.bias": torch.zeros(1000)}},
    }
    path = directory / kind
    if kind.endswith(".safetensors"):
        safetensors.torch.save_file({**backbone, "head.weight": torch.zeros(10, 192)}, path)
    else:
        torch.save(contents[kind], path)
    return str(path)


def started(config: Config, channels: tuple[str, ...]) -> tuple[DINONetwork, str]:
    network = build_network(config.model, len(channels)).eval()
    return network, "\n".join(start_from(network, config, channels))


@pytest.mark.parametrize("kind", ["full.pth", "backbone.pth", "student.pth", "wrapped.pth", "deit.pth", "timm.safetensors"])
def test_features_at_the_start_are_those_of_the_weights(kind: str, source: DINONetwork, tmp_path: Path, tiny_config: MakeConfig) -> None:
    config = tiny_config(init=written(kind, source, tmp_path))
    network, said = started(config, ("channel_0", "channel_1", "channel_2"))
    with torch.inference_mode():
        torch.testing.assert_close(network.backbone(IMAGE), source.backbone(IMAGE), rtol=0, atol=0)
    assert "backbone: all 150 tensors of vit_tiny" in said
    assert "channels: channel_0 from 0, channel_1 from 1, channel_2 from 2" in said
    assert "positions: 2 × 2, as they are" in said
    assert ("not taken: head.weight" in said) == (kind in ("deit.pth", "timm.safetensors"))


def test_timms_own_network_is_taken(tmp_path: Path, tiny_config: MakeConfig) -> None:
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5).eval()
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "timm.safetensors")
    config = tiny_config(init=str(tmp_path / "timm.safetensors"), patch_size=16, image_size=32)
    network, _ = started(config, ("channel_0", "channel_1", "channel_2"))
    image = torch.rand(2, RGB, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network.backbone(image), theirs.forward_features(image)[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_residual_network_of_torchvision_is_taken_with_its_statistics(ending: str, tmp_path: Path, tiny_config: MakeConfig) -> None:
    theirs = torchvision.models.resnet18(weights=None).eval()
    torch.nn.init.normal_(theirs.bn1.running_mean)
    path = tmp_path / f"resnet.{ending}"
    (torch.save if ending == "pth" else safetensors.torch.save_file)(theirs.state_dict(), path)
    config = tiny_config(arch="resnet18", init=str(path), init_channels="DNA=0,RNA=1,ER=2")
    network, said = started(config, ("DNA", "RNA", "ER"))
    theirs.fc = torch.nn.Identity()
    image = torch.rand(2, RGB, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network.eval().backbone(image), theirs(image))
    assert re.search(r"not taken: fc\.\w+, fc\.\w+ \(a classifier\)", said)


def test_a_channel_map_sees_in_our_channels_what_they_saw_in_theirs(source: DINONetwork, tmp_path: Path, tiny_config: MakeConfig) -> None:
    config = tiny_config(init=written("full.pth", source, tmp_path), init_channels="protein=1, nucleus=2")
    network, said = started(config, ("nucleus", "protein"))
    theirs = IMAGE.clone()
    theirs[:, 0] = 0
    with torch.inference_mode():
        torch.testing.assert_close(network.backbone(theirs[:, [2, 1]]), source.backbone(theirs), rtol=1e-5, atol=1e-5)
    assert "channels: nucleus from 2, protein from 1" in said


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("asked", ["", "mean"])
def test_the_mean_answers_to_one_image_in_all_channels_as_theirs_does(
    channels: int, asked: str, source: DINONetwork, tmp_path: Path, tiny_config: MakeConfig
) -> None:
    config = tiny_config(init=written("backbone.pth", source, tmp_path), init_channels=asked or None)
    network, said = started(config, tuple(f"stain {number}" for number in range(channels)))
    grey = IMAGE[:, :1]
    with torch.inference_mode():
        torch.testing.assert_close(
            network.backbone(grey.expand(-1, channels, -1, -1)), source.backbone(grey.expand(-1, RGB, -1, -1)), rtol=1e-4, atol=1e-4
        )
    assert f"stain {channels - 1} from the mean of their 3" in said
    assert ("name theirs in model.init_channels" in said) == (not asked)


def test_channels_that_are_not_in_the_map_get_the_mean(source: DINONetwork, tmp_path: Path, tiny_config: MakeConfig) -> None:
    config = tiny_config(init=written("backbone.pth", source, tmp_path), init_channels="protein=1")
    network, said = started(config, ("ER", "protein"))
    ours, theirs = (backbone.patch_embed.proj.weight for backbone in (network.backbone, source.backbone))
    assert torch.equal(ours[:, 1], theirs[:, 1])
    torch.testing.assert_close(ours[:, 0], theirs.mean(dim=1) * 3 / 2)
    assert "channels: protein from 1; ER from the mean of their 3" in said


@pytest.mark.parametrize(
    ("asked", "ours", "theirs", "sources"),
    [
        ("", ("nucleus", "ER"), ("ER", "protein", "nucleus"), (2, 0)),
        ("", ("nucleus", "membrane"), ("ER", "protein", "nucleus"), (2, None)),
        ("", ("channel_0", "channel_1", "channel_2"), ("ER", "protein", "nucleus"), (None, None, None)),
        ("", ("a", "b", "c"), None, (None, None, None)),
        ("", ("channel_0", "channel_1", "channel_2"), None, (0, 1, 2)),
        ("", ("channel_0", "channel_1"), None, (None, None)),
        ("mean", ("channel_0", "channel_1", "channel_2"), None, (None, None, None)),
        ("nucleus=protein", ("nucleus", "ER"), ("ER", "protein", "nucleus"), (1, None)),
    ],
)
def test_names_decide_before_order_and_order_counts_only_where_nobody_has_names(
    asked: str, ours: tuple[str, ...], theirs: tuple[str, ...] | None, sources: tuple[int | None, ...], tiny_config: MakeConfig
) -> None:
    assert plan_channels(tiny_config(init_channels=asked or None), ours, 3, theirs).sources == sources


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("protien=1", r"model.init_channels: 'protien' is none of our channels \(nucleus, protein\); did you mean 'protein'\?"),
        ("protein=3", r"model.init_channels: '3' is none of their channels; these weights have 0 to 2"),
        ("protein=nuclues", r"0 to 2 or ER, protein, nucleus; did you mean 'nucleus'\?"),
        ("protein", r"model.init_channels: 'protein' is no pair"),
    ],
)
def test_a_channel_that_is_not_there_is_refused_with_the_nearest_one(asked: str, words: str, tiny_config: MakeConfig) -> None:
    theirs = ("ER", "protein", "nucleus") if "nuclues" in asked else None
    with pytest.raises(ConfigError, match=words):
        plan_channels(tiny_config(init_channels=asked), ("nucleus", "protein"), 3, theirs)


def test_positions_are_interpolated_to_our_grid(source: DINONetwork, tmp_path: Path, tiny_config: MakeConfig) -> None:
    config = tiny_config(init=written("full.pth", source, tmp_path), image_size=40)
    network, said = started(config, ("channel_0", "channel_1", "channel_2"))
    assert isinstance(source.backbone, DinoVisionTransformer)
    assert torch.equal(network.backbone.pos_embed, interpolate_positions(source.backbone.pos_embed, 5, 5))
    image = torch.rand(1, RGB, 40, 40)
    with torch.inference_mode():
        torch.testing.assert_close(network.backbone(image), source.backbone(image))
    assert "positions: 2 × 2, interpolated to 5 × 5" in said


def test_the_head_is_taken_where_it_has_our_shape(source: DINONetwork, tmp_path: Path, tiny_config: MakeConfig) -> None:
    url, channels = written("full.pth", source, tmp_path), ("channel_0", "channel_1", "channel_2")
    network, said = started(tiny_config(init=url), channels)
    assert all(torch.equal(value, source.head.state_dict()[name]) for name, value in network.head.state_dict().items())
    assert "head: taken, 8 tensors, 64 prototypes" in said

    network, said = started(tiny_config(init=url, out_dim=32), channels)
    assert torch.equal(network.head.mlp[0].weight, build_network(tiny_config(out_dim=32).model, RGB).head.mlp[0].weight)
    assert "head: not taken, is of another shape (64 prototypes, ours 32), starts at random" in said

    _, said = started(tiny_config(init=written("backbone.pth", source, tmp_path)), channels)
    assert "head: not in the file, starts at random" in said


def test_prototypes_of_length_one_stay_so_whatever_the_file_says(source: DINONetwork, tmp_path: Path, tiny_config: MakeConfig) -> None:
    state = {name: value * 2 if name.endswith("weight_g") else value for name, value in source.state_dict().items()}
    torch.save({"teacher": state}, tmp_path / "long.pth")
    network, _ = started(tiny_config(init=str(tmp_path / "long.pth")), ("channel_0", "channel_1", "channel_2"))
    assert (network.head.last_layer.weight_g == 1).all()
    network, _ = started(tiny_config(init=str(tmp_path / "long.pth"), norm_last_layer=False), ("channel_0", "channel_1", "channel_2"))
    assert (network.head.last_layer.weight_g == 2).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arch": "vit_small"}, r"model.init: .*full\.pth has tokens of 192 features and model.arch, vit_small, of 384"),
        ({"patch_size": 16}, r"model.init: .*full\.pth has patches of 8 px and model.patch_size is 16"),
        ({"arch": "resnet18"}, r"model.init: .*full\.pth is a vision transformer and model.arch, resnet18, is none"),
    ],
)
def test_weights_of_another_network_are_refused_with_both_sizes(
    changes: dict[str, object], words: str, source: DINONetwork, tmp_path: Path, tiny_config: MakeConfig
) -> None:
    with pytest.raises(ConfigError, match=words):
        started(tiny_config(init=written("full.pth", source, tmp_path), **changes), ("a", "b", "c"))


def test_tensors_that_are_missing_or_superfluous_are_named(source: DINONetwork, tmp_path: Path, tiny_config: MakeConfig) -> None:
    state = source.backbone.state_dict()
    torch.save({name: value for name, value in state.items() if not name.startswith("blocks.11.")}, tmp_path / "short.pth")
    with pytest.raises(CheckpointError, match=r"short\.pth: is no vit_tiny: it lacks 'blocks.11.norm1.weight', .* and 9 more"):
        started(tiny_config(init=str(tmp_path / "short.pth")), ("a", "b", "c"))
    torch.save({**state, "reg_token": torch.zeros(1, 4, 192)}, tmp_path / "more.pth")
    with pytest.raises(CheckpointError, match=r"more\.pth: is no vit_tiny: it has 'reg_token' besides"):
        started(tiny_config(init=str(tmp_path / "more.pth")), ("a", "b", "c"))


def test_an_xresnet_is_taken_without_the_classifier_that_the_published_one_has(tmp_path: Path, tiny_config: MakeConfig) -> None:
    theirs = build_backbone("xresnet18", 16, 224, RGB, seed=3)
    state = {f"module.backbone.{name}": value for name, value in theirs.state_dict().items()}
    torch.save({"teacher": {**state, "module.backbone.10.weight": torch.zeros(1000, 512)}}, tmp_path / "x.pth")
    network, said = started(tiny_config(arch="xresnet18", init=str(tmp_path / "x.pth")), ("channel_0", "channel_1", "channel_2"))
    assert torch.equal(network.backbone.state_dict()["0.0.weight"], theirs.state_dict()["0.0.weight"])
    assert "not taken: 10.weight (a classifier)" in said
