"""A process of a job that leaves its number in a file and waits, or fails; for `test_local_launcher.py`, and light: without torch."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path

from dino4cells.cluster.entry import process_of_a_job
from dino4cells.errors import DataError


def main(directory: Path, ends: str) -> None:
    """Wait for the other process of this start; then the second one ends as is wanted of it at its first start, its second, …."""
    rank = os.environ["RANK"]
    start = len(list(directory.glob(f"{rank}-*.pid")))
    print(f"process {rank} is there", flush=True)
    (directory / f"{rank}-{start}.partial").write_text(str(os.getpid()))
    (directory / f"{rank}-{start}.partial").rename(directory / f"{rank}-{start}.pid")
    while len(list(directory.glob(f"*-{start}.pid"))) < 2:
        time.sleep(0.05)
    end = ends.split(",")[start]
    if end != "wait" and rank == "1":
        fail(end)
    time.sleep(120)


def fail(end: str) -> None:
    """End as is wanted."""
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "mistake":
        raise DataError("cells.csv: the table has no rows; it needs one row a cell.")
    try:
        raise ZeroDivisionError("a bug")
    except ZeroDivisionError:
        traceback.print_exc()
        sys.exit(3)


if __name__ == "__main__":
    with process_of_a_job():
        main(Path(sys.argv[1]), sys.argv[2])
