"""The vision transformer: its sizes, its names, its positions, its seeds."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from benchmarks.reference.network import PlainTransformer
from dino4cells.errors import ConfigError
from dino4cells.models.backbones import build_backbone
from dino4cells.models.block import MOST_TOKENS_OF_PLAIN_ATTENTION, Residual, attend
from dino4cells.models.vit import ARCHITECTURES, DinoVisionTransformer, PatchEmbedding

# HANDBOOK, Files: what follows `backbone.` in a published checkpoint.
BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


def published_names() -> set[str]:
    layers = ["patch_embed.proj", "norm", *(f"blocks.{number}.{layer}" for number in range(12) for layer in BLOCK)]
    return {"cls_token", "pos_embed", *(f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias"))}


@pytest.fixture(scope="module")
def tiny() -> DinoVisionTransformer:
    """vit_tiny for four channels, patches of 8 pixels, positions of 32 × 32 pixels."""
    backbone = build_backbone("vit_tiny", 8, 32, 4).eval()
    # Random positions are so small that a wrong one would hardly show.
    torch.nn.init.normal_(backbone.pos_embed)
    return backbone


@pytest.mark.parametrize(("arch", "width", "heads"), [("vit_tiny", 192, 3), ("vit_small", 384, 6), ("vit_base", 768, 12)])
def test_architectures_have_the_published_widths_and_parameter_names(arch: str, width: int, heads: int) -> None:
    built = build_backbone(arch, 16, 32, 3)
    assert set(built.state_dict()) == published_names()
    assert len(built.blocks) == 12
    assert built.blocks[0].attn.num_heads == heads
    assert built.cls_token.shape == (1, 1, width)


@pytest.mark.parametrize("patch", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8, 12])
def test_any_number_of_channels_and_both_patch_sizes_give_a_class_token(channels: int, patch: int) -> None:
    backbone = build_backbone("vit_tiny", patch, 32, channels)
    assert backbone.patch_embed.proj.weight.shape == (192, channels, patch, patch)
    with torch.inference_mode():
        assert backbone(torch.zeros(2, channels, 32, 32)).shape == (2, 192)


def test_deit_is_another_name_of_the_same_network() -> None:
    one, other = build_backbone("deit_tiny", 16, 32, 3), build_backbone("vit_tiny", 16, 32, 3)
    assert all(torch.equal(one.state_dict()[name], value) for name, value in other.state_dict().items())


@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 8), (37, 50), (9, 100), (64, 16)])
def test_images_of_any_size_are_embedded_and_an_unfilled_margin_is_not_seen(tiny: DinoVisionTransformer, height: int, width: int) -> None:
    image = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(0))
    margin = image.clone()
    margin[:, :, height // 8 * 8 :], margin[..., width // 8 * 8 :] = 7, 7
    with torch.inference_mode():
        tokens = tiny.forward_features(image)
        assert tokens.shape == (1, 1 + (height // 8) * (width // 8), 192)
        assert torch.equal(tiny(margin), tiny(image))
        torch.testing.assert_close(tiny(image), tokens[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
@pytest.mark.parametrize(("side", "patch"), [(16, 16), (32, 16), (47, 16), (96, 16), (48, 8)])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_patches_in_bfloat16_are_those_of_a_convolution_in_float32(
    order: torch.memory_format, side: int, patch: int, channels: int
) -> None:
    """PyTorch's own convolution in bfloat16 fails this for some of the shapes, which ones depends on the processor."""
    embedding = PatchEmbedding(channels, 192, patch)
    images = torch.randn(8, channels, side, side).to(memory_format=order)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = embedding(images)
    with torch.inference_mode():
        exact = embedding.proj(images).flatten(2).mT
    assert (rounded - exact).norm() < 0.02 * exact.norm()


def positions_as_dino_has_them(pos_embed: torch.Tensor, first: int, second: int, patch: int) -> torch.Tensor:
    """DINO's `interpolate_pos_encoding` for images of first × second pixels (HANDBOOK, Files)."""
    number = pos_embed.shape[1] - 1
    patches = (first // patch) * (second // patch)
    if patches == number and first == second:
        return pos_embed
    side = int(number**0.5)
    grid = pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factor = ((first // patch + 0.1) / side, (second // patch + 0.1) / side)
    grid = F.interpolate(grid, scale_factor=factor, mode="bicubic")
    assert tuple(grid.shape[2:]) == (first // patch, second // patch)
    return torch.cat((pos_embed[:, :1], grid.permute(0, 2, 3, 1).reshape(1, patches, -1)), dim=1)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 16), (64, 64), (24, 72), (33, 32), (36, 36), (8, 104)])
def test_positions_are_interpolated_as_dino_does(tiny: DinoVisionTransformer, height: int, width: int) -> None:
    with torch.inference_mode():
        assert torch.equal(tiny.positions(height, width), positions_as_dino_has_them(tiny.pos_embed, height, width, 8))


@pytest.mark.parametrize("side", range(1, 40))
def test_every_grid_gets_as_many_positions_as_it_has_patches(tiny: DinoVisionTransformer, side: int) -> None:
    with torch.inference_mode():
        assert tiny.positions(8 * side, 8 * (41 - side)).shape == (1, 1 + side * (41 - side), 192)


def test_positions_receive_a_gradient_through_the_interpolation(tiny: DinoVisionTransformer) -> None:
    tiny.positions(16, 24).square().sum().backward()
    assert tiny.pos_embed.grad is not None
    assert (tiny.pos_embed.grad != 0).all()


def test_weights_depend_on_the_seed_alone_and_the_global_generator_stays_where_it_was() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_backbone("vit_tiny", 8, 32, 4, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = build_backbone("vit_tiny", 8, 32, 4, seed=3), build_backbone("vit_tiny", 8, 32, 4, seed=4)
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert not torch.equal(first.pos_embed, other.pos_embed)


def test_stochastic_depth_acts_in_training_alone() -> None:
    backbone = build_backbone("vit_tiny", 8, 16, 1, drop_path_rate=0.5)
    image = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(backbone.eval()(image), backbone(image))
        assert not torch.equal(backbone.train()(image), backbone(image))


@pytest.mark.parametrize("training", [False, True])
def test_the_class_token_of_the_last_block_and_its_gradients_are_those_of_all_tokens(training: bool) -> None:
    backbone = build_backbone("vit_tiny", 8, 16, 2, drop_path_rate=0.5).train(training).double()
    image = torch.randn(6, 2, 16, 24, generator=torch.Generator().manual_seed(0)).double()
    direction = torch.randn(6, 192, generator=torch.Generator().manual_seed(1)).double()
    found = []
    for embed in (backbone, lambda image: backbone.forward_features(image)[:, 0]):
        backbone.zero_grad()
        torch.manual_seed(2)  # images whose branches are left out
        tokens = embed(image)
        (tokens * direction).sum().backward()
        found.append((tokens, {name: parameter.grad for name, parameter in backbone.named_parameters()}))
    (one, ones), (other, others) = found
    torch.testing.assert_close(one, other)
    for name, gradient in others.items():
        torch.testing.assert_close(ones[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


def with_masks(tokens: torch.Tensor, branch: torch.nn.Module, rate: float) -> torch.Tensor:
    """Huang et al. 2016 as it is written: the branch of every image, times 0 or 1 / (1 - rate)."""
    mask = torch.rand(len(tokens)) >= rate
    result: torch.Tensor = tokens + branch(tokens) * (mask / (1 - rate))[:, None, None]
    return result


@pytest.mark.parametrize("gathers", [True, False])
@pytest.mark.parametrize("rate", [0.0, 0.4, 0.999])
def test_a_branch_that_is_left_out_of_some_images_is_the_branch_times_a_mask(
    rate: float, gathers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dino4cells.models.block.gathers_on", lambda device: gathers)
    branch = torch.nn.Linear(4, 4)
    found = []
    for plain in (False, True):
        torch.manual_seed(3)
        tokens = torch.randn(20, 3, 4).requires_grad_()
        branch.zero_grad()
        if plain:
            result = with_masks(tokens, branch, rate)
        else:
            residual = Residual.draw(tokens, rate)
            result = residual.add(tokens, branch(residual.seen(tokens)))
        result.square().sum().backward()
        found.append([result, tokens.grad, branch.weight.grad, branch.bias.grad])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("queries", "tokens"), [(1, 37), (37, 37), (3, MOST_TOKENS_OF_PLAIN_ATTENTION + 1)])
def test_attention_in_bfloat16_is_that_of_float64_to_the_rounding_of_its_scores(queries: int, tokens: int) -> None:
    random = torch.Generator().manual_seed(0)
    query = torch.randn(2, 3, queries, 64, generator=random).bfloat16()
    key, value = torch.randn(2, 2, 3, tokens, 64, generator=random).bfloat16().unbind(0)
    exact = (query.double() @ key.double().mT / 8).softmax(dim=-1) @ value.double()
    torch.testing.assert_close(attend(query, key, value).double(), exact, rtol=0, atol=1e-2)
    torch.testing.assert_close(attend(query.double(), key.double(), value.double()), exact)


@pytest.mark.parametrize(
    ("arch", "patch", "size", "words"),
    [("vit_tinny", 8, 32, "model.arch: 'vit_tinny'"), ("vit_tiny", 14, 32, "model.patch_size"), ("vit_tiny", 16, 8, "model.image_size")],
)
def test_a_network_that_does_not_exist_is_refused_by_the_key_at_fault(arch: str, patch: int, size: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_backbone(arch, patch, size, 3)


# Against the plain transcription


def with_visible_weights(arch: str, patch: int, size: int, channels: int) -> tuple[DinoVisionTransformer, PlainTransformer]:
    """Our network and the plain one with the same weights, so large and varied that a wrong term shows in the features."""
    ours = build_backbone(arch, patch, size, channels).eval()
    random = torch.Generator().manual_seed(0)
    for name, parameter in ours.named_parameters():
        spread = 0.02 if parameter.ndim > 1 and name != "pos_embed" else 0.2
        parameter.data += spread * torch.randn(parameter.shape, generator=random)
    width, heads = ARCHITECTURES[arch]
    plain = PlainTransformer(channels, size, patch, width, heads).eval()
    plain.load_state_dict(ours.state_dict())
    assert isinstance(ours, DinoVisionTransformer)
    return ours, plain


@pytest.mark.parametrize(
    ("arch", "patch", "sizes"),
    [
        ("vit_tiny", 16, [(96, 96), (224, 224), (512, 512), (225, 224), (230, 301), (96, 512), (16, 40)]),
        ("vit_tiny", 8, [(96, 96), (224, 224), (101, 67), (224, 96)]),
        ("vit_small", 16, [(96, 96), (224, 224), (512, 512), (131, 257)]),
    ],
)
def test_features_are_those_of_the_published_arithmetic(arch: str, patch: int, sizes: list[tuple[int, int]]) -> None:
    ours, plain = with_visible_weights(arch, patch, 224, 4)
    for height, width in sizes:
        image = torch.rand(1, 4, height, width, generator=torch.Generator().manual_seed(height))
        with torch.inference_mode():
            expected = plain(image)
            assert expected.std() > 0.3
            torch.testing.assert_close(ours(image), expected, rtol=0, atol=1e-4, msg=lambda text, size=(height, width): f"{size}: {text}")


def test_features_of_small_patches_in_a_large_image_are_those_of_the_published_arithmetic() -> None:
    ours, plain = with_visible_weights("vit_tiny", 8, 224, 2)
    del ours.blocks[3:], plain.blocks[3:]  # 4096 patches: all twelve blocks would take half a minute
    image = torch.rand(1, 2, 512, 512, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(ours(image), plain(image), rtol=0, atol=1e-4)


# Attention maps


@pytest.mark.parametrize(("height", "width"), [(32, 32), (45, 24), (8, 8)])
def test_attention_maps_are_what_the_class_token_gives_each_patch_in_the_last_block(height: int, width: int) -> None:
    ours, plain = with_visible_weights("vit_tiny", 8, 32, 4)
    images = torch.rand(2, 4, height, width, generator=torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    plain.blocks[-1].norm1.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        plain(images)
        maps = ours.attention_maps(images)
        attention = plain.blocks[-1].attn
        assert maps.shape == (2, 3, height // 8, width // 8)
        for image in range(2):
            for head in range(3):
                rows = slice(64 * head, 64 * head + 64)
                query = F.linear(seen[0][image, 0], attention.qkv.weight[rows], attention.qkv.bias[rows])
                keys = slice(192 + rows.start, 192 + rows.stop)
                key = F.linear(seen[0][image], attention.qkv.weight[keys], attention.qkv.bias[keys])
                weights = torch.softmax(key @ query / 8, dim=0)
                torch.testing.assert_close(maps[image, head].flatten(), weights[1:], rtol=1e-4, atol=1e-6)
                assert maps[image, head].sum() < 1


def test_patches_begin_as_convolutions_of_pytorch_do() -> None:
    weight = build_backbone("vit_tiny", 8, 32, 5).patch_embed.proj.weight
    torch.testing.assert_close(weight.abs().max().item(), (5 * 8 * 8) ** -0.5, rtol=1e-2, atol=0)


@pytest.mark.parametrize("size", [(37, 50), (33, 32), (32, 39), (40, 40), (47, 47), (8, 15), (32, 32)])
def test_an_image_cropped_to_its_seen_size_has_the_same_embedding(tiny: DinoVisionTransformer, size: tuple[int, int]) -> None:
    image = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(0))
    height, width = tiny.seen_size(*size)
    with torch.inference_mode():
        torch.testing.assert_close(tiny(image[:, :, :height, :width]), tiny(image), rtol=0, atol=1e-6)


def test_images_of_many_sizes_have_few_seen_sizes(tiny: DinoVisionTransformer) -> None:
    assert {tiny.seen_size(height, width) for height in range(40, 48) for width in range(56, 64)} == {(40, 56)}
