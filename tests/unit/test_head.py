"""The projection head and the network that student and teacher share."""

from __future__ import annotations

import pytest
import torch

from dino4cells.models.backbones import build_backbone
from dino4cells.models.head import DINOHead, DINONetwork


def test_head_has_the_published_parameter_names() -> None:
    layers = [f"mlp.{number}.{kind}" for number in (0, 2, 4) for kind in ("weight", "bias")]
    assert set(DINOHead(8, 16, 12, 4).state_dict()) == {*layers, "last_layer.weight_g", "last_layer.weight_v"}


def test_head_with_batch_norm_has_the_published_parameter_names_and_normalizes_hidden_features() -> None:
    head = DINOHead(8, 16, 12, 4, use_bn=True)
    linear = {f"mlp.{number}.{kind}" for number in (0, 3, 6) for kind in ("weight", "bias")}
    norms = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert set(head.state_dict()) == {
        *linear,
        *(f"mlp.{number}.{kind}" for number in (1, 4) for kind in norms),
        "last_layer.weight_g",
        "last_layer.weight_v",
    }
    hidden = head.mlp[:2](torch.randn(64, 8) * 7 + 3)
    torch.testing.assert_close(hidden.mean(dim=0), torch.zeros(12), rtol=0, atol=1e-5)
    torch.testing.assert_close(hidden.std(dim=0, correction=0), torch.ones(12), rtol=0, atol=1e-2)


def test_head_begins_as_the_published_one() -> None:
    torch.manual_seed(0)
    head = DINOHead(100, 500, 200, 64)
    for layer in (head.mlp[0], head.mlp[2], head.mlp[4]):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not layer.bias.any()
    # nn.Linear's: uniform up to one over the root of its inputs.
    assert head.last_layer.weight_v.abs().max().item() == pytest.approx(1 / 8, rel=1e-3)
    assert head.last_layer.weight_v.std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.02)
    assert (head.last_layer.weight_g == 1).all()


def test_logits_are_cosines_to_prototypes_of_length_one() -> None:
    head = DINOHead(8, 32, 16, 4)
    with torch.inference_mode():
        inputs = torch.randn(10, 8) * 100
        bottleneck = torch.nn.functional.normalize(head.mlp(inputs), dim=1)
        prototypes = torch.nn.functional.normalize(head.last_layer.weight_v, dim=1)
        torch.testing.assert_close(head(inputs), bottleneck @ prototypes.T)
        assert head(inputs).abs().max() <= 1 + 1e-6


def test_last_layer_equals_the_weight_norm_of_the_published_code() -> None:
    head = DINOHead(8, 32, 16, 4, norm_last_layer=False)
    plain = torch.nn.Linear(4, 32, bias=False)
    with torch.no_grad():
        head.last_layer.weight_g.uniform_(0.5, 2)
        plain.weight.copy_(torch._weight_norm(head.last_layer.weight_v, head.last_layer.weight_g, 0))
        inputs = torch.randn(5, 4)
        torch.testing.assert_close(head.last_layer(inputs), plain(inputs))


def test_lengths_of_prototypes_are_trained_only_where_asked_for() -> None:
    assert not DINOHead(8, 16, 12, 4).last_layer.weight_g.requires_grad
    assert DINOHead(8, 16, 12, 4, norm_last_layer=False).last_layer.weight_g.requires_grad


def test_network_embeds_views_of_different_sizes_in_their_order() -> None:
    backbone = build_backbone("vit_tiny", 8, 16, 3).eval()
    network = DINONetwork(backbone, DINOHead(192, 16, 12, 4))
    large, small = torch.randn(2, 5, 3, 16, 16), torch.randn(4, 5, 3, 8, 8)
    with torch.inference_mode():
        logits, embeddings = network.logits([large, small]), network([large, small]).embeddings_VBD
        assert logits.shape == (6, 5, 16)
        assert embeddings.shape == (6, 5, 192)
        torch.testing.assert_close(embeddings[1], backbone(large[1]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logits[5], network.head(backbone(small[3])), rtol=1e-4, atol=1e-5)


def test_network_passes_a_batch_without_images() -> None:
    network = DINONetwork(build_backbone("vit_tiny", 8, 16, 3), DINOHead(192, 16, 12, 4))
    logits = network.logits([torch.zeros(2, 0, 3, 16, 16), torch.zeros(4, 0, 3, 8, 8)])
    assert logits.shape == (6, 0, 16)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters() if parameter.requires_grad)
