"""On a CUDA device (make test-gpu): the same code, the same numbers as on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.reference.images import write_images
from dino4cells import steps
from dino4cells.config import load_config
from dino4cells.data.dataset import CellImages, to_unit_range
from dino4cells.data.loading import load_batches
from dino4cells.data.sampler import SampleOrder, SampleStream
from dino4cells.data.simulate import simulate
from dino4cells.data.source import plain_source
from dino4cells.features.store import read_features
from dino4cells.training.distributed import ProcessGroup
from dino4cells.training.loop import DINO
from dino4cells.training.schedules import Schedules

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="NO CUDA DEVICE: the GPU tests did not run")]

TINY = {
    "model.image_size": 32,
    "model.batch_size": 28,
    "model.epochs": 1,
    "model.precision": "float32",
    "embedding.precision": "float32",
    "out_dim": 64,
    "head_hidden_dim": 64,
    "local_crops_number": 2,
    "global_transfo1.RandomResizedCrop.size": 32,
    "global_transfo2.RandomResizedCrop.size": 32,
    "local_transfo.RandomResizedCrop.size": 16,
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["png", "tiff16"])
def test_batches_that_are_copied_beside_a_computation_are_those_of_the_cpu(kind: str, workers: int, tmp_path: Path) -> None:
    paths = write_images(tmp_path, 12, side=256, format=kind)
    images = CellImages(plain_source([str(path) for path in paths], 4))
    stream = SampleStream(SampleOrder.of_rows(12), epochs=4, batch_size=3)
    summed, expected = [], []
    with iter(load_batches(images, stream, workers, torch.device("cuda"))) as batches:
        for batch in batches:
            assert batch.images_BCHW.is_cuda
            # The step is late: the next copies are asked for while it has not looked at this batch.
            torch.cuda._sleep(20_000_000)
            summed.append(to_unit_range(batch.images_BCHW).double().sum(dim=(1, 2, 3)))
    for keys in stream:
        expected.append(to_unit_range(images.__getitems__(keys).images_BCHW).double().sum(dim=(1, 2, 3)))

    torch.testing.assert_close(torch.stack(summed).cpu(), torch.stack(expected))


def test_training_and_extraction_on_a_gpu_give_the_cpus_numbers(tmp_path: Path) -> None:
    simulate(str(tmp_path / "cells"), cells=84, size=32, plates=2)
    config = load_config(preset="small", overrides=TINY)
    for device in ("cpu", "cuda"):
        card = steps.train(config, data=str(tmp_path / "cells"), output=str(tmp_path / device), device=device)
        assert card.training.samples_seen == 84
        steps.extract(str(tmp_path / device), data=str(tmp_path / "cells"), output=str(tmp_path / f"features-{device}"), device=device)
    on_cpu, on_gpu = (read_features(str(tmp_path / f"features-{device}")).dino for device in ("cpu", "cuda"))
    torch.testing.assert_close(torch.from_numpy(on_gpu), torch.from_numpy(on_cpu), atol=5e-2, rtol=5e-2)


def dino_on(device: str, **model: object) -> tuple[DINO, tuple[torch.Tensor, torch.Tensor]]:
    """DINO and views of eight images, the same numbers on every device."""
    config = load_config(overrides={**TINY, **{f"model.{key}": value for key, value in model.items()}})
    schedules = Schedules.from_config(config.model, 80, 800, 8)
    place = torch.device(device, 0) if device == "cuda" else torch.device(device)
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(2, 8, 4, 32, 32, generator=generator), torch.randn(2, 8, 4, 16, 16, generator=generator)
    return DINO(config, 4, schedules, ProcessGroup(0, 1, 0, place)), (views[0].to(place), views[1].to(place))


@pytest.mark.parametrize("targets", ["centering", "sinkhorn"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_losses_of_steps_on_a_gpu_are_those_on_the_cpu(precision: str, targets: str) -> None:
    losses = {}
    for device in ("cpu", "cuda"):
        dino, views = dino_on(device, precision=precision, targets=targets, drop_path_rate=0, freeze_last_layer=0, accumulation=2)
        losses[device] = [dino.step_on_views(*views, 8 * step).item() for step in range(3)]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-4 if precision == "float32" else 1e-2)


@pytest.mark.parametrize("targets", ["centering", "sinkhorn"])
def test_the_host_waits_for_nothing_in_a_step(targets: str) -> None:
    dino, views = dino_on("cuda", precision="bfloat16", targets=targets, drop_path_rate=0.3, koleo_weight=0.1, accumulation=2)
    dino.step_on_views(*views, 0)  # what is set up at the first use may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = dino.step_on_views(*views, 8)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert loss.isfinite()
