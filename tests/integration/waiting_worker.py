"""A process of a job that leaves its number in a file and waits, or fails; for `test_local_launcher.py`, and light: without torch."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from dino4cells.cluster.entry import process_of_a_job
from dino4cells.errors import DataError


def main(directory: Path, what: str) -> None:
    """Wait for the other process; then the second one fails where that is wanted."""
    rank = os.environ["RANK"]
    print(f"process {rank} is there", flush=True)
    (directory / f"{rank}.partial").write_text(str(os.getpid()))
    (directory / f"{rank}.partial").rename(directory / f"{rank}.pid")
    while len(list(directory.glob("*.pid"))) < 2:
        time.sleep(0.05)
    if what == "fail" and rank == "1":
        raise DataError("cells.csv: the table has no rows; it needs one row a cell.")
    if what == "crash" and rank == "1":
        raise ZeroDivisionError("a bug")
    time.sleep(120)


if __name__ == "__main__":
    with process_of_a_job():
        main(Path(sys.argv[1]), sys.argv[2])
