"""The commands of the README, run as they stand there, one after another in one directory.

`make demo` and `make test` are run by CI.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

HANDBOOK_CONFIG = """\
 model:
  model_type: DINO
  root: cells
  data_path: cells/metadata.csv
  output_dir: handbook-model
  epochs: 1
  batch_size_per_gpu: 14
  patch_size: 16
  out_dim: 64
 embedding:
  pretrained_weights: handbook-model/checkpoint.pth
  output_path: handbook-features
 global_transfo1:
  RandomResizedCrop: [True, {size: 32, scale: [0.4, 1]}]
 global_transfo2:
  RandomResizedCrop: [True, {size: 32, scale: [0.4, 1]}]
 local_crops_number: 1
 local_transfo:
  RandomResizedCrop: [True, {size: 16, scale: [0.2, 0.5]}]
"""


def _commands(program: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(program)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("readme")
    (place / "config.yaml").write_text(HANDBOOK_CONFIG)
    return place


@pytest.mark.parametrize("command", _commands("dino4cells"))
def test_the_readmes_command_works(command: str, directory: Path) -> None:
    words = shlex.split(command)
    if not torch.cuda.is_available() and "--gpus" in words:
        place = words.index("--gpus")
        del words[place : place + 2]  # that it asks for a GPU with a clear sentence is shown elsewhere
    done = subprocess.run([sys.executable, "-m", "dino4cells.cli", *words[1:]], cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_features_are_read_as_the_readme_says(directory: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[0]
    script = code + "print(len(features))"
    done = subprocess.run([sys.executable, "-c", script], cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(pd.read_csv(directory / "cells" / "metadata.csv"))


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {target for names in re.findall(r"^([a-z][a-z -]*):(?!=)", makefile, flags=re.MULTILINE) for target in names.split()}
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.MULTILINE))
    assert named
    assert named - targets == set()


def test_ci_runs_the_readmes_two_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"^make demo\b", script, flags=re.MULTILINE)
    assert re.search(r"^make test$", script, flags=re.MULTILINE)
