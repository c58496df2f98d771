"""How long a command takes before it does anything: a fresh process each time, files of the interpreter cached."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.measuring import Machine, Row, alternate

ROUNDS = 6
IMPORT_TORCH = [sys.executable, "-c", "import torch"]


def measure(machine: Machine) -> list[Row]:
    """There is no reference: the note says what the interpreter alone takes, and what `import torch` would add."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "dino4cells --help": [sys.executable, "-m", "dino4cells.cli", "--help"],
        "dino4cells train --help": [sys.executable, "-m", "dino4cells.cli", "train", "--help"],
        "dino4cells train --epchs 3 (refused)": [sys.executable, "-m", "dino4cells.cli", "train", "--epchs", "3"],
    }
    torch = alternate({"import torch": lambda: _run(IMPORT_TORCH)}, rounds=2)["import torch"]
    taken = alternate({name: lambda words=words: _run(words) for name, words in commands.items()}, rounds=ROUNDS)
    bare = taken.pop("python -c pass")
    note = f"aim 0.3 s; python alone {bare:.2f} s, import torch {torch:.1f} s"
    return [Row(name, None, ours, "s", None, note=note) for name, ours in taken.items()]


def _run(words: list[str]) -> None:
    subprocess.run(words, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
