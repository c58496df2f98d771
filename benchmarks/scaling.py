"""docs/scaling.md: what an image and a step were measured to cost, and from that, on paper, what millions of cells would take.

Usage: python -m benchmarks.scaling [--write] [--images-per-second N] [--gpu-hour PRICE] …

Prints the page's tables from benchmarks/results.json under the given assumptions. `--write` puts them into the page under its own, as
`make bench RECORD=1` does. No figure of the tables is written by hand.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.results import HERE
from dino4cells.data.shards import BLOCK_BYTES

PAGE = HERE.parent / "docs" / "scaling.md"
CELLS, GPUS = (10**6, 10**8, 10**9), (1, 8, 64)
# Operations of an image, in 10⁹: of the published step as `make bench` counts them (2×224 + 8×96 px), and of vit_tiny/16's forward pass.
# In each of 11 blocks 197 tokens take 24 D² in linear layers and 4 N D in attention; the last computes keys, values and the class token.
TRAINING_GFLOP = 31.4
TOKENS, WIDTH, PATCH_VALUES = 197, 192, 16 * 16 * 4
LINEAR_GFLOP = (WIDTH**2 * (11 * 24 * TOKENS + 4 * TOKENS + 20) + 2 * PATCH_VALUES * WIDTH * (TOKENS - 1)) / 1e9
EXTRACTION_GFLOP = LINEAR_GFLOP + (11 * TOKENS + 1) * 4 * TOKENS * WIDTH / 1e9


@dataclass(frozen=True)
class Assumptions:
    """What was not measured here; each is an option of the command line.

    Attributes:
        images_per_second: a GPU's, in training vit_tiny.
        gpu_hour: price of a GPU with its share of a machine, in any currency.
        gpus, cores, memory_gb, network_gbit: of a machine.
        store_requests: that the object store answers a second.
        late: seconds until it answers.
    """

    images_per_second: float = 121
    gpu_hour: float = 2.0
    gpus: int = 8
    cores: int = 96
    memory_gb: float = 1000
    network_gbit: float = 100
    store_requests: float = 5500
    late: float = 0.05


@dataclass(frozen=True)
class Coefficients:
    """What was measured, of an image of 512 px and 4 channels as PNG where nothing else is said; times are those of one core.

    Attributes:
        decode_ms, views_ms: CPU time of decoding and of making the views on a CPU.
        file_ms, shard_ms: CPU time of fetching a file of a few KB, and the same as a part of a shard.
        image_bytes: as stored.
        row_bytes, row_us: memory and CPU time of a row of the table, in each process.
        step_per_second, extracted_per_second: images a second of the machine of RESULTS.md, without a GPU.
        neighbours_ms: a query among a million cells, on that machine.
    """

    decode_ms: float
    views_ms: float
    file_ms: float
    shard_ms: float
    image_bytes: float
    row_bytes: float
    row_us: float
    step_per_second: float
    extracted_per_second: float
    neighbours_ms: float

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Coefficients:
        """From the rows of results.json."""

        def find(part: str) -> Mapping[str, Any]:
            """The first row whose work holds this."""
            found = [row for row in rows if part in str(row["work"])]
            if not found:
                raise SystemExit(f"benchmarks/results.json holds no '{part}'; run: make bench-full RECORD=1")
            return found[0]

        decode_ms = find("decoding: PNG of 8 bits, 512 px")["ours"]
        fetch, neighbours = find("… CPU time of an image"), find("-NN: ")
        queries = int(re.search(r"([\d,]+) queries", neighbours["work"])[1].replace(",", ""))  # type: ignore[index]
        return cls(
            decode_ms=decode_ms,
            views_ms=find("views: the published configuration, 512 px")["ours"],
            file_ms=fetch["reference"],
            shard_ms=fetch["ours"],
            # The same decoding, per image and per byte.
            image_bytes=1e6 * decode_ms / find("decoding: a byte of ")["reference"],
            row_bytes=find("growth: memory of the table, 1,000,000")["ours"] * 2**20 / 1e6,
            row_us=find("growth: reading the table, 1,000,000")["ours"],
            step_per_second=find("training step")["ours"],
            extracted_per_second=find("extraction: ")["ours"],
            neighbours_ms=1000 * neighbours["ours"] / queries,
        )


def measured(found: Coefficients) -> str:
    """What an image costs."""
    kilobytes = found.image_bytes / 1e3
    return _table(
        ("of an image", "CPU ms of a core", "KB", "requests"),
        [
            ("fetched from a store as a file", f"{found.file_ms:.2f}", f"{kilobytes:,.0f}", "1"),
            ("fetched as a part of a shard", f"{found.shard_ms:.2f}", f"{kilobytes:,.0f}", f"{found.image_bytes / BLOCK_BYTES:.2f}"),
            ("from the cache", "–", "0", "0"),
            ("decoded", f"{found.decode_ms:.1f}", "", ""),
            ("its views, where there is no GPU", f"{found.views_ms:.1f}", "", ""),
            ("its row of the table, in each process", f"{found.row_us / 1e3:.4f}", f"{found.row_bytes / 1e3:.2f} of memory", ""),
        ],
    ) + (
        f"\n\nWithout a GPU, the machine of RESULTS.md trains {found.step_per_second:.1f} images a second (vit_tiny, views made), extracts "
        f"{found.extracted_per_second:.1f} (vit_small) and finds the neighbours of a cell among a million in {found.neighbours_ms:.1f} ms."
    )


def needed(found: Coefficients, assumed: Assumptions) -> str:
    """What one GPU must be given a second."""
    slow, fast = assumed.images_per_second, 10 * assumed.images_per_second
    rates = {
        f"training, {slow:,.0f} images/s": slow,
        f"training, {fast:,.0f}": fast,
        f"extraction, {_extracted(assumed):,.0f}": _extracted(assumed),
    }
    lines: list[tuple[str, ...]] = [
        ("cores that decode", *(f"{_cores(found, rate):.1f}" for rate in rates.values())),
        ("MB/s", *(f"{rate * found.image_bytes / 1e6:,.0f}" for rate in rates.values())),
        ("requests/s, files", *(f"{rate:,.0f}" for rate in rates.values())),
        ("requests/s, shards", *(f"{rate * found.image_bytes / BLOCK_BYTES:,.0f}" for rate in rates.values())),
        (f"requests under way, files, {1000 * assumed.late:.0f} ms late", *(f"{rate * assumed.late:,.0f}" for rate in rates.values())),
    ]
    return _table(("of one GPU", *rates), lines)


def runs(assumed: Assumptions) -> str:
    """Time and price of a pass over the data."""
    lines: list[tuple[str, ...]] = []
    for cells in CELLS:
        training, extraction = (cells / rate / 3600 for rate in (assumed.images_per_second, _extracted(assumed)))
        for work, hours in (("training, an epoch", training), ("extraction", extraction)):
            price = hours * assumed.gpu_hour
            shown = f"{price:,.0f}" if price >= 10 else f"{price:.1f}"
            lines.append((_power(cells), work, *(_duration(hours / gpus) for gpus in GPUS), f"{hours:,.1f}", shown))
    return _table(("cells", "pass", *(f"{count} GPU{'s' * (count > 1)}" for count in GPUS), "GPU hours", "price"), lines)


def limits(found: Coefficients, assumed: Assumptions) -> str:
    """What of a machine and of the store is used up, as a share; the largest of a line saturates first."""
    lines: list[tuple[str, ...]] = []
    for work, rate in (("training", assumed.images_per_second), ("training, 10×", 10 * assumed.images_per_second), ("extraction", None)):
        for gpus in GPUS:
            here, rate_of_all = min(gpus, assumed.gpus), gpus * (rate or _extracted(assumed))
            of_a_machine = here * (rate or _extracted(assumed))
            shares = {
                "cores": _cores(found, of_a_machine) / (assumed.cores * here / assumed.gpus),
                "network": of_a_machine * found.image_bytes * 8e-9 / assumed.network_gbit,
                "store, files": rate_of_all / assumed.store_requests,
                "store, shards": rate_of_all * found.image_bytes / BLOCK_BYTES / assumed.store_requests,
            }
            first = max(("cores", "network", "store, files"), key=lambda name: shares[name])
            lines.append((work, f"{gpus}", *(f"{share:.0%}" for share in shares.values()), first if shares[first] >= 0.5 else "the GPU"))
    return _table(("pass", "GPUs", "cores", "network", "store, files", "store, shards", "first, of files"), lines)


def memory(found: Coefficients, assumed: Assumptions) -> str:
    """What does not grow with the GPUs but with the cells."""
    lines: list[tuple[str, ...]] = []
    for cells in CELLS:
        table, stored = cells * found.row_bytes / 1e9, cells * found.image_bytes / 1e12
        lines.append(
            (
                _power(cells),
                f"{stored:,.1f} TB" if stored >= 1 else f"{1000 * stored:,.0f} GB",
                f"{table:,.1f} GB",
                f"{table * assumed.gpus / assumed.memory_gb:.0%}",
                _duration(cells * found.row_us / 1e6 / 3600),
                f"{cells * 192 * 4 / 1e9:,.0f} GB",
            )
        )
    head = ("cells", "images", "table, in a process", f"of {assumed.memory_gb:,.0f} GB, {assumed.gpus} processes", "read in", "features")
    return _table(head, lines)


def page(text: str, found: Coefficients, assumed: Assumptions) -> str:
    """The page with its tables made anew."""
    for name, table in tables(found, assumed).items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = place.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)  # type: ignore[misc]
    return text


def tables(found: Coefficients, assumed: Assumptions) -> dict[str, str]:
    """The page's tables by the names of their places."""
    return {
        "measured": measured(found),
        "assumed": _assumed(assumed),
        "needed": needed(found, assumed),
        "runs": runs(assumed),
        "limits": limits(found, assumed),
        "memory": memory(found, assumed),
    }


def write() -> None:
    """Put the tables of the recorded results into the page."""
    PAGE.write_text(page(PAGE.read_text(), coefficients(), Assumptions()))


def coefficients() -> Coefficients:
    """Those of benchmarks/results.json."""
    return Coefficients.of(json.loads((HERE / "results.json").read_text()))


def _cores(found: Coefficients, rate: float) -> float:
    """Cores that fetch files and decode so many images a second."""
    return rate * (found.decode_ms + found.file_ms) / 1e3


def _extracted(assumed: Assumptions) -> float:
    """Images a second of extraction, in the ratio of the operations."""
    return assumed.images_per_second * TRAINING_GFLOP / EXTRACTION_GFLOP


def _assumed(assumed: Assumptions) -> str:
    published = " (published for an RTX 3090 and vit_tiny)" if assumed.images_per_second == Assumptions.images_per_second else ""
    lines = [
        f"a GPU trains {assumed.images_per_second:,.0f} images/s{published}, and in a second case ten times that",
        f"it extracts more in the ratio of the operations: {TRAINING_GFLOP:.0f} GFLOP a step, {EXTRACTION_GFLOP:.1f} a forward pass",
        "GPUs share work without loss",
        f"an hour of a GPU with its share of a machine costs {assumed.gpu_hour:g}",
        f"a machine has {assumed.gpus} GPUs, {assumed.cores} cores as fast as those measured, {assumed.memory_gb:,.0f} GB of memory and "
        f"{assumed.network_gbit:.0f} Gbit/s",
        f"the store answers {assumed.store_requests:,.0f} requests a second (published by S3 for a prefix), "
        f"each {1000 * assumed.late:.0f} ms late",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _power(cells: int) -> str:
    return f"10{''.join('⁰¹²³⁴⁵⁶⁷⁸⁹'[int(digit)] for digit in str(len(str(cells)) - 1))}"


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.0f} min" if hours * 60 >= 1 else f"{3600 * hours:.0f} s"
    return f"{hours:,.1f} h" if hours < 48 else f"{hours / 24:,.0f} days"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *lines))


def main() -> None:
    """Print the tables, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into docs/scaling.md, under its own assumptions")
    for field in dataclasses.fields(Assumptions):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    options = vars(parser.parse_args())
    if options.pop("write"):
        write()
        return
    for name, table in tables(coefficients(), Assumptions(**options)).items():
        print(f"{name}\n\n{table}\n")


if __name__ == "__main__":
    main()
