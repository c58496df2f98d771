"""The paper's heads and losses: their shapes, the names of their weights, and what they compute."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dino4cells.classify.classifier import Classifier, load_head
from dino4cells.classify.heads import HeadKind, ResidualHead, SimpleHead, build_head
from dino4cells.classify.losses import LOSSES, binary_cross_entropy, focal_loss
from dino4cells.config.classification import ClassificationConfig
from dino4cells.errors import CheckpointError

FEATURES, CLASSES = 24, 5


def head_of(**settings: object) -> nn.Module:
    config = ClassificationConfig.model_validate(settings)
    return build_head(HeadKind.of(config), FEATURES, CLASSES, config.seed)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_simple_head_is_that_of_the_handbook() -> None:
    head = SimpleHead(FEATURES, CLASSES, dropout=0.3)
    widths = [(layer.in_features, layer.out_features) for layer in head.modules() if isinstance(layer, nn.Linear)]
    assert widths == [(FEATURES, 512), (512, 256), (256, CLASSES)]
    assert [layer.p for layer in head.modules() if isinstance(layer, nn.Dropout)] == [0.3, 0.3]
    assert set(head.state_dict()) == {f"clf.{place}.{kind}" for place in (0, 3, 6) for kind in ("weight", "bias")}
    assert count(head) == (FEATURES + 1) * 512 + 513 * 256 + 257 * CLASSES


@pytest.mark.parametrize(("layers", "blocks"), [(2, 0), (3, 0), (4, 1), (7, 2)])
def test_the_residual_head_has_a_block_for_every_two_layers_between_the_first_and_the_last(layers: int, blocks: int) -> None:
    head = ResidualHead(FEATURES, CLASSES, layers, units=32)
    assert len(head.layers) == blocks
    assert count(head) == (FEATURES + 1) * 32 + blocks * 2 * 33 * 32 + 33 * CLASSES
    assert head(torch.zeros(3, FEATURES)).shape == (3, CLASSES)


def test_a_block_adds_its_input_with_skip_alone() -> None:
    inputs = torch.rand(4, FEATURES)
    plain, skipping = (head_of(classifier_type="residual_add_clf", n_layers=4, n_units=16, skip=skip) for skip in (False, True))
    assert plain.state_dict().keys() == skipping.state_dict().keys()
    assert isinstance(skipping, ResidualHead)
    hidden = torch.relu(skipping.first_layer(inputs))
    block = skipping.layers[0]
    changed = block.fc2(torch.relu(block.fc1(hidden)))
    torch.testing.assert_close(skipping(inputs), skipping.final_layer(torch.relu(changed + hidden)))
    torch.testing.assert_close(plain(inputs), skipping.final_layer(torch.relu(changed)))


@pytest.mark.parametrize("norm", ["layer", "instance"])
def test_layer_and_instance_norm_are_of_each_cell_alone(norm: str) -> None:
    head = head_of(classifier_type="residual_add_clf", n_units=16, norm_layer=norm)
    inputs = torch.rand(6, FEATURES)
    torch.testing.assert_close(head(inputs)[:2], head(inputs[:2]))
    assert isinstance(head, ResidualHead)
    normalized = head.norm_layer(head.first_layer(inputs))
    torch.testing.assert_close(normalized.mean(dim=1), torch.zeros(6), atol=1e-6, rtol=0)
    # InstanceNorm1d of a channel of 16 units, as the paper's code applies it, has no weights.
    assert bool(list(head.norm_layer.parameters())) == (norm == "layer")
    if norm == "instance":
        with_channel = torch.nn.functional.instance_norm(head.first_layer(inputs)[:, None])[:, 0]
        torch.testing.assert_close(normalized, with_channel)


def test_batch_norm_is_of_each_unit_over_the_cells() -> None:
    head = head_of(classifier_type="residual_add_clf", n_units=16, n_layers=4, norm_layer="batch_norm").train()
    assert isinstance(head, ResidualHead)
    normalized = head.norm_layer(head.first_layer(torch.rand(64, FEATURES)))
    torch.testing.assert_close(normalized.mean(dim=0), torch.zeros(16), atol=1e-5, rtol=0)


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = head_of(seed=1)
    state = torch.random.get_rng_state()
    torch.rand(3)
    second, other = head_of(seed=1), head_of(seed=2)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert not torch.equal(first.state_dict()["clf.0.weight"], other.state_dict()["clf.0.weight"])
    torch.random.set_rng_state(state)


def test_focal_loss_is_the_papers_formula_cell_by_cell() -> None:
    generator = np.random.default_rng(0)
    logits, targets = generator.normal(scale=3, size=(40, 6)), generator.integers(0, 2, size=(40, 6))
    found = focal_loss(torch.from_numpy(logits), torch.from_numpy(targets).double())
    for row in range(40):
        for column in range(6):
            p = 1 / (1 + math.exp(-logits[row, column]))
            positive = targets[row, column] == 1
            p_t, alpha_t = (p, 0.25) if positive else (1 - p, 0.75)
            assert found[row, column].item() == pytest.approx(-alpha_t * (1 - p_t) ** 2 * math.log(p_t), rel=1e-9)


def test_losses_are_finite_and_have_gradients_far_from_the_boundary() -> None:
    for loss in LOSSES.values():
        logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0]], requires_grad=True)
        value = loss(logits, torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
        value.sum().backward()  # type: ignore[no-untyped-call]
        assert torch.isfinite(value).all()
        assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]
        assert value[0].max() < 1e-6 < value[1].min()


def test_both_cross_entropies_are_torchs_own() -> None:
    logits, targets = torch.randn(7, 3), torch.randint(2, (7, 3)).float()
    mean = binary_cross_entropy(logits, targets).mean()
    torch.testing.assert_close(mean, nn.BCEWithLogitsLoss()(logits, targets))
    torch.testing.assert_close(mean, nn.BCELoss()(logits.sigmoid(), targets))


def test_a_classifier_standardizes_by_the_training_cells() -> None:
    values = np.random.default_rng(0).normal(3, 5, size=(100, FEATURES)).astype(np.float32)
    values[:, 2] = 7.0  # a feature that never varies
    classifier = Classifier(nn.Identity(), FEATURES)
    classifier.standardize_by(values)
    standardized = classifier(torch.from_numpy(values))
    torch.testing.assert_close(standardized.mean(dim=0), torch.zeros(FEATURES), atol=1e-5, rtol=0)
    deviations = standardized.std(dim=0, correction=0)
    torch.testing.assert_close(deviations, torch.where(torch.arange(FEATURES) == 2, 0.0, 1.0), atol=1e-5, rtol=0)


def test_parts_that_do_not_learn_keep_their_weights_and_stay_in_evaluation() -> None:
    backbone = nn.Sequential(nn.Linear(4, FEATURES), nn.Dropout(0.5))
    classifier = Classifier(head_of(), FEATURES, backbone, train_backbone=False).train()
    assert not backbone.training
    assert classifier.head.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not Classifier(head_of(), FEATURES, train_head=False).learns


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ("clf.0", "clf.3", "clf.6")),
        ({"classifier_type": "residual_add_clf", "n_units": 32}, ("first_layer", "final_layer")),  # those that were published
    ],
)
def test_a_published_head_is_loaded(tmp_path: Path, settings: dict[str, object], names: tuple[str, ...], prefix: str) -> None:
    source = head_of(seed=3, **settings)
    published = {f"{prefix}{name}": value for name, value in source.state_dict().items()}
    assert {name.removeprefix(prefix).rsplit(".", 1)[0] for name in published} == set(names)
    torch.save(published, tmp_path / "classifier_proteins.pth")
    classifier = Classifier(head_of(seed=4, **settings), FEATURES).eval()
    load_head(classifier, str(tmp_path / "classifier_proteins.pth"), "simple_clf")
    inputs = torch.rand(3, FEATURES)
    torch.testing.assert_close(classifier(inputs), source.eval()(inputs))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: ResidualHead(FEATURES, CLASSES, units=8).state_dict(), ["is no simple_clf", "'clf.0.weight'", "classifier_type"]),
        (lambda: SimpleHead(FEATURES, 19).state_dict(), ["'clf.6.weight' is 19 × 256", "5 × 256", "num_classes"]),
        (lambda: [torch.zeros(3)], ["holds no weights of a head"]),
    ],
)
def test_another_head_is_refused_in_a_sentence_that_says_what_differs(
    tmp_path: Path, content: Callable[[], object], words: list[str]
) -> None:
    torch.save(content(), tmp_path / "head.pth")
    with pytest.raises(CheckpointError) as refused:
        load_head(Classifier(head_of(), FEATURES), str(tmp_path / "head.pth"), "simple_clf")
    for word in [*words, "head.pth"]:
        assert word in str(refused.value)
