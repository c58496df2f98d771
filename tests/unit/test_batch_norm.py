"""Batch normalization in one process; `test_two_processes.py` has it in two."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn

from dino4cells.models.backbones import build_backbone
from dino4cells.models.head import DINOHead
from dino4cells.training.batch_norm import (
    GpuBatchNorm,
    SynchronizedBatchNorm,
    has_batch_norm,
    normalize_by_the_batch,
    synchronize_batch_norm,
)
from dino4cells.training.distributed import ProcessGroup

ALONE = ProcessGroup(0, 1, 0, torch.device("cpu"))


@pytest.fixture
def in_plain_operations() -> Iterator[None]:
    """A group of processes that has one member."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("in_plain_operations")
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5, 7), (1, 3, 2, 1)])
def test_plain_operations_are_those_of_pytorch(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ours, theirs = SynchronizedBatchNorm(3), nn.BatchNorm1d(3) if len(shape) == 2 else nn.BatchNorm2d(3)
    nn.init.normal_(theirs.weight)
    nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    for _ in range(3):
        inputs = [(torch.randn(shape) * 3 + 100).requires_grad_()]
        inputs.append(inputs[0].detach().clone().requires_grad_())
        direction = torch.randn(shape)
        for norm, values in zip((ours, theirs), inputs, strict=True):
            norm.zero_grad()
            (norm(values) * direction).sum().backward()
        torch.testing.assert_close(ours(inputs[0]), theirs(inputs[1]), rtol=1e-4, atol=1e-4)
        assert inputs[0].grad is not None
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-4)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.eval()(inputs[0]), theirs.eval()(inputs[0]))


def test_one_process_takes_the_form_of_pytorch_bit_for_bit() -> None:
    ours, theirs = SynchronizedBatchNorm(3), nn.BatchNorm2d(3)
    inputs = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(inputs), theirs(inputs))
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


def test_a_single_value_becomes_the_bias_and_no_value_changes_nothing() -> None:
    norm = SynchronizedBatchNorm(3)
    nn.init.normal_(norm.bias)
    before = copy.deepcopy(norm.state_dict())
    assert norm(torch.empty(0, 3, 2, 2)).shape == (0, 3, 2, 2)
    torch.testing.assert_close(norm.state_dict(), before, rtol=0, atol=0)
    torch.testing.assert_close(norm(torch.tensor([[1.0, 2.0, 3.0]])), norm.bias[None])
    assert all(value.isfinite().all() for value in norm.state_dict().values())


@pytest.mark.usefixtures("in_plain_operations")
def test_half_precision_comes_out_as_it_came_in_with_statistics_in_float32() -> None:
    inputs = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) + 300
    norm = SynchronizedBatchNorm(3)
    out = norm(inputs.bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(norm.running_mean, 0.1 * inputs.bfloat16().float().mean(dim=0), rtol=1e-5, atol=0)
    assert out.detach().float().std() == pytest.approx(1, abs=0.05)


def test_a_network_keeps_its_names_and_parameters_when_its_norms_are_replaced() -> None:
    network = nn.Sequential(build_backbone("resnet18", 16, 32, 2), DINOHead(512, 8, 16, 4, use_bn=True))
    before, parameters = network.state_dict(), dict(network.named_parameters())
    norms = sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in network.modules())
    synchronize_batch_norm(network, ALONE)
    assert sum(type(module) is SynchronizedBatchNorm for module in network.modules()) == norms == 22
    assert list(network.state_dict()) == list(before)
    assert all(parameter is parameters[name] for name, parameter in network.named_parameters())
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_several_gpus_take_the_fused_form_with_the_settings_of_the_network() -> None:
    network = build_backbone("inception_v3", 16, 32, 2)
    settings = [(module.eps, module.momentum, module.num_features) for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    synchronize_batch_norm(network, ProcessGroup(0, 2, 0, torch.device("cuda")))
    found = [module for module in network.modules() if isinstance(module, GpuBatchNorm)]
    assert [(module.eps, module.momentum, module.num_features) for module in found] == settings
    assert settings[0][0] == 0.001
    assert has_batch_norm(network)
    assert not has_batch_norm(build_backbone("vit_tiny", 16, 32, 2))


def test_a_teacher_normalizes_by_the_batch_and_drops_nothing() -> None:
    teacher = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.9)).eval()
    normalize_by_the_batch(teacher)
    out = teacher(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) + 5)
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(3), rtol=0, atol=1e-5)
    assert not teacher.training
    assert teacher[0].running_mean.min() > 0.3
