"""Speed against a plain reference: `make bench` (the table), `make bench-full` (with the sweeps).

Usage: python -m benchmarks [--full] [--only WORK …] [--record]

Every work is a module of `benchmarks/works` whose `measure(machine)` gives rows; both sides run in this run, in turns. The sweeps are in
`benchmarks/growth`. `--record` writes benchmarks/results.json, the tables of RESULTS.md and docs/scaling.md, and a picture of the sweeps.
"""

from __future__ import annotations

import argparse
import importlib
import time

from benchmarks import scaling
from benchmarks.measuring import Machine, Row
from benchmarks.results import HERE, record, table

WORKS = ("step", "views", "decoding", "training", "extraction", "object_store", "shards", "neighbours", "startup")
MORE = ("report", "analysis")  # with --full, or where they are asked for
GROWTH = ("images", "training", "cells")


def main() -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=(*WORKS, *MORE))
    parser.add_argument("--full", action="store_true", help="the sweeps too, and the report and the analysis of 100,000 cells")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results.json and benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    started = time.monotonic()
    machine = Machine.measured()
    print(machine, flush=True)
    rows: list[Row] = []
    for name in arguments.only or (*WORKS, *(MORE if arguments.full else ())):
        begun = time.monotonic()
        measured = importlib.import_module(f"benchmarks.works.{name}").measure(machine)
        rows += measured
        print(f"\n{name}, {time.monotonic() - begun:.0f} s\n{table(measured)}", flush=True)
    print(f"\n{table(rows)}\n{time.monotonic() - started:.0f} s in all", flush=True)
    if arguments.record:
        record(machine, rows)
    if arguments.full:
        measure_growth(machine, arguments.record)
    if arguments.record:
        scaling.write()


def measure_growth(machine: Machine, keep: bool) -> None:
    """Measure and print the sweeps; with `keep` also their picture."""
    from benchmarks.growth import plot, sweep

    sweeps: list[sweep.Sweep] = []
    for name in GROWTH:
        begun = time.monotonic()
        measured = importlib.import_module(f"benchmarks.growth.{name}").sweeps()
        sweeps += measured
        print(f"\ngrowth: {name}, {time.monotonic() - begun:.0f} s\n{sweep.table(measured)}", flush=True)
    if keep:
        (HERE / "growth.svg").write_bytes(plot.picture(sweeps))
        record(machine, [row for each in sweeps for row in each.rows()], "growth", sweep.table(sweeps))


if __name__ == "__main__":
    main()
