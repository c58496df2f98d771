"""Speed on one GPU: `make bench-gpu`. There is no reference here: the measure is the share of what this GPU was just seen to do at best.

Usage: python -m benchmarks.gpu [--record]

The same step, views and extraction as `make bench` measures on the CPU, in bf16 and at a batch that fills a GPU. Times are those of CUDA
events around several calls, so that they hold neither the first compilation nor the host's waiting.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch

from benchmarks.growth.images import stored
from benchmarks.measuring import Machine, Row
from benchmarks.results import record, table
from benchmarks.stepping import Step
from benchmarks.works.step import flops_of_an_image
from dino4cells.augment.views import EXTRACTION, MultiCrop, ViewKind
from dino4cells.config import load_config
from dino4cells.features.embedding import embed
from dino4cells.models.backbones import build_backbone
from dino4cells.training.distributed import ProcessGroup

CALLS, ROUNDS = 5, 4
BATCH, FULL, EMBEDDED, SIDE, CHANNELS = 64, 256, 256, 512, 4
MATRIX_SIDE, COPIED_BYTES = 8192, 2**31
DEVICE = torch.device("cuda")


def seconds(work: Callable[[], object]) -> float:
    """Of one call, by the GPU's clock: the least of several rounds of several calls."""
    work()
    best = float("inf")
    for _ in range(ROUNDS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(CALLS):
            work()
        end.record()
        end.synchronize()
        best = min(best, begin.elapsed_time(end) / 1000 / CALLS)
    return best


def measured_gpu() -> Machine:
    """This GPU, measured now."""
    host = Machine.measured()
    matrix = torch.randn(MATRIX_SIDE, MATRIX_SIDE, device=DEVICE, dtype=torch.bfloat16)
    source = torch.ones(COPIED_BYTES, device=DEVICE, dtype=torch.uint8)
    target = torch.empty_like(source)
    properties = torch.cuda.get_device_properties(DEVICE)
    return Machine(
        processor=f"{properties.name}, beside {host.processor}",
        cores=host.cores,
        memory_gib=properties.total_memory / 2**30,
        multiply_adds={torch.bfloat16: 2 * MATRIX_SIDE**3 / seconds(lambda: matrix @ matrix)},
        copied_bytes=2 * COPIED_BYTES / seconds(lambda: target.copy_(source)),
        versions=host.versions,
    )


def measure(gpu: Machine) -> list[Row]:
    """The step on ready views, the views, both together, and extraction on decoded images."""
    peak = gpu.multiply_adds[torch.bfloat16]
    batch = stored(BATCH, SIDE, CHANNELS).to(DEVICE)
    make = MultiCrop.from_config(load_config())
    views = seconds(lambda: make(batch))

    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step = Step(BATCH, group=ProcessGroup(0, 1, 0, DEVICE), precision="bfloat16")
    alone = seconds(step)
    memory = torch.cuda.max_memory_allocated() - before
    together = seconds(lambda: step.dino.step(batch, 0))
    full = seconds(Step(FULL, group=ProcessGroup(0, 1, 0, DEVICE), precision="bfloat16"))
    work = flops_of_an_image() / peak
    what = f"vit_tiny/16, {BATCH} images, 2×224 + 8×96 px"

    def row(work: str, value: float, unit: str, share: float | None = None, note: str = "") -> Row:
        return Row(f"GPU: {work}", None, value, unit, None, share, note=note)

    return [
        row("training step", BATCH / alone, "images/s", work * BATCH / alone, what),
        row(
            f"training step of {FULL} images", FULL / full, "images/s", work * FULL / full, "the host needs as long as before to ask for it"
        ),
        row("peak memory of a training step", memory / 2**20, "MiB", note=what),
        row("views", BATCH / views, "images/s", note=f"of {SIDE}-px images with {CHANNELS} channels"),
        row("views and training step", BATCH / together, "images/s", note="of decoded images on the GPU"),
        row("extraction", *_extraction(peak), note=f"vit_small/16, {EMBEDDED} images of 224 px in a batch, decoded"),
    ]


def _extraction(peak: float) -> tuple[float, str, float]:
    """Images a second, their unit, and the share of the peak, by the arithmetic of the linear layers and of attention."""
    from torch.utils.flop_counter import FlopCounterMode

    config = load_config()
    backbone = build_backbone("vit_small", 16, 224, CHANNELS, seed=0).to(DEVICE).eval()
    batch, view = stored(EMBEDDED, 224, CHANNELS).to(DEVICE), ViewKind.from_sections(config, EXTRACTION)

    def extract() -> torch.Tensor:
        with torch.inference_mode():
            return embed(backbone, view, batch, 0, torch.bfloat16)

    with FlopCounterMode(display=False) as counter:
        extract()
    taken = seconds(extract)
    return EMBEDDED / taken, "images/s", counter.get_total_flops() / taken / peak


def main() -> None:
    """Measure and print; without a GPU say so, and fail."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write benchmarks/results.json and benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("SKIPPED: no CUDA device on this machine; nothing was measured")
    gpu = measured_gpu()
    print(gpu, flush=True)
    rows = measure(gpu)
    print(table(rows))
    if arguments.record:
        record(gpu, rows, "GPU")


if __name__ == "__main__":
    main()
