"""How the benchmarks measure: both sides in one run, in turns, against what this machine was just seen to be able to do."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import re
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")

PACKAGES = ("torch", "torchvision", "numpy", "fsspec", "s3fs", "scikit-image")
MATRIX_SIDE, COPIED_BYTES = 2048, 2**28
LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        work: what is done.
        reference, ours: what each side needs or reaches, in `unit`; None where there is no such side.
        unit: of both; says by itself whether more is better (`images/s`) or less (`ms`, `MiB`).
        ratio: how many times better ours is: 2 is twice the images a second, half the milliseconds or half the memory.
        share_of_peak: of what the machine was measured to do at best in the arithmetic used, 0 to 1; None where there is no such measure.
        target: the ratio that is aimed at; None: nothing is promised.
        note: what a reader must know, one short phrase.
    """

    work: str
    reference: float | None
    ours: float
    unit: str
    ratio: float | None
    share_of_peak: float | None = None
    target: float | None = None
    note: str = ""

    def published(self) -> dict[str, object]:
        """As in results.json."""
        return {key: asdict(self)[key] for key in ("work", "reference", "ours", "ratio", "unit", "share_of_peak")}


def alternate(sides: Mapping[str, Callable[[], object]], *, rounds: int = 5, warm_up: int = 1) -> dict[str, float]:
    """Seconds of one call of each side: the least of several rounds, in which the sides take turns, so that a busy moment hits both."""
    for side in sides.values():
        for _ in range(warm_up):
            side()
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(rounds):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def alternate_apart(
    sides: Mapping[str, tuple[Callable[..., Callable[[], object]], tuple[Any, ...]]], *, rounds: int = 5
) -> dict[str, float]:
    """As `alternate`, with every side built and called in a process of its own, which waits while another is measured.

    Args:
        sides: one whose name begins with `reference` runs with PyTorch's own settings, another with those that `import dino4cells` makes.
    """
    context = multiprocessing.get_context("spawn")
    pools: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        for name, (build, arguments) in sides.items():
            with _environment(LARGE_PAGES, "0" if name.startswith("reference") else "1"):
                pools[name] = stack.enter_context(context.Pool(1, _build_side, (build, arguments)))
                pools[name].apply(_seconds_of_side)
        best = dict.fromkeys(sides, float("inf"))
        for _ in range(rounds):
            for name, pool in pools.items():
                best[name] = min(best[name], pool.apply(_seconds_of_side))
    return best


_side: Callable[[], object] | None = None


def _build_side(build: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> None:
    global _side
    _side = build(*arguments)


def _seconds_of_side() -> float:
    assert _side is not None
    started = time.perf_counter()
    _side()
    return time.perf_counter() - started


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def seconds(work: Callable[[], object], *, rounds: int = 5, warm_up: int = 1) -> float:
    """The least of several rounds."""
    return alternate({"work": work}, rounds=rounds, warm_up=warm_up)["work"]


def peak_memory_mib() -> float:
    """The most memory that this process has held so far, in MiB.

    Linux says it of the process's own memory; `ru_maxrss` begins with what the process that started it had held.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)[1]) / 1024  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def apart(function: Callable[..., Result], *arguments: Any) -> Result:
    """The result of a function of a module, called in a fresh process: nothing that ran before it has warmed caches or taken memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


@dataclass(frozen=True)
class Machine:
    """What the benchmarks run on, and what it was measured to do at best with all its cores.

    Attributes:
        multiply_adds: floating point operations a second of a large matrix product, by type; a multiply-add counts two.
        copied_bytes: bytes read and written a second by a large copy in memory.
    """

    processor: str
    cores: int
    memory_gib: float
    multiply_adds: Mapping[torch.dtype, float]
    copied_bytes: float
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def measured(cls) -> Machine:
        """This machine, measured now."""
        multiply_adds = {}
        for dtype in (torch.float32, torch.bfloat16):
            left, right = (torch.randn(MATRIX_SIDE, MATRIX_SIDE).to(dtype) for _ in range(2))
            multiply_adds[dtype] = 2 * MATRIX_SIDE**3 / seconds(lambda left=left, right=right: left @ right)  # type: ignore[misc]
        source = torch.ones(COPIED_BYTES, dtype=torch.uint8)
        target = torch.empty_like(source)
        copied = 2 * COPIED_BYTES / seconds(lambda: target.copy_(source))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        return cls(_processor(), torch.get_num_threads(), memory, multiply_adds, copied, _versions())

    def __str__(self) -> str:
        types = ", ".join(f"{str(dtype).removeprefix('torch.')} {rate / 1e9:,.0f}" for dtype, rate in self.multiply_adds.items())
        packages = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"{self.processor}, {self.cores} cores, {self.memory_gib:.0f} GiB; matrix product in GFLOP/s: {types}; "
            f"copy {self.copied_bytes / 1e9:.0f} GB/s (read and written)\n{packages}"
        )


def _processor() -> str:
    name = platform.processor() or platform.machine()
    features: list[str] = []
    try:
        with open("/proc/cpuinfo") as file:
            lines = dict(line.split(":", 1) for line in file.read().partition("\n\n")[0].splitlines() if ":" in line)
    except OSError:
        return name
    values = {key.strip(): value.strip() for key, value in lines.items()}
    features = [label for flag, label in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512 bf16")) if flag in values.get("flags", "").split()]
    return f"{values.get('model name', name)} ({', '.join(features) or 'no bf16 arithmetic'})"


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
