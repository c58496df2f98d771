"""docs/features.md, run as it stands there on fewer and smaller cells."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from dino4cells.config import Config
from dino4cells.features.store import read_features
from tests.conftest import Finished

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "features.md").read_text(encoding="utf-8")
SMALLER = {"--cells 1680": "--cells 84 --size 32", "--preset small-fluorescence --epochs 1": "--config config.yaml"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def commands() -> list[str]:
    """All commands of the page, those that need features behind the one that makes them."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert all(line.startswith("dino4cells ") for line in lines)
    exports = [line for line in lines if " export features " in line]
    return [line for line in lines if line not in exports] + exports


def test_the_commands_and_examples_run_in_the_order_of_the_page(
    dino4cells: Callable[..., Finished], tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "umap", None)  # the map of the report is that of a machine without umap-learn, which takes longer
    Path("config.yaml").write_text(tiny_config({"embedding.baselines": True}, epochs=1, batch_size=32).to_yaml())

    def run(command: str) -> None:
        for long, short in SMALLER.items():
            command = command.replace(long, short)
        ended = dino4cells(*shlex.split(command)[1:])
        assert ended.code == 0, f"{command}: {ended.err}"

    [back] = [command for command in commands() if "normalized.parquet" in command]
    for command in commands():
        if command != back:
            run(command)
    wells, treatments = read_features("wells"), read_features("treatments")
    assert (len(wells.dino), set(wells.metadata["cells"])) == (84, {1})
    assert (len(treatments.dino), set(treatments.metadata["cells"])) == (14, {6})
    assert [done.aggregate for done in treatments.card.profiling] == [("plate", "well"), ("protein_location", "cell_type")]
    examples = blocks("python")
    assert len(examples) == 3
    for example in examples:
        exec(compile(example, "docs/features.md", "exec"), {})
    assert len(pd.read_parquet("features.parquet")) == 84
    run(back)
    assert read_features("places").metadata["cells"].sum() == 84


def test_every_key_of_the_choices_is_one_of_extraction_and_every_option_one_of_profiles(dino4cells: Callable[..., Finished]) -> None:
    table = PAGE.split("## Which features")[1].split("## Profiles")[0]
    for option, value in (("tokens", "patches"), ("blocks", "4"), ("keep_channels", "nucleus, ER")):
        assert f"`--{option} " in table
        shown = dino4cells("config", f"--embedding.{option}", value)
        assert (shown.code, f"{option}:" in shown.out) == (0, True), shown.err
    described = dino4cells("profiles", "--help").out
    for option in set(re.findall(r"--[a-z]+", PAGE.split("`profiles` does what")[1].split("```")[0])):
        assert option in described, option
