"""The command line: help on one screen, options over the configuration, and the handbook's two commands."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

from dino4cells.artifacts import open_artifact
from dino4cells.cli.app import app
from dino4cells.cli.options import overrides_of
from dino4cells.cli.published_flags import plain_switches
from dino4cells.cluster.gpus import gpus_of, visible_devices
from dino4cells.config import Config
from dino4cells.config.file import load_config, parse_config, preset_names
from dino4cells.data.simulate import simulate
from dino4cells.errors import ConfigError


def _tree(command: Any, name: str = "") -> dict[str, Any]:
    """All commands by their names, groups of commands included."""
    below = {f"{name} {word}".strip(): inner for word, inner in getattr(command, "commands", {}).items()}
    return {name: command} | {word: found for inner_name, inner in below.items() for word, found in _tree(inner, inner_name).items()}


COMMANDS = _tree(get_command(app))
VERBS = [name for name, command in COMMANDS.items() if not hasattr(command, "commands")]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_on_one_screen(dino4cells: Callable[..., Any], command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (80, 100, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        help_text = dino4cells(*command.split(), "-h" if columns == 80 else "--help")
        assert help_text.code == 0
        lines = help_text.out.splitlines()
        assert lines[0].startswith("Usage: dino4cells")
        assert len(lines) <= (40 if columns >= 100 else 50)
        assert max(map(len, lines)) <= min(columns, 100)
        assert not any(line.endswith("...") for line in lines[1:])  # a sentence that is cut off
        assert "range>" not in help_text.out


def test_without_a_command_the_help_is_shown(dino4cells: Callable[..., Any]) -> None:
    shown = dino4cells()
    for command in COMMANDS[""].commands:
        assert f"  {command} " in shown.out + shown.err
    assert {"simulate", "config", "data", "train", "extract", "classify", "run", "pipeline"} <= set(COMMANDS[""].commands)


SLOW = ("torch", "torchvision", "timm", "numpy", "pandas", "pyarrow", "scipy", "sklearn", "matplotlib", "kfp", "kubernetes", "s3fs")


@pytest.mark.parametrize("words", ["--help", "--version", "train --help", "data --help", "train --epchs 3", "extract --modle m"])
def test_help_version_and_refused_options_wait_for_no_large_package(words: str) -> None:
    code = f"""import sys; sys.argv = ["dino4cells", *{words.split()!r}]
from dino4cells.cli import main
try: main()
finally: print(*sorted({set(SLOW)!r} & set(sys.modules)), "dino4cells" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "True", done.stderr
    assert done.returncode == (0 if words.endswith(("--help", "--version")) else 2)


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


@pytest.mark.parametrize("command", VERBS)
def test_help_of_every_command_shows_how_it_is_called(dino4cells: Callable[..., Any], command: str) -> None:
    text = dino4cells(*command.split(), "--help").out
    assert f"Example: dino4cells {command} " in text
    assert text.count("Example: ") == 1


def test_config_explains_where_each_value_comes_from(dino4cells: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("preset: small\nmodel:\n  lr: 2e-3\n  epochs: 100\nlocal_transfo:\n  RandomResizedCrop: [True, {size: 96}]\n")
    shown = dino4cells("config", "--config", path, "--seed", "7", "--explain")
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert f"model.lr: 0.002 # {path}, line 3" in lines
    assert "model.seed: 7 # option model.seed" in lines
    assert "model.patch_size: 8 # preset small, line 6" in lines
    assert f"local_transfo.RandomResizedCrop: [true, {{size: 96}}] # {path}, line 6" in lines
    assert not any(line.startswith(("model.epochs", "model.arch")) for line in lines)  # as by default


# Flags of the published scripts


def _overrides(*words: str) -> dict[str, object]:
    command, *options = words
    return overrides_of(COMMANDS[command].make_context(command, options))


def test_every_flag_of_the_published_training_is_understood(caplog: pytest.LogCaptureFixture) -> None:
    keys = {
        **{"arch": "vit_small", "patch_size": "8", "out_dim": "4096", "norm_last_layer": "false", "momentum_teacher": "0.99"},
        **{"use_bn_in_head": "True", "num_channels": "4", "warmup_teacher_temp": "0.03", "teacher_temp": "0.05", "student_temp": "0.2"},
        **{"center_momentum": "0.8", "warmup_teacher_temp_epochs": "3", "weight_decay": "0.1", "weight_decay_end": "0.2"},
        **{"clip_grad": "0", "batch_size_per_gpu": "24", "epochs": "3", "freeze_last_layer": "2", "lr": "1e-3", "warmup_epochs": "1"},
        **{"min_lr": "1e-5", "optimizer": "sgd", "data_path": "a.csv", "output_dir": "model", "saveckp_freq": "5", "seed": "3"},
        "num_workers": "2",
    }
    words = [word for key, value in keys.items() for word in (f"--{key}", value)]
    others = "--sample_single_cells --use_fp16 False --global_crops_scale 0.4 1 --local_crops_number 4 --local_crops_scale 0.05 0.3"
    without_meaning = "--loader folder --dist_url env:// --local_rank 0 --root_dir_path x --RGBmode False --scale-factor 1 --master_port 1"

    overrides = _overrides("train", *words, *others.split(), *without_meaning.split(), "--gpus", "0,1", "--config", "config.yaml")

    assert overrides == {
        **{f"model.{key}": value for key, value in keys.items()},
        **{"model.sample_single_cells": "True", "model.precision": "float32", "local_crops_number": "4"},
        "model.local_crops_scale": "0.05, 0.3",
    }
    config = load_config(overrides=overrides)
    assert (config.model.arch, config.model.sample_single_cells, config.model.local_crops_scale) == ("vit_small", True, (0.05, 0.3))
    assert caplog.messages == [
        "--global_crops_scale, --loader, --dist_url, --local_rank, --root_dir_path, --RGBmode, --scale-factor, --master_port: "
        "steered the published scripts and is not used here"
    ]


def test_every_flag_of_the_published_extraction_is_understood() -> None:
    words = "--config c.yaml --pretrained_weights w.pth --output_prefix out.pth --gpus 0 --dataset cells.csv --whole --num_workers 3"
    assert _overrides("extract", *words.split()) == {
        "embedding.pretrained_weights": "w.pth",
        "embedding.output_path": "out.pth",
        "embedding.df_path": "cells.csv",
        "embedding.num_workers": "3",
    }


def test_a_key_alone_is_that_of_the_commands_own_section() -> None:
    words = ("--num_workers", "1")
    assert _overrides("predict", "classes", "--output", "out", *words) == {"embedding.num_workers": "1"}
    assert _overrides("train", *words) == _overrides("run", *words) == _overrides("config", *words) == {"model.num_workers": "1"}
    assert _overrides("extract", *words) == {"embedding.num_workers": "1"}
    assert _overrides("extract", "--batch-size-per-gpu=8", "--target_labels", "Golgi", "ER") == {
        "embedding.batch_size": "8",
        "embedding.target_labels": "Golgi, ER",
    }
    assert _overrides("extract", "--image_mode", "normalized", "--label", "x") == {
        "model.image_mode": "normalized",
        "classification.label": "x",
    }
    words = ("--features", "f", "--output", "o", "--epochs", "100", "--balance", "True", "--master_port", "=", "1234")
    assert _overrides("classify", *words) == {"classification.epochs": "100", "classification.balance": "True"}


def test_simulated_cells_are_the_same_by_the_command_and_in_python() -> None:
    in_python = {name: parameter.default for name, parameter in inspect.signature(simulate).parameters.items()}
    by_command = {parameter.name: parameter.default for parameter in COMMANDS["simulate"].params if parameter.name in in_python}
    assert {name: in_python[name] for name in by_command if name != "output"} == {
        name: default for name, default in by_command.items() if name != "output"
    }
    assert by_command["plates"] == 6


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
    assert "Training in float32; CPU, 1 thread a process." in trained.err
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
    assert '"train"' not in finished.err


@pytest.mark.parametrize(
    ("words", "plain"),
    [
        (["train", "--overwrite", "True", "--epochs", "3"], ["train", "--overwrite", "--epochs", "3"]),
        (["train", "--overwrite=true"], ["train", "--overwrite"]),
        (["train", "--overwrite", "False"], ["train"]),
        (["train", "--overwrite", "--gpus", "0"], ["train", "--overwrite", "--gpus", "0"]),
    ],
)
def test_overwrite_is_understood_with_a_value_as_the_published_scripts_take_it(words: list[str], plain: list[str]) -> None:
    assert plain_switches(words) == plain


def test_overwrite_with_another_value_is_refused(dino4cells: Callable[..., Any]) -> None:
    assert "--overwrite: must be true or false, not 'perhaps'" in dino4cells("train", "--overwrite=perhaps").err
