"""Optimizers, clipping and the teacher's moving average against their formulas."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from dino4cells.config import Config
from dino4cells.training.optimizer import LARS, build_optimizer, clip_gradients, set_rates, update_teacher


class Network(nn.Module):
    """A weight, a bias, a norm and a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)
        self.norm = nn.LayerNorm(3)
        self.frozen = nn.Parameter(torch.ones(3, 1), requires_grad=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.norm(self.layer(inputs)) * self.frozen[:, 0]
        return output


def with_gradients() -> Network:
    network = Network()
    network(torch.randn(5, 4)).square().sum().backward()
    return network


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD), ("lars", LARS)])
def test_only_weights_decay_and_frozen_parameters_are_left_out(
    name: str, kind: type[torch.optim.Optimizer], tiny_config: Callable[..., Config]
) -> None:
    network = Network()
    optimizer = build_optimizer(network, tiny_config(optimizer=name).model)
    set_rates(optimizer, lr=0.1, weight_decay=0.3)
    assert isinstance(optimizer, kind)
    decaying, plain = optimizer.param_groups
    assert decaying["params"] == [network.layer.weight]
    assert set(plain["params"]) == {network.layer.bias, network.norm.weight, network.norm.bias}
    assert (decaying["lr"], decaying["weight_decay"]) == (0.1, 0.3)
    assert (plain["lr"], plain["weight_decay"]) == (0.1, 0.0)


def test_adamw_step_is_that_of_loshchilov_and_hutter(tiny_config: Callable[..., Config]) -> None:
    network = with_gradients()
    weight, gradient = network.layer.weight.detach().clone(), network.layer.weight.grad.clone()
    bias = network.layer.bias.detach().clone()
    optimizer = build_optimizer(network, tiny_config(optimizer="adamw").model)
    set_rates(optimizer, lr=0.01, weight_decay=0.5)
    optimizer.step()
    torch.testing.assert_close(network.layer.weight, weight * (1 - 0.01 * 0.5) - 0.01 * gradient.sign(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close((network.layer.bias - bias).abs(), torch.full((3,), 0.01), rtol=1e-3, atol=0)


def test_lars_steps_are_those_of_the_published_code(tiny_config: Callable[..., Config]) -> None:
    network = with_gradients()
    optimizer = build_optimizer(network, tiny_config(optimizer="lars").model)
    set_rates(optimizer, lr=0.3, weight_decay=0.01)
    weight, bias = network.layer.weight.detach().clone(), network.layer.bias.detach().clone()
    weight_momentum, bias_momentum = torch.zeros_like(weight), torch.zeros_like(bias)
    for _ in range(3):
        change = network.layer.weight.grad + 0.01 * weight
        weight_momentum = 0.9 * weight_momentum + change * 0.001 * weight.norm() / change.norm()
        weight = weight - 0.3 * weight_momentum
        bias_momentum = 0.9 * bias_momentum + network.layer.bias.grad
        bias = bias - 0.3 * bias_momentum
        optimizer.step()
    torch.testing.assert_close(network.layer.weight.detach(), weight)
    torch.testing.assert_close(network.layer.bias.detach(), bias)


def test_lars_leaves_a_weight_of_zeros_without_gradient_finite(tiny_config: Callable[..., Config]) -> None:
    network = Network()
    nn.init.zeros_(network.layer.weight)
    network.layer.weight.grad = torch.zeros_like(network.layer.weight)
    optimizer = build_optimizer(network, tiny_config(optimizer="lars").model)
    set_rates(optimizer, lr=0.3, weight_decay=0.01)
    optimizer.step()
    assert (network.layer.weight == 0).all()


def test_gradients_are_clipped_one_parameter_at_a_time() -> None:
    small, large, none = (nn.Parameter(torch.zeros(4)) for _ in range(3))
    small.grad, large.grad = torch.full((4,), 0.5), torch.tensor([30.0, 40.0, 0, 0])
    clip_gradients([small, large, none], 3.0)
    torch.testing.assert_close(small.grad, torch.full((4,), 0.5))  # its norm is 1
    torch.testing.assert_close(large.grad, torch.tensor([1.8, 2.4, 0, 0]))
    assert none.grad is None


def test_a_limit_of_zero_clips_nothing() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([300.0, 400.0])
    clip_gradients([parameter], 0)
    assert parameter.grad.tolist() == [300, 400]


def test_teacher_is_the_moving_average_of_the_student() -> None:
    student = Network()
    teacher = copy.deepcopy(student).requires_grad_(False)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))
    before = [parameter.clone() for parameter in teacher.parameters()]
    update_teacher(teacher, student, 0.99)
    for old, new, followed in zip(before, teacher.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(new, 0.99 * old + 0.01 * followed)


def test_a_momentum_of_one_leaves_the_teacher_bit_for_bit() -> None:
    student = Network()
    teacher = copy.deepcopy(student).requires_grad_(False)
    before = [parameter.clone() for parameter in teacher.parameters()]
    with torch.no_grad():
        student.layer.weight.add_(1)
    update_teacher(teacher, student, 1.0)
    assert all(torch.equal(old, new) for old, new in zip(before, teacher.parameters(), strict=True))
