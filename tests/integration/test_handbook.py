"""docs/handbook.md, run as it stands there from its `config.yaml` to the classifiers, on simulated cells and a smaller scale."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dino4cells.config import load_config
from dino4cells.data.handbook_labels import HANDBOOK_LOCALIZATIONS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "handbook.md").read_text(encoding="utf-8")

# What makes the example small: as many cells, epochs and pixels as a minute allows. Everything else is as the document says.
SMALLER = {
    "--cells 168": "--cells 56 --size 32",
    "epochs: 100": "epochs: 2",
    "saveckp_freq: 50": "saveckp_freq: 1",
    "size: 224, scale": "size: 32, scale",
    "size: 96, scale": "size: 16, scale",
    "local_crops_number: 8": "local_crops_number: 2",
    "patch_size: 16": "patch_size: 16\n   out_dim: 256",
}
CELLS, WIDTH = 56, 192


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)
    assert found
    return found


def smaller(text: str) -> str:
    for long, short in SMALLER.items():
        text = text.replace(long, short)
    return text


def commands() -> list[str]:
    lines = [line.split(" #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    assert all(line.startswith("dino4cells ") for line in lines)
    return lines


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("handbook")
    (config,) = blocks("yaml")
    (place / "config.yaml").write_text(smaller(config))
    return place


@pytest.fixture(scope="module")
def answers(directory: Path) -> dict[str, str]:
    """What each command printed, by its verb and last word; they run in the order of the document."""
    answers = {}
    for command in commands():
        words = shlex.split(smaller(command))
        if not torch.cuda.is_available() and "--gpus" in words:
            place = words.index("--gpus")
            del words[place : place + 2]
        done = subprocess.run([sys.executable, "-m", "dino4cells.cli", *words[1:]], cwd=directory, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        answers[f"{words[1]} {words[-1]}"] = done.stdout + done.stderr
    return answers


@pytest.fixture(scope="module")
def table(directory: Path, answers: dict[str, str]) -> pd.DataFrame:
    return pd.read_csv(directory / "cells" / "metadata.csv")


def test_everything_that_is_made_smaller_is_in_the_document() -> None:
    assert [long for long in SMALLER if long not in TEXT] == []


def test_the_table_has_the_columns_that_the_document_lists(table: pd.DataFrame) -> None:
    assert list(table.columns[:4]) == ["file", "ID", "cell_type", "protein_location"]
    assert set(HANDBOOK_LOCALIZATIONS) < set(table.columns)
    assert len(table) == CELLS


def test_the_quirks_of_the_file_are_told_with_their_lines_and_the_last_one_counts(directory: Path, answers: dict[str, str]) -> None:
    lines = (directory / "config.yaml").read_text().splitlines()
    told = answers["config config.yaml"]
    for repeated in ("Get_specific_channel", "global_transfo1"):
        given = [number for number, line in enumerate(lines, start=1) if line.strip().startswith(f"{repeated}:")]
        (warning,) = [line for line in told.splitlines() if "given again" in line and repeated in line]
        assert f"line {given[-1]}" in warning
        assert all(str(number) in warning for number in given)
    assert "local_crops_scale" in told
    used = json.loads((directory / "output" / "model.json").read_text())
    assert used["channels"] == ["microtubules", "protein", "nucleus", "ER"]
    views = load_config(str(directory / "output" / "config.yaml"))
    assert [name for name, _ in views.section("global_transfo1")] == ["Warp_cell", "RandomResizedCrop"]


def test_training_leaves_the_files_that_the_document_lists(directory: Path, answers: dict[str, str]) -> None:
    listed = re.findall(r"^\| `([\w.]+)` \|", TEXT.split("`output/` holds")[1].split("`saveckp_freq")[0], flags=re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (directory / "output").iterdir())
    assert [path.name for path in (directory / "output.checkpoints").iterdir()] == ["checkpoint0001.pth"]
    state = torch.load(directory / "output" / "checkpoint.pth", weights_only=False)
    assert set(re.findall(r"`(\w+)`", next(line for line in TEXT.splitlines() if line.startswith("| `checkpoint.pth`")))) <= {*state, "pth"}
    assert state["teacher"]["backbone.pos_embed"].shape == (1, 1 + (224 // 16) ** 2, WIDTH)


def test_features_are_one_file_in_the_published_layout_in_the_order_of_the_table(directory: Path, table: pd.DataFrame) -> None:
    features, localizations, cell_types, ids = torch.load(directory / "features.pth", weights_only=True)
    assert (features.shape, features.dtype) == ((CELLS, WIDTH), torch.float32)
    assert torch.isfinite(features).all()
    assert len({tuple(row) for row in features.tolist()}) == CELLS
    assert np.array_equal(torch.stack(localizations).numpy(), table[sorted(HANDBOOK_LOCALIZATIONS)].to_numpy())
    assert (list(cell_types), list(ids)) == (table["cell_type"].tolist(), table["ID"].tolist())


def test_the_python_of_the_document_reads_them(directory: Path, answers: dict[str, str], table: pd.DataFrame) -> None:
    (code,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"torch.Size([{CELLS}, {WIDTH}]) {CELLS} {table['cell_type'][0]} {table['ID'][0]}"


def test_the_classifiers_are_where_the_document_says_and_show_their_score(directory: Path, answers: dict[str, str]) -> None:
    for place, last in (("cell_lines", "False"), ("localizations", "localizations")):
        assert (directory / "results" / place / "manifest.json").exists()
        assert re.search(r"macro F1", answers[f"classify {last}"], flags=re.IGNORECASE)


def test_the_document_links_to_files_that_exist() -> None:
    links = set(re.findall(r"\]\((?!http)([^)#]+)", TEXT))
    assert links == {"configuration.md", "differences.md", "classifiers.md"}
    assert [link for link in sorted(links) if not (ROOT / "docs" / link).exists()] == []
