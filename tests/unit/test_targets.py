"""Centring and Sinkhorn-Knopp in one process; `tests/integration/test_two_processes.py` has them over ranks."""

from __future__ import annotations

import pytest
import torch

from dino4cells.training.targets import CentringTargets, SinkhornTargets


def teacher_logits(batch: int, prototypes: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, batch, prototypes, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_centre_follows_the_mean_of_the_logits_as_the_paper_writes_it() -> None:
    targets = CentringTargets(16, momentum=0.9)
    centre = torch.zeros(16)
    for step in range(3):
        logits = teacher_logits(4 + step, 16, seed=step)
        given = targets(logits, 0.04)
        targets.settle()
        torch.testing.assert_close(given, ((logits - centre) / 0.04).softmax(dim=-1))  # this batch is not in the centre yet
        centre = 0.9 * centre + 0.1 * logits.flatten(0, 1).mean(dim=0)
        torch.testing.assert_close(targets.center[0], centre)


def as_dinov2_writes_it(logits_NK: torch.Tensor, temperature: float, iterations: int) -> torch.Tensor:
    """DINOv2, loss/dino_clstoken_loss.py, on one process."""
    weights = torch.exp(logits_NK.double() / temperature).T
    prototypes, samples = weights.shape
    weights /= weights.sum()
    for _ in range(iterations):
        weights /= weights.sum(dim=1, keepdim=True) * prototypes
        weights /= weights.sum(dim=0, keepdim=True) * samples
    return (weights * samples).T


@pytest.mark.parametrize("temperature", [0.04, 0.07, 1.0])
@pytest.mark.parametrize(("batch", "prototypes"), [(4, 64), (64, 16), (1, 8)])
def test_sinkhorn_targets_equal_those_of_dinov2(batch: int, prototypes: int, temperature: float) -> None:
    logits = teacher_logits(batch, prototypes)
    expected = as_dinov2_writes_it(logits.flatten(0, 1), temperature, 3).view_as(logits).float()
    torch.testing.assert_close(SinkhornTargets(prototypes)(logits, temperature), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("temperature", [0.02, 0.04, 0.5])
def test_each_image_has_a_whole_target_from_sinkhorn(temperature: float) -> None:
    targets = SinkhornTargets(256)(teacher_logits(32, 256), temperature)
    torch.testing.assert_close(targets.sum(dim=-1), torch.ones(2, 32))
    assert (targets >= 0).all()


def test_sinkhorn_gives_every_prototype_the_same_weight() -> None:
    logits = teacher_logits(64, 16)
    logits[..., 0] += 1  # a prototype that all images like
    targets = SinkhornTargets(16, iterations=50)(logits, 0.1)
    torch.testing.assert_close(targets.sum(dim=(0, 1)), torch.full((16,), 128 / 16), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", [CentringTargets, SinkhornTargets])
def test_targets_carry_no_gradient(kind: type[CentringTargets] | type[SinkhornTargets]) -> None:
    assert not kind(16)(teacher_logits(4, 16).requires_grad_(), 0.04).requires_grad


@pytest.mark.parametrize("kind", [CentringTargets, SinkhornTargets])
def test_a_checkpoint_has_a_centre_under_its_published_name(kind: type[CentringTargets] | type[SinkhornTargets]) -> None:
    state = kind(16).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {"center": (1, 16)}
