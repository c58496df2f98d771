"""Ctrl-C and SIGTERM, sent to the command as a person or a cluster sends them: what it says, and what the same command does next."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dino4cells import steps
from dino4cells.config import Config, load_config
from dino4cells.events import event_of, text_of

DINO4CELLS = (sys.executable, "-m", "dino4cells.cli")


def interrupted(words: list[str], number: signal.Signals, after: int = 1, until: Path | None = None) -> tuple[int, str, str]:
    """Run a command and send it a signal when it has told that it is at work, or a file is there: exit code, standard output, what it
    said last.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*DINO4CELLS, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    while until is not None and not until.exists():
        assert process.poll() is None
        time.sleep(0.01)
    for line in process.stderr if until is None else ():
        if (event := event_of(line)) and event["event"] == "progress" and int(str(event["done"])) >= after:
            break
    process.send_signal(number)
    out, rest = process.communicate(timeout=120)
    assert "Traceback" not in rest
    return process.returncode, out, (rest.splitlines() or [""])[-1]


def test_an_interrupted_training_says_where_it_is_and_goes_on(tiny_config: Callable[..., Config], cells: str, tmp_path: Path) -> None:
    config, output = tmp_path / "config.yaml", tmp_path / "model"
    config.write_text(tiny_config(epochs=2000).to_yaml())
    code, out, said = interrupted(["train", "--config", str(config), "--data", cells, "--output", str(output)], signal.SIGINT)
    assert (code, out) == (130, "")
    found = re.fullmatch(r"interrupted: ([\d,]+) of 48,000 images seen are in (\S+); the same command goes on from there\.", said)
    assert found, said
    assert found[2] == f"{output}.checkpoints"
    seen = int(found[1].replace(",", ""))
    assert [int(path.stem.partition("-")[2]) for path in Path(found[2]).glob("checkpoint-*.pth")] == [seen]


def test_an_interrupted_command_that_keeps_nothing_says_so_to_a_program_too(tmp_path: Path) -> None:
    words = ["simulate", str(tmp_path / "cells"), "--cells", "100000"]
    code, out, said = interrupted([*words, "--json"], signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert json.loads(out) == {"error": "interrupted: the same command starts anew."}
    assert event_of(said)


def test_an_interrupted_extraction_keeps_its_finished_parts(
    tiny_config: Callable[..., Config], model: str, draw_cells: Callable[..., str], tmp_path: Path
) -> None:
    data, output, config = draw_cells(tmp_path / "data", 600), tmp_path / "features", tmp_path / "config.yaml"
    config.write_text(tiny_config({"embedding.rows_per_part": 8, "embedding.batch_size": 8}).to_yaml())
    words = ["extract", "--config", str(config), "--model", model, "--data", data, "--output", str(output)]
    code, out, said = interrupted(words, signal.SIGTERM, until=output / "unfinished" / "part-00002.parquet")
    assert (code, out) == (128 + signal.SIGTERM, "")
    assert text_of(said) == "interrupted: the parts that are finished stay; the same command goes on from there."
    kept = {path.name: path.stat().st_mtime_ns for path in (output / "unfinished").glob("part-*.parquet")}
    assert 0 < len(kept) < 75
    steps.extract(model, config=load_config(str(config)), data=data, output=str(output))
    assert {name: (output / name).stat().st_mtime_ns for name in kept} == kept
    assert len(list(output.glob("part-*.parquet"))) == 75
    assert not (output / "unfinished").exists()


def test_an_interrupted_packing_says_that_its_shards_stay(draw_cells: Callable[..., str], tmp_path: Path) -> None:
    data = draw_cells(tmp_path / "data", 40, sizes=[(128, 128)])
    words = ["data", "pack", "--data", data, "--to", str(tmp_path / "packed"), "--shard-mb", "1", "--processes", "2"]
    code, out, said = interrupted(words, signal.SIGINT, after=0)
    assert (code, out) == (130, "")
    assert said == "interrupted: the shards that are finished stay; the same command goes on from there."
