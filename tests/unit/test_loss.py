"""The fast losses against their textbook forms."""

from __future__ import annotations

import math

import pytest
import torch

from dino4cells.training.loss import dino_loss, koleo_loss


def textbook_dino_loss(student_VBK: torch.Tensor, targets_GBK: torch.Tensor, temperature: float) -> torch.Tensor:
    """Caron et al. 2021, algorithm 1 with multi-crop: two nested loops over views."""
    total, pairs = torch.zeros((), dtype=student_VBK.dtype), 0
    for g, target_BK in enumerate(targets_GBK):
        for v, student_BK in enumerate(student_VBK):
            if g == v:
                continue
            total = total + torch.sum(-target_BK * torch.log_softmax(student_BK / temperature, dim=-1), dim=-1).mean()
            pairs += 1
    return total / pairs


def logits(views: int, batch: int, prototypes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student = torch.rand(views, batch, prototypes, dtype=torch.float64, generator=generator) * 2 - 1
    teacher = torch.rand(2, batch, prototypes, dtype=torch.float64, generator=generator) * 2 - 1
    return student, teacher


@pytest.mark.parametrize("views", [2, 3, 10])
@pytest.mark.parametrize("prototypes", [2, 64, 4096])
@pytest.mark.parametrize(("student_temperature", "teacher_temperature"), [(0.1, 0.04), (0.1, 0.07), (1.0, 0.5), (0.02, 0.01)])
def test_loss_and_gradient_equal_two_nested_loops_over_views(
    views: int, prototypes: int, student_temperature: float, teacher_temperature: float
) -> None:
    student, teacher = logits(views, 5, prototypes)
    targets = (teacher / teacher_temperature).softmax(dim=-1)
    fast, textbook = (student.clone().requires_grad_() for _ in range(2))
    loss = dino_loss(fast, targets, student_temperature)
    expected = textbook_dino_loss(textbook, targets, student_temperature)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(fast.grad, textbook.grad, rtol=1e-6, atol=1e-12)


def test_float32_loss_of_many_prototypes_equals_the_textbook_in_float64() -> None:
    student, teacher = logits(8, 4, 65536)
    targets = (teacher / 0.04).softmax(dim=-1)
    expected = textbook_dino_loss(student, targets, 0.1)
    assert dino_loss(student.float(), targets.float(), 0.1).item() == pytest.approx(expected.item(), rel=1e-6)


def test_loss_of_a_student_that_tells_nothing_is_the_plateau_ln_k() -> None:
    _, teacher = logits(4, 3, 128)
    assert dino_loss(torch.zeros(4, 3, 128), teacher.softmax(dim=-1).float(), 0.1).item() == pytest.approx(math.log(128))


def test_loss_of_a_batch_without_images_is_zero_and_so_is_its_gradient() -> None:
    student = torch.zeros(4, 0, 16, requires_grad=True)
    loss = dino_loss(student, torch.zeros(2, 0, 16), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None


def textbook_koleo(embeddings: torch.Tensor) -> torch.Tensor:
    """Sablayrolles et al. 2019: minus the mean log distance to the nearest other point on the sphere."""
    unit = [row / row.norm() for row in embeddings]
    terms = []
    for i, point in enumerate(unit):
        terms.append(-torch.log(torch.stack([(point - other).norm() for j, other in enumerate(unit) if j != i]).min()))
    return torch.stack(terms).mean()


@pytest.mark.parametrize(("batch", "dim"), [(2, 3), (7, 16), (32, 192)])
def test_koleo_and_its_gradient_equal_a_loop_over_images(batch: int, dim: int) -> None:
    points = torch.randn(batch, dim, generator=torch.Generator().manual_seed(batch))
    fast, textbook = points.clone().requires_grad_(), points.double().requires_grad_()
    loss, expected = koleo_loss(fast), textbook_koleo(textbook)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(fast.grad, textbook.grad.float(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("batch", [0, 1])
def test_koleo_of_fewer_than_two_images_is_zero(batch: int) -> None:
    points = torch.ones(batch, 4, requires_grad=True)
    loss = koleo_loss(points)
    loss.backward()
    assert loss.item() == 0


def test_koleo_stays_finite_where_all_images_are_embedded_alike() -> None:
    points = torch.ones(4, 8, requires_grad=True)
    loss = koleo_loss(points)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(points.grad).all()
