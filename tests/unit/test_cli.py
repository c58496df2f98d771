"""The command line: help on one screen, options over the configuration, and the handbook's two commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dino4cells.artifacts import open_artifact
from dino4cells.cluster.gpus import gpus_of, visible_devices
from dino4cells.config import Config
from dino4cells.config.file import load_config, parse_config, preset_names
from dino4cells.errors import ConfigError

COMMANDS = ["", "simulate", "config", "train", "extract", "classify", "run", "pipeline", "pipeline compile"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_on_one_screen(dino4cells: Callable[..., Any], command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    help_text = dino4cells(*command.split(), "--help")
    assert help_text.code == 0
    lines = help_text.out.splitlines()
    assert lines[0].startswith("Usage: dino4cells")
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100


def test_without_a_command_the_help_is_shown(dino4cells: Callable[..., Any]) -> None:
    shown = dino4cells()
    for command in COMMANDS[1:-1]:
        assert f"  {command} " in shown.out + shown.err


def test_version_and_help_do_not_wait_for_torch() -> None:
    code = "import sys; sys.argv = ['dino4cells', 'train', '--help']\nfrom dino4cells.cli import app\n"
    code += "try: app()\nfinally: print('torch' in sys.modules, 'kfp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False False", done.stderr


def test_config_prints_what_is_read_back(dino4cells: Callable[..., Any], tmp_path: Path) -> None:
    printed = dino4cells("config", "--preset", "small", "--epochs", "7", "--global_transfo1.RandomResizedCrop.size", "48")
    assert printed.code == 0
    assert printed.err == ""
    path = tmp_path / "config.yaml"
    path.write_text(printed.out)
    config = load_config(str(path))
    assert config.model.epochs == 7
    assert dict(config.section("global_transfo1"))["RandomResizedCrop"]["size"] == 48
    assert dino4cells("config", "--config", path).out == printed.out


def test_options_stand_above_the_file_and_the_file_above_the_preset(dino4cells: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model:\n  epochs: 5\n  lr: 0.002\n")
    config = parse_config(
        dino4cells("config", "--config", path, "--preset", "small", "--model.lr=1e-3", "--local_crops_scale", "0.2 0.5").out
    )
    assert (config.model.epochs, config.model.lr, config.model.patch_size) == (5, 0.001, 8)
    assert config.model.local_crops_scale == (0.2, 0.5)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--epoch", "3"], "error: option epoch: the configuration has no such key; did you mean model.epochs?\n"),
        (["--presset", "small"], "error: --presset: there is no such option; did you mean --preset?\n"),
        (["--epochs"], "error: --epochs: has no value; write --epochs value.\n"),
        (["a.yaml"], "error: a.yaml: this word belongs to no option; write --key value.\n"),
        (["--use_fp16", "half"], "error: --use_fp16: must be true or false, not 'half'; or write --precision bfloat16.\n"),
        (["--preset", "large"], f"error: there is no preset 'large'; choose one of {', '.join(preset_names())}\n"),
    ],
)
def test_a_wrong_option_is_answered_in_one_sentence(dino4cells: Callable[..., Any], words: list[str], sentence: str) -> None:
    answer = dino4cells("config", *words)
    assert (answer.code, answer.err) == (2, sentence)


def test_a_missing_extra_is_named(dino4cells: Callable[..., Any], cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kfp", None)
    answer = dino4cells("run", "--data", cells, "--output", tmp_path / "runs")
    assert (answer.code, answer.err) == (2, "error: kfp is not installed; run: pip install 'dino4cells[kubeflow]'\n")


# GPUs


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_gpus_are_counted_as_pytorch_counts_them(gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(4)
    assert gpus_of("") == ()
    assert gpus_of("3, 1") == (3, 1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_devices((3, 1)) == "3,1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")  # a machine that a scheduler shares out
    assert visible_devices((3, 1)) == "7,5"


@pytest.mark.parametrize("text", ["all", "0;1", "0,,1", "-1", "0,0", ","])
def test_gpus_that_are_no_list_are_refused(gpus: Callable[[int], None], text: str) -> None:
    gpus(4)
    with pytest.raises(ConfigError, match=r"--gpus: '.*' is no list of different GPU numbers; write for example --gpus 0,1\."):
        gpus_of(text)


def test_a_gpu_that_the_machine_does_not_have_is_refused(gpus: Callable[[int], None]) -> None:
    gpus(2)
    with pytest.raises(ConfigError, match=r"there is no GPU 2 on this machine, which has GPUs 0 to 1; correct the list\."):
        gpus_of("0,2")
    gpus(1)
    with pytest.raises(ConfigError, match=r"there is no GPU 1 on this machine, which has only GPU 0; correct the list\."):
        gpus_of("0,1")


# The handbook's way


def test_the_handbooks_two_commands_work(
    dino4cells: Callable[..., Any],
    cells: str,
    tiny_config: Callable[..., Config],
    gpus: Callable[[int], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    sections = tiny_config(
        {"embedding.pretrained_weights": "model/checkpoint.pth", "embedding.output_path": "features"},
        epochs=1,
        root=cells,
        data_path=f"{cells}/metadata.csv",
        output_dir="model",
    )
    Path("config.yaml").write_text(sections.to_yaml())

    gpus(0)
    without = dino4cells("train", "--config", "config.yaml", "--gpus", "0,1")
    assert without.code == 2
    assert without.err.startswith("error: --gpus: 0,1 cannot be used, since PyTorch finds no GPU on this machine; leave the option out")
    assert without.err.count("\n") == 1

    trained = dino4cells("train", "--config", "config.yaml")
    assert trained.code == 0, trained.err
    assert "trained vit_tiny on 24 images of 4 channels (microtubules, protein, nucleus, ER): loss" in trained.out
    extracted = dino4cells("extract", "--config", "config.yaml")
    assert extracted.code == 0, extracted.err
    assert "wrote 24 cells × 192 features, " in extracted.out
    assert open_artifact("features", "features").names == ["features.json", "part-00000.parquet"]

    weights = Path("model/checkpoint.pth")
    again = dino4cells("extract", "--config", "config.yaml", "--embedding.pretrained_weights", "model", "--output", "again")
    assert again.code == 0, again.err
    assert weights.exists()
    assert Path("again/part-00000.parquet").read_bytes() == Path("features/part-00000.parquet").read_bytes()

    finished = dino4cells("train", "--config", "config.yaml")  # as a pod that starts again after it has finished
    assert finished.code == 0
    assert "train " not in finished.err
