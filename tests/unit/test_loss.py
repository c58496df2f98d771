"""The fast losses against their textbook forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from allocations import Allocations

from dino4cells.training.loss import dino_loss, koleo_loss

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


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


def last_layer(views: int, batch: int, prototypes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The student's bottleneck vectors and prototypes, both of unit length, and the teacher's logits."""
    generator = torch.Generator().manual_seed(seed)
    bottleneck = F.normalize(torch.randn(views, batch, 8, dtype=torch.float64, generator=generator), dim=-1)
    weights = F.normalize(torch.randn(prototypes, 8, dtype=torch.float64, generator=generator), dim=-1)
    teacher = torch.rand(2, batch, prototypes, dtype=torch.float64, generator=generator) * 2 - 1
    return bottleneck, weights, teacher


def gradients(bottleneck: torch.Tensor, weights: torch.Tensor, loss_of: Loss) -> tuple[float, torch.Tensor, torch.Tensor | None]:
    """Loss, and gradients of the bottleneck and of the prototypes; the loss is scaled on its way, as in a step."""
    bottleneck, weights = bottleneck.clone().requires_grad_(), weights.clone().requires_grad_()
    loss = loss_of(bottleneck, weights)
    (loss * 0.7).backward()
    assert bottleneck.grad is not None
    return loss.item(), bottleneck.grad, weights.grad


@pytest.mark.parametrize("views", [2, 3, 10])
@pytest.mark.parametrize("prototypes", [2, 64, 4096])
@pytest.mark.parametrize(("student_temperature", "teacher_temperature"), [(0.1, 0.04), (0.1, 0.07), (1.0, 0.5), (0.02, 0.01)])
def test_loss_and_gradients_equal_two_nested_loops_over_views(
    views: int, prototypes: int, student_temperature: float, teacher_temperature: float
) -> None:
    bottleneck, weights, teacher = last_layer(views, 5, prototypes)
    targets = (teacher / teacher_temperature).softmax(dim=-1)
    fast = gradients(bottleneck, weights, lambda z, w: dino_loss(z, w, targets, student_temperature, precision=torch.float64))
    textbook = gradients(bottleneck, weights, lambda z, w: textbook_dino_loss(z @ w.T, targets, student_temperature))
    assert fast[0] == pytest.approx(textbook[0], rel=1e-9)
    for one, other in zip(fast[1:], textbook[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-12)


def test_losses_of_some_views_of_some_images_add_up_to_that_of_all() -> None:
    bottleneck, weights, teacher = last_layer(5, 6, 64)
    targets = (teacher / 0.04).softmax(dim=-1)

    def in_shares(z: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        shares = []
        for images in (slice(0, 4), slice(4, 6), slice(6, 6)):
            for first, last in ((0, 1), (1, 3), (3, 5)):
                part = dino_loss(z[first:last, images], w, targets[:, images], 0.1, first=first, views=5, precision=torch.float64)
                shares.append(part * targets[:, images].shape[1] / 6)
        return torch.stack(shares).sum()

    whole = gradients(bottleneck, weights, lambda z, w: dino_loss(z, w, targets, 0.1, precision=torch.float64))
    parts = gradients(bottleneck, weights, in_shares)
    assert parts[0] == pytest.approx(whole[0], rel=1e-12)
    for one, other in zip(parts[1:], whole[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-14)


def test_float32_loss_of_many_prototypes_equals_the_textbook_in_float64() -> None:
    bottleneck, weights, teacher = last_layer(8, 4, 65536)
    targets = (teacher / 0.04).softmax(dim=-1)
    expected = textbook_dino_loss(bottleneck @ weights.T, targets, 0.1)
    assert dino_loss(bottleneck.float(), weights.float(), targets.float(), 0.1).item() == pytest.approx(expected.item(), rel=1e-6)


def test_products_in_bfloat16_leave_loss_and_gradients_close_to_those_of_float32() -> None:
    bottleneck, weights, teacher = (tensor.float() for tensor in last_layer(6, 8, 4096))
    targets = (teacher / 0.04).softmax(dim=-1)
    exact = gradients(bottleneck, weights, lambda z, w: dino_loss(z, w, targets, 0.1))
    low = gradients(bottleneck, weights, lambda z, w: dino_loss(z, w, targets, 0.1, precision=torch.bfloat16))
    assert low[0] == pytest.approx(exact[0], rel=2e-3)
    for one, other in zip(low[1:], exact[1:], strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.02 * other.norm()


def test_prototypes_that_are_not_trained_get_no_gradient_and_the_bottleneck_the_same() -> None:
    bottleneck, weights, teacher = last_layer(4, 3, 32)
    targets = teacher.softmax(dim=-1)
    trained = gradients(bottleneck, weights, lambda z, w: dino_loss(z, w, targets, 0.1))
    frozen = gradients(bottleneck, weights, lambda z, w: dino_loss(z, w, targets, 0.1, train_prototypes=False))
    assert frozen[2] is None
    assert trained[2] is not None
    assert torch.equal(frozen[1], trained[1])


def test_loss_of_a_student_that_tells_nothing_is_the_plateau_ln_k() -> None:
    _, weights, teacher = last_layer(4, 3, 128)
    nothing = torch.zeros(4, 3, 8)
    assert dino_loss(nothing, weights.float(), teacher.softmax(dim=-1).float(), 0.1).item() == pytest.approx(math.log(128))


def test_loss_of_a_batch_without_images_is_zero_and_so_are_its_gradients() -> None:
    weights = torch.ones(16, 8)
    loss, bottleneck, prototypes = gradients(torch.zeros(4, 0, 8), weights, lambda z, w: dino_loss(z, w, torch.zeros(2, 0, 16), 0.1))
    assert loss == 0
    assert bottleneck.shape == (4, 0, 8)
    assert torch.equal(prototypes, torch.zeros(16, 8))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_one_tensor_of_all_logits_is_made_and_of_float32_no_larger_one_than_those_of_a_view(precision: torch.dtype) -> None:
    views, batch, prototypes = 6, 4, 4096
    bottleneck, weights, teacher = (tensor.float() for tensor in last_layer(views, batch, prototypes))
    targets = teacher.softmax(dim=-1)
    with Allocations() as made:
        gradients(bottleneck, weights, lambda z, w: dino_loss(z, w, targets, 0.1, precision=precision))
    all_logits = [dtype for dtype, count in made.sizes if count >= views * batch * prototypes]
    assert all_logits == [precision]
    rest = [count for dtype, count in made.sizes if dtype == torch.float32 and count > weights.numel()]
    assert max([count for count in rest if count < views * batch * prototypes], default=0) <= batch * prototypes


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
