"""A training step on a CUDA device never waits for it (make test-gpu)."""

from __future__ import annotations

import pytest
import torch

from benchmarks.growth.images import stored
from benchmarks.stepping import Step
from dino4cells.training.distributed import ProcessGroup

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="NO CUDA DEVICE: the GPU tests did not run")]


def test_views_and_step_do_not_wait_for_the_gpu() -> None:
    device = torch.device("cuda")
    step = Step(4, views=((2, 64), (2, 32)), group=ProcessGroup(0, 1, 0, device), out_dim=1024)
    batch = stored(4, 96, 4).to(device)
    step.dino.step(batch, 0)  # kernels are compiled and memory is taken in the first
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = step.dino.step(batch, 4)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(loss)
