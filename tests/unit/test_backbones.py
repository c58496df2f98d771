"""Every architecture that `model.arch` names: what it is, what it takes, what it gives."""

from __future__ import annotations

import re

import pytest
import timm
import torch
import torchvision
from torch import nn

from dino4cells.config import parse_config
from dino4cells.config.architectures import ARCHITECTURES, OF_ONE_SIZE, TORCHVISION, XRESNETS
from dino4cells.errors import ConfigError
from dino4cells.models.backbone import Backbone
from dino4cells.models.backbones import build_backbone

# One of each family, the smallest.
FAMILIES = (
    "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf",
    "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "xresnet18",
)  # fmt: skip
# Families whose weights are drawn the smaller, the more channels a layer sees.
BY_INPUTS = ("alexnet", "densenet", "shufflenet", "squeezenet", "swin", "xresnet")


@pytest.fixture
def without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks without values, which are built in no time however large they are."""
    parameter, buffer = nn.Module.register_parameter, nn.Module.register_buffer

    def shape_of(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else tensor.detach().to("meta")

    def register_parameter(self: nn.Module, name: str, value: nn.Parameter | None) -> None:
        parameter(self, name, None if value is None else nn.Parameter(shape_of(value), value.requires_grad))

    def register_buffer(self: nn.Module, name: str, value: torch.Tensor | None, persistent: bool = True) -> None:
        buffer(self, name, shape_of(value), persistent)

    monkeypatch.setattr(nn.Module, "register_parameter", register_parameter)
    monkeypatch.setattr(nn.Module, "register_buffer", register_buffer)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Names


def test_every_classification_network_of_torchvision_is_either_offered_or_known_to_take_one_size() -> None:
    assert sorted((*TORCHVISION, *OF_ONE_SIZE)) == sorted(torchvision.models.list_models(module=torchvision.models))


@pytest.mark.parametrize(("written", "meant"), [("deit_small", "vit_small"), ("deit_base", "vit_base"), ("resnet50", "resnet50")])
def test_a_configuration_names_an_architecture_or_its_alias(written: str, meant: str) -> None:
    assert parse_config(f"model:\n  arch: {written}\n").model.arch == meant


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet500", r"line 2: model\.arch must be vit_tiny, .* such as resnet50, not 'resnet500'; did you mean resnet50\?"),
        ("deit_smal", r"did you mean deit_small\?"),
        ("vit_b_16", r"line 2: model\.arch must be a network that takes views of any size, not 'vit_b_16'"),
    ],
)
def test_an_architecture_that_is_not_offered_is_refused_with_line_and_nearest_name(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(f"model:\n  arch: {name}\n")


def test_sizes_of_patches_mean_nothing_to_other_networks_than_vision_transformers() -> None:
    model = parse_config("model:\n  arch: resnet18\n  patch_size: 16\n  image_size: 100\n").model
    assert build_backbone(model.arch, model.patch_size, model.image_size, 1).embed_dim == 512


# What they take and give


@pytest.mark.usefixtures("without_memory")
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_embeds_images_of_five_channels_from_its_smallest_size_on(arch: str) -> None:
    backbone = build_backbone(arch, 16, 32, 5).eval()
    side = backbone.smallest_side
    with torch.no_grad():
        embeddings = backbone(torch.empty(2, 5, side, side + 3, device="meta"))
    assert embeddings.shape == (2, backbone.embed_dim)
    assert not any(isinstance(module, nn.Dropout) and module.p for module in backbone.modules())


@pytest.mark.usefixtures("without_memory")
@pytest.mark.parametrize("arch", ["alexnet", "vgg11", "inception_v3", *FAMILIES])
def test_below_its_smallest_size_a_network_fails(arch: str) -> None:
    backbone = build_backbone(arch, 16, 32, 1).eval()
    if backbone.smallest_side > 1:
        side = backbone.smallest_side - 1
        with torch.no_grad(), pytest.raises(RuntimeError):
            backbone(torch.empty(1, 1, side, side, device="meta"))


@pytest.mark.parametrize("arch", FAMILIES)
def test_every_parameter_gets_a_gradient_and_the_embedding_is_finite(arch: str) -> None:
    backbone = build_backbone(arch, 16, 32, 2)
    embeddings = backbone(noise(3, 2, 33, 40))
    assert embeddings.isfinite().all()
    embeddings.square().sum().backward()
    assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("channels", [1, 2, 4, 12])
@pytest.mark.parametrize("arch", ["resnet18", "xresnet18"])
def test_any_number_of_channels_is_seen(arch: str, channels: int) -> None:
    backbone = build_backbone(arch, 16, 32, channels).eval()
    image = noise(1, channels, 32, 32).requires_grad_()
    backbone(image).square().sum().backward()
    assert image.grad is not None
    assert (image.grad.abs().sum(dim=(0, 2, 3)) > 0).all()


@pytest.mark.parametrize("arch", ["xresnet18", "resnet18"])
def test_weights_depend_on_the_seed_alone_and_the_global_generator_stays(arch: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_backbone(arch, 16, 32, 4, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    again, other = build_backbone(arch, 16, 32, 4, seed=3).state_dict(), build_backbone(arch, 16, 32, 4, seed=4).state_dict()
    assert all(torch.equal(again[name], value) for name, value in first.items())
    name = next(iter(first))
    assert not torch.equal(other[name], first[name])


def first_convolution(network: nn.Module) -> nn.Conv2d:
    return next(module for module in network.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("arch", [name for name in FAMILIES if name != "resnext50_32x4d"])
def test_the_first_convolution_is_drawn_as_the_one_for_three_channels(arch: str) -> None:
    three, nine = (first_convolution(build_backbone(arch, 16, 32, channels)) for channels in (3, 9))
    expected = three.weight.std() * (3**-0.5 if arch.startswith(BY_INPUTS) else 1)
    torch.testing.assert_close(nine.weight.std(), expected, rtol=0.1, atol=0)
    assert nine.weight.mean().abs() < 0.1 * nine.weight.std()
    assert (three.stride, three.padding, three.kernel_size) == (nine.stride, nine.padding, nine.kernel_size)
    assert (three.bias is None) == (nine.bias is None)


def test_three_channels_and_a_seed_give_the_weights_that_torchvision_gives() -> None:
    torch.manual_seed(7)
    theirs = torchvision.models.resnet18(weights=None).state_dict()
    ours = build_backbone("resnet18", 16, 32, 3, seed=7).state_dict()
    assert set(theirs) - set(ours) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(theirs[name], value) for name, value in ours.items())


@pytest.mark.parametrize("arch", ["resnet18", "squeezenet1_1", "vgg11", "mobilenet_v3_small", "densenet121"])
def test_the_embedding_is_the_global_average_of_the_last_features(arch: str) -> None:
    backbone = build_backbone(arch, 16, 32, 1).eval()
    image, seen = noise(2, 1, 64, 96), []
    last = backbone.layer4 if arch == "resnet18" else backbone.features
    last.register_forward_hook(lambda module, inputs, output: seen.append(output))  # type: ignore[union-attr,operator]
    with torch.inference_mode():
        embeddings = backbone(image)
        features = seen[0].relu() if arch == "densenet121" else seen[0]
    assert features.shape[2:].numel() > 1
    torch.testing.assert_close(embeddings, features.mean(dim=(2, 3)))


def test_stochastic_depth_rises_to_the_rate_that_is_asked_for() -> None:
    def rates(rate: float) -> list[float]:
        network = build_backbone("efficientnet_b0", 16, 32, 1, drop_path_rate=rate)
        return [module.p for module in network.modules() if isinstance(module, torchvision.ops.StochasticDepth)]

    rising = rates(0.3)
    assert rising == sorted(rising)
    assert max(rising) == pytest.approx(0.3)
    assert set(rates(0)) == {0}


def test_networks_without_a_class_token_say_that_they_have_no_attention_maps() -> None:
    with pytest.raises(ConfigError, match=r"model\.arch: XResNet has no class token .* vit_tiny, vit_small and vit_base\."):
        build_backbone("xresnet18", 16, 32, 1).attention_maps(noise(1, 1, 32, 32))
    assert isinstance(build_backbone("squeezenet1_1", 16, 32, 1), Backbone)


def test_an_unknown_architecture_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"model\.arch: 'vit_b_16' is not available; choose one of vit_tiny"):
        build_backbone("vit_b_16", 16, 224, 3)


# XResNet


@pytest.mark.parametrize("arch", ["xresnet18", "xresnet50"])
@pytest.mark.parametrize("training", [False, True])
def test_xresnet_computes_what_the_resnet_d_of_timm_does(arch: str, training: bool) -> None:
    ours = build_backbone(arch, 16, 32, 5)
    theirs = timm.create_model(f"{arch.removeprefix('x')}d", in_chans=5, num_classes=0)
    for parameter in ours.parameters():  # zeros of the residual branches would hide them
        nn.init.normal_(parameter, std=0.1)
    # Both list a block's convolutions before its shortcut.
    assert [value.shape for value in ours.state_dict().values()] == [value.shape for value in theirs.state_dict().values()]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    image = noise(4, 5, 33, 46)
    with torch.no_grad():
        torch.testing.assert_close(ours.train(training)(image), theirs.train(training)(image), rtol=1e-4, atol=1e-5)


def test_xresnet_has_the_parameter_names_of_the_published_code() -> None:
    names = set(build_backbone("xresnet50", 16, 32, 4).state_dict())
    stem = re.compile(r"[012]\.(0\.weight|1\.(weight|bias|running_mean|running_var|num_batches_tracked))")
    block = re.compile(r"[4567]\.\d\.(convs\.[012]|idconv)\.(0\.weight|1\.(weight|bias|running_mean|running_var|num_batches_tracked))")
    assert all(stem.fullmatch(name) or block.fullmatch(name) for name in names)
    assert {"0.0.weight", "2.1.running_var", "4.0.idconv.0.weight", "7.2.convs.2.1.weight"} <= names
    assert build_backbone("xresnet18", 16, 32, 4).state_dict()["0.0.weight"].shape == (32, 4, 3, 3)


@pytest.mark.parametrize("arch", XRESNETS[:3])
def test_residual_branches_of_xresnet_begin_as_zero(arch: str) -> None:
    state = build_backbone(arch, 16, 32, 4).state_dict()
    last = 2 if arch == "xresnet50" else 1
    scales = {name: value for name, value in state.items() if re.search(r"convs\.\d\.1\.weight", name)}
    assert {value.unique().item() for name, value in scales.items() if f"convs.{last}" in name} == {0}
    assert {value.unique().item() for name, value in scales.items() if f"convs.{last}" not in name} == {1}
