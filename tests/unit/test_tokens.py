"""Which tokens are the features: the mean of patches, several blocks, and the class token as fast as ever."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from dino4cells.augment.views import ViewKind
from dino4cells.config import Config
from dino4cells.config.embedding import Tokens
from dino4cells.data.dataset import Batch
from dino4cells.errors import ConfigError
from dino4cells.features.embedding import embed
from dino4cells.features.tokens import TokenChoice
from dino4cells.models.backbones import build_backbone
from dino4cells.models.block import Block
from dino4cells.models.vit import DinoVisionTransformer

WIDTH = 192


@pytest.fixture(scope="module")
def backbone() -> DinoVisionTransformer:
    network = build_backbone("vit_tiny", 8, 32, 4, seed=3).eval()
    assert isinstance(network, DinoVisionTransformer)
    return network


def intermediate_layers(backbone: DinoVisionTransformer, images: torch.Tensor, count: int) -> list[torch.Tensor]:
    """`get_intermediate_layers` of DINO's code, as it stands there."""
    x = backbone._embed_patches(images)
    output = []
    for i, block in enumerate(backbone.blocks):
        x = block(x)
        if len(backbone.blocks) - i <= count:
            output.append(backbone.norm(x))
    return output


def as_the_original_has_it(layers: list[torch.Tensor], tokens: Tokens) -> torch.Tensor:
    parts: list[torch.Tensor] = []
    for layer in layers:
        if tokens != "patches":
            parts.append(layer[:, 0])
        if tokens != "class":
            parts.append(layer[:, 1:].mean(dim=1))
    return torch.cat(parts, dim=-1)


@pytest.mark.parametrize("blocks", [1, 4])
@pytest.mark.parametrize("tokens", ["class", "patches", "class_and_patches"])
@torch.inference_mode()
def test_chosen_tokens_are_those_of_the_originals_linear_evaluation(backbone: DinoVisionTransformer, tokens: Tokens, blocks: int) -> None:
    images = torch.rand(3, 4, 32, 24, generator=torch.Generator().manual_seed(0))
    choice = TokenChoice(tokens, blocks)
    expected = as_the_original_has_it(intermediate_layers(backbone, images, blocks), tokens)
    found = choice.of(backbone, images)
    assert found.shape == (3, WIDTH * choice.copies)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_patches_of_an_image_do_not_depend_on_the_images_beside_it(backbone: DinoVisionTransformer, precision: torch.dtype) -> None:
    random = np.random.default_rng(1)
    sizes = [(32, 32), (17, 40), (24, 32), (32, 32), (19, 43)]
    padded = torch.zeros(len(sizes), 4, 32, 43, dtype=torch.uint8)
    images = [torch.from_numpy(random.integers(0, 256, (4, *size), dtype=np.uint8)) for size in sizes]
    for room, image in zip(padded, images, strict=True):
        room[:, : image.shape[1], : image.shape[2]] = image
    rows = torch.arange(len(sizes))
    batch = Batch(padded, torch.tensor(sizes), rows, torch.zeros_like(rows))
    with torch.inference_mode():
        found = embed(backbone, ViewKind(()), batch, 0, precision, TokenChoice("class_and_patches", 2)).numpy()
        for row, image in enumerate(images):
            alone = as_the_original_has_it(intermediate_layers(backbone, image[None].float() / 255, 2), "class_and_patches")[0].numpy()
            cosine = (found[row] * alone).sum() / np.linalg.norm(found[row]) / np.linalg.norm(alone)
            assert cosine > (0.999 if precision == torch.bfloat16 else 1 - 1e-6)
            assert np.allclose(found[row], alone, rtol=0, atol=1e-4) == (precision == torch.float32)


def test_the_class_token_alone_leaves_out_what_the_last_block_would_compute_of_the_patches(
    backbone: DinoVisionTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    tokens_of = Block._tokens
    monkeypatch.setattr(Block, "_tokens", lambda self, tokens, count: (asked.append(count), tokens_of(self, tokens, count))[1])
    images = torch.rand(1, 4, 32, 32)
    with torch.inference_mode():
        TokenChoice().of(backbone, images)
        TokenChoice("class", 3).of(backbone, images)
        TokenChoice("patches").of(backbone, images)
    assert asked == [*[17] * 11, 1, *[17] * 11, 1, *[17] * 12]


def test_tokens_of_a_network_without_any_are_refused_and_so_are_blocks_that_are_not_there(
    backbone: DinoVisionTransformer, tiny_config: Callable[..., Config]
) -> None:
    residual = build_backbone("xresnet18", 16, 32, 4)
    assert TokenChoice.from_config(tiny_config(), residual, "xresnet18") == TokenChoice()
    for key, value in (("tokens", "patches"), ("blocks", 2)):
        with pytest.raises(ConfigError, match=rf"embedding\.{key} is {value}, and xresnet18 has no tokens"):
            TokenChoice.from_config(tiny_config({f"embedding.{key}": value}), residual, "xresnet18")
    with pytest.raises(ConfigError, match=r"embedding\.blocks is 13, and vit_tiny has 12 blocks"):
        TokenChoice.from_config(tiny_config({"embedding.blocks": 13}), backbone, "vit_tiny")
    with pytest.raises(ConfigError, match=r"embedding\.tokens must be one of 'class', 'patches' or 'class_and_patches'"):
        tiny_config({"embedding.tokens": "cls"})
