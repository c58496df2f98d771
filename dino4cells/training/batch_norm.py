"""Batch normalization over the batch of all processes (Ioffe and Szegedy 2015), so that it does not depend on how many there are.

Student and teacher both normalize by the batch, as in the published code; the teacher's running statistics, which extraction uses, are
averages over the batches that the teacher has seen, and not of the student's. Processes may have batches of different size, or none.

Dimensions: B batch, C channels, further ones of an image.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn

from dino4cells.training.distributed import ProcessGroup, sum_over_ranks

BatchNorm = nn.modules.batchnorm._BatchNorm


class _SumOverRanks(torch.autograd.Function):
    """The sum over processes. Every process uses it, so that its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return sum_over_ranks(tensor.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return sum_over_ranks(gradients[0].clone())


class SynchronizedBatchNorm(BatchNorm):
    """Batch normalization in plain operations, for one process or several on any device.

    With n values of a channel in all processes together, and both sums over all of them,

        mean = Σ x / n,   variance = Σ (x − mean)² / n,   y = (x − mean) / √(variance + ε) · weight + bias,

    and the gradient is autograd's through both sums. A single value, which PyTorch refuses, has variance 0 and becomes the bias; without
    any value nothing changes. One process takes PyTorch's fused form, which is the same.
    """

    def _check_input_dim(self, inputs: torch.Tensor) -> None:
        """Any number of dimensions after the channels."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Normalized inputs (B, C, …), in their type."""
        if not self.training or (not dist.is_initialized() and inputs.numel() > inputs.shape[1]):
            return super().forward(inputs)
        values, shape = inputs.float(), (1, -1, *[1] * (inputs.ndim - 2))
        over = [0, *range(2, inputs.ndim)]
        here = values.new_full((1,), inputs.numel() / inputs.shape[1])
        summed = _sum(torch.cat([values.sum(over), here]))
        total = summed[-1].detach()
        mean_C = summed[:-1] / total.clamp(min=1)
        centred = values - mean_C.view(shape)
        variance_C = _sum(centred.square().sum(over)) / total.clamp(min=1)
        self._remember(mean_C.detach(), variance_C.detach(), total)
        scale_C = self.weight * (variance_C + self.eps).rsqrt()
        return (centred * scale_C.view(shape) + self.bias.view(shape)).to(inputs.dtype)

    def _remember(self, mean_C: torch.Tensor, variance_C: torch.Tensor, total: torch.Tensor) -> None:
        """Running averages, of the variance without bias, as PyTorch keeps them."""
        running_mean, running_variance, batches = self.running_mean, self.running_var, self.num_batches_tracked
        if running_mean is None or running_variance is None or batches is None:
            return
        share = cast(float, self.momentum) * (total > 0)
        # By `.data`: the fused form of another view's forward pass has saved both for its backward pass, which does not use them.
        running_mean.data.lerp_(mean_C, share)
        running_variance.data.lerp_(variance_C * total / (total - 1).clamp(min=1), share)
        batches.add_((total > 0).to(batches.dtype))


class GpuBatchNorm(nn.SyncBatchNorm):
    """PyTorch's over several GPUs, in fused kernels.

    An empty batch comes in float32, the type of the statistics that the other processes send; PyTorch would take the type of the batch.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Normalized inputs (B, C, …), in their type."""
        if inputs.numel():
            return super().forward(inputs)
        return super().forward(inputs.float()).to(inputs.dtype)


def _sum(tensor: torch.Tensor) -> torch.Tensor:
    summed: torch.Tensor = _SumOverRanks.apply(tensor)
    return summed


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a network normalizes over the batch, so that processes must agree on its statistics."""
    return any(isinstance(module, BatchNorm) for module in network.modules())


def synchronize_batch_norm(network: nn.Module, group: ProcessGroup) -> None:
    """Replace the batch norms inside a network, in place, by those over all processes; parameters and their names stay."""
    kind = GpuBatchNorm if group.world_size > 1 and group.device.type == "cuda" else SynchronizedBatchNorm
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            if isinstance(module, BatchNorm):
                replaced = kind(module.num_features, module.eps, module.momentum, device="meta")
                replaced.weight, replaced.bias = module.weight, module.bias
                for buffer, value in module.named_buffers():
                    replaced.register_buffer(buffer, value)
                setattr(parent, name, replaced.train(module.training))


def normalize_by_the_batch(network: nn.Module) -> None:
    """Let the batch norms of a network in evaluation mode go on with the statistics of the batch, and remember them."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.train()
