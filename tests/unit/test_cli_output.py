"""What commands answer to a program, what they keep to themselves, and what the shell can complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dino4cells.events import LOG, event_of

Command = Callable[..., Any]  # the fixture `dino4cells` of conftest


@pytest.mark.parametrize("words", [("--json", "simulate"), ("simulate", "--json")])
def test_a_program_gets_one_object_and_the_progress_apart(dino4cells: Command, tmp_path: Path, words: tuple[str, str]) -> None:
    done = dino4cells(*words, tmp_path / "cells", "--cells", "14", "--size", "32", "--plates", "1")
    answer = json.loads(done.out)
    assert (done.code, answer["cells"], answer["plates"], answer["url"]) == (0, 14, ["plate1"], str(tmp_path / "cells"))
    events = [json.loads(line) for line in done.err.splitlines()]
    assert {event["event"] for event in events} == {"progress"}
    assert events[-1]["done"] == events[-1]["total"] == 14


def test_quiet_leaves_the_result_alone(dino4cells: Command, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model:\n  epoch: 3\n")
    assert event_of(dino4cells("config", "--config", path).err)["message"].startswith(f"{path}, line 2: model.epoch is not known")  # type: ignore[index]
    done = dino4cells("config", "--config", path, "--quiet")
    assert (done.code, done.err) == (0, "")
    assert yaml.safe_load(done.out)["model"]["arch"] == "vit_tiny"
    assert dino4cells("--quiet", "train", "--epochs", "x").err.startswith("error: option model.epochs must be a whole number")


def test_a_configuration_is_an_object_too(dino4cells: Command) -> None:
    asked = ("config", "--preset", "small", "--epochs", "3", "--json")
    assert json.loads(dino4cells(*asked).out)["model"]["epochs"] == 3
    assert json.loads(dino4cells(*asked, "--explain").out)["model.epochs"] == {"value": 3, "from": "option model.epochs"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("train --epochs x", "option model.epochs must be a whole number, not 'x'; correct it, or leave the key out for 100"),
        ("simulate", "Missing argument 'URL'."),
        ("simulate cells --cells many", "Invalid value for '--cells': "),
        ("extract", "--model: is not given; say which model"),
        ("nothing", "No such command 'nothing'."),
    ],
)
def test_a_program_gets_what_is_wrong_as_an_object(dino4cells: Command, words: str, sentence: str) -> None:
    done = dino4cells(*words.split(), "--json")
    assert done.code == 2
    assert json.loads(done.out)["error"].startswith(sentence)
    assert done.err == ""


def test_data_that_are_wrong_are_a_result_and_a_code(dino4cells: Command, draw_cells: Callable[..., str], tmp_path: Path) -> None:
    data = Path(draw_cells(tmp_path / "data", 3))
    (data / "images" / "001.png").write_bytes(b"no image")
    done = dino4cells("data", "validate", "--data", data, "--processes", "1", "--json", "--quiet")
    assert (done.code, done.err) == (2, "")
    assert json.loads(done.out)["readable"] == 2


def test_another_style_of_the_log_is_refused(dino4cells: Command) -> None:
    assert (dino4cells("config", "--log", "loud").code, dino4cells("config", "--log=loud").err) == (
        2,
        "error: --log: must be text or json, not 'loud'.\n",
    )
    assert LOG not in os.environ


COMPLETED = [
    ("dino4cells train --preset sm", ["small", "small-fluorescence"]),
    ("dino4cells pipe", ["pipeline"]),
    ("dino4cells data pa", ["pack"]),
    ("dino4cells job render --step t", ["train"]),
    ("dino4cells job submit --q", ["--quiet"]),
    ("dino4cells train --log t", ["text"]),
    ("dino4cells profiles features --normalize st", ["standard"]),
    ("dino4cells extract --ba", ["--baselines", "--batch_size"]),
    ("dino4cells classify --cla", ["--class_weights", "--classifier_type", "--classifier_state_dict"]),
    ("dino4cells extract --model.clip", ["--model.clip_grad"]),
    ("dino4cells extract --tokens class", ["class", "class_and_patches"]),
    ("dino4cells train --arch vit_s", ["vit_small"]),
    ("dino4cells train --sample_single_cells t", ["true"]),
    ("dino4cells train --data ce", []),  # the shell's own: files
]


def _asked(shell: str, words: str) -> dict[str, str]:
    """The question as a shell's completion asks it."""
    variables = {"bash": {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}, "zsh": {"_TYPER_COMPLETE_ARGS": words}}
    variables["fish"] = {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return {"_DINO4CELLS_COMPLETE": f"complete_{shell}", **variables[shell]}


@pytest.mark.parametrize(("words", "completed"), COMPLETED)
def test_the_shell_completes_commands_options_keys_and_values(
    dino4cells: Command, monkeypatch: pytest.MonkeyPatch, words: str, completed: list[str]
) -> None:
    for name, value in _asked("bash", words).items():
        monkeypatch.setenv(name, value)
    assert sorted(dino4cells().out.split()) == sorted(completed)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_keys_help_too(dino4cells: Command, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    for name, value in _asked(shell, "dino4cells train --warmup_e").items():
        monkeypatch.setenv(name, value)
    out = dino4cells().out
    assert "--warmup_epochs" in out
    assert "learning rate" in out


def test_completion_waits_for_no_large_package() -> None:
    code = "import sys; from dino4cells.cli import main\ntry: main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    asked = _asked("bash", "dino4cells extract --toke")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked})
    assert (done.stdout, done.stderr) == ("--tokens\n", "False\n")
