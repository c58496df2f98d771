"""The training step over batch, prototypes, tokens, channels and processes.

vit_tiny/16 everywhere. Views are random numbers; sweeps that do not need large ones use 2×64 + 2×32 px and 1,024 prototypes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from benchmarks.growth.sweep import Sweep, cpu_seconds, exponent
from benchmarks.measuring import apart, peak_memory_mib, seconds
from benchmarks.stepping import ALONE, Step
from dino4cells.training.distributed import ProcessGroup, process_group

BATCHES = (1, 2, 4, 8, 16, 32, 64)
PROTOTYPES = (1024, 4096, 16384, 65536, 262144)
TOKEN_SIDES = (64, 96, 128, 192, 256, 384, 512)
CHANNELS = (1, 2, 4, 8, 12)
PROCESSES = (1, 2)
BATCH_OF_ALL = 32
WIDTH, PATCH = 192, 16
SMALL = ((2, 64), (2, 32))


def small_step(batch: int, *, channels: int = 4, group: ProcessGroup = ALONE, out_dim: int = 1024) -> Step:
    """A step that takes little beside what is made larger."""
    return Step(batch, channels=channels, views=SMALL, group=group, out_dim=out_dim)


def on_large_views(side: int) -> Step:
    """A step on two global views alone."""
    return Step(2, views=[(2, side)], image_size=side, out_dim=1024)


def sweeps() -> list[Sweep]:
    """Milliseconds for a step, and where it matters the memory."""
    by_prototypes = [apart(_with_prototypes, count) for count in PROTOTYPES]
    tokens = [(side // PATCH) ** 2 + 1 for side in TOKEN_SIDES]
    upper = tokens[len(tokens) // 2 :]
    # Of a block: 24 D² operations a token in its linear layers, 4 N D in attention.
    arithmetic = exponent(upper, [count * (6 * WIDTH + count) for count in upper])
    by_tokens = [1000 * cpu_seconds(on_large_views(side)) for side in TOKEN_SIDES]
    by_channels = [1000 * cpu_seconds(small_step(8, channels=channels)) for channels in CHANNELS]
    return [
        Sweep("step", "images of a batch", "CPU ms", BATCHES, [1000 * cpu_seconds(small_step(batch)) for batch in BATCHES]),
        Sweep("step of 4 images", "prototypes", "CPU ms", PROTOTYPES, [milliseconds for milliseconds, _ in by_prototypes]),
        Sweep("memory of that step", "prototypes", "MiB", PROTOTYPES, [mib for _, mib in by_prototypes]),
        Sweep("step of 2 images", "tokens of a view", "CPU ms", tokens, by_tokens, arithmetic, "attention's part is quadratic"),
        Sweep("step of 8 images", "channels", "CPU ms", CHANNELS, by_channels),
        Sweep(
            f"step of {BATCH_OF_ALL} images, 1 thread each",
            "processes",
            "ms",
            PROCESSES,
            [_by_processes(count) for count in PROCESSES],
            0.0,
            "−1: twice the processes, half the time",
        ),
    ]


def _with_prototypes(count: int) -> tuple[float, float]:
    """Milliseconds and the MiB that building and stepping added to this process."""
    before = peak_memory_mib()
    taken = cpu_seconds(small_step(4, out_dim=count))
    return 1000 * taken, peak_memory_mib() - before


def _by_processes(count: int) -> float:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m", __name__]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """What each of several processes does; the first prints the milliseconds of a step."""
    with process_group("cpu") as group:
        step = small_step(BATCH_OF_ALL // group.world_size, group=group)
        taken = seconds(step, rounds=5)
        if group.is_first:
            print(json.dumps(1000 * taken), flush=True)


if __name__ == "__main__":
    main()
