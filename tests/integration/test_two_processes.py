"""Two real processes (torchrun, gloo) against one: the same targets, the same steps, the same run after an interruption."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch
import torch

from dino4cells import steps
from dino4cells.cluster.job import JobSpec, Processes
from dino4cells.cluster.local import LocalLauncher
from dino4cells.config import Config, load_config
from dino4cells.errors import Interrupted
from dino4cells.models.artifact import load_model
from dino4cells.training.distributed import ProcessGroup
from dino4cells.training.targets import CentringTargets, SinkhornTargets

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the worker is a module of its own, for torchrun too
from worker_of_two import RUNS, normalize, table_of, teacher_logits, train_unequal  # noqa: E402

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch is built without gloo")
ALONE = ProcessGroup(0, 1, 0, torch.device("cpu"))
# float32 sums in another order: weights of about 0.02 to 1 after six steps.
TOLERANCE = 1e-5
# Plain gradient descent: AdamW divides by the gradient's size and makes a whole step of the rounding error where it should be zero
# (the bias of attention's keys).
SGD = {"optimizer": "sgd", "lr": 0.3, "weight_decay_end": 0.04, "warmup_epochs": 0}
BY_DATA = {"normalization": {"Normalize": [True, {"mean": "data", "std": "data"}]}}
# Each batch norm divides rounding errors by a deviation, and there are 23: steps are smaller than SGD's.
BATCH_NORM = {**SGD, "lr": 0.03, "arch": "xresnet18", "use_bn_in_head": True}


@pytest.fixture(scope="module")
def together(tiny_config: Callable[..., Config], draw_cells: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which two processes have done all that `worker_of_two` does."""
    directory = tmp_path_factory.mktemp("together")
    frame = pd.read_csv(f"{draw_cells(directory / 'data', 24)}/metadata.csv")
    frame.assign(protein_location=["cytosol"] * 18 + ["nucleus"] * 6).to_csv(table_of(directory, "drawn"), index=False)
    weights = str(directory / "weights")
    steps.train(tiny_config(epochs=1), data=str(directory / "data"), output=weights)
    for name, config in {
        "given-weights": tiny_config(targets="centering", init=f"{weights}/model.safetensors", **SGD),
        "centering": tiny_config(targets="centering", **SGD),
        "sinkhorn": tiny_config(BY_DATA, targets="sinkhorn", freeze_last_layer=1, **SGD),
        "unequal": tiny_config(targets="centering", accumulation=2, **SGD),
        "batch-norm": tiny_config(targets="centering", **BATCH_NORM),
        "drawn": tiny_config(**{**SGD, "lr": 0.6}, batch_size=4, datatype="HPABalanced", sample_single_cells=True),
        "unequal-batch-norm": tiny_config(targets="centering", **BATCH_NORM),
    }.items():
        (directory / f"{name}.yaml").write_text(config.to_yaml())
    environment = {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    LocalLauncher().run(JobSpec("test", "worker_of_two", (str(directory),), processes_per_node=2, environment=environment))
    return directory


@pytest.fixture(scope="module")
def results(together: Path) -> dict[str, object]:
    """What the two processes computed."""
    found: dict[str, object] = torch.load(together / "results.pt")
    return found


def test_centre_of_two_processes_with_unequal_batches_is_that_of_the_whole_batch(results: dict[str, object]) -> None:
    whole = CentringTargets(32, momentum=0.9)
    for step in range(3):
        whole(teacher_logits(step), 0.04)
        whole.settle()
    torch.testing.assert_close(results["center"], whole.center, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("first", [4, 3, 0])
def test_sinkhorn_targets_of_two_processes_are_those_of_the_whole_batch(results: dict[str, object], first: int) -> None:
    whole = SinkhornTargets(32)(teacher_logits(0, 8), 0.04)
    targets = results[f"sinkhorn-{first}"]
    assert isinstance(targets, torch.Tensor)
    torch.testing.assert_close(targets, whole, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(targets.sum(dim=-1), torch.ones(2, 8))


@pytest.mark.parametrize("first", [4, 1, 0])
def test_batch_norm_over_two_processes_is_that_of_the_whole_batch(first: int, results: dict[str, object]) -> None:
    whole = normalize(torch.nn.BatchNorm2d(3), first, None)
    one, other = results[f"batch-norm-{first}"]  # type: ignore[misc]
    for name in ("outputs", "inputs"):
        torch.testing.assert_close(torch.cat([one[name], other[name]]), whole[name], rtol=1e-5, atol=1e-5)
    for name in ("weight", "bias"):  # which DDP adds up
        torch.testing.assert_close(one[name] + other[name], whole[name], rtol=1e-5, atol=1e-5)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(one[name], other[name])
        torch.testing.assert_close(one[name], whole[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("run", RUNS)
def test_two_processes_with_half_the_batch_train_the_same_network_as_one_with_the_whole(run: str, together: Path) -> None:
    alone = together / f"{run}-1"
    steps.train(load_config(str(together / f"{run}.yaml")), data=table_of(together, run), output=str(alone))
    one, two = (torch.load(directory / "checkpoint.pth", weights_only=False) for directory in (alone, together / f"{run}-2"))
    start = load_model(str(alone)).untrained().state_dict()
    for network in ("teacher", "student", "dino_loss"):
        for name, value in one[network].items():
            torch.testing.assert_close(two[network][name], value, rtol=0, atol=TOLERANCE, msg=lambda text, name=name: f"{name}: {text}")
    moved = max((one["student"][f"module.backbone.{name}"] - value).abs().max().item() for name, value in start.items())
    assert moved > 1000 * TOLERANCE
    losses = [[record["loss"] for record in run["log"]] for run in (one, two)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert load_model(str(together / f"{run}-2")).card.training.processes == 2


@pytest.mark.parametrize("name", ["unequal", "unequal-batch-norm"])
def test_each_image_weighs_the_same_where_one_process_has_fewer_or_none(name: str, results: dict[str, object], together: Path) -> None:
    expected = train_unequal(together, ALONE, together=True, name=name)
    found = results[name]
    assert isinstance(found, dict)
    # The loss of one process is its share; their mean is the loss of the whole batch.
    assert set(found) == set(expected)
    for name in set(expected) - {"losses"}:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=TOLERANCE, msg=lambda text, name=name: f"{name}: {text}")


def test_both_processes_hold_the_same_student(results: dict[str, object]) -> None:
    first, second = results["students"]  # type: ignore[misc]
    assert {name: value for name, value in first.items() if "losses" not in name} == {
        name: value for name, value in second.items() if "losses" not in name
    }


def test_a_job_of_two_that_is_stopped_goes_on_in_one_process_and_ends_the_same(
    tiny_config: Callable[..., Config],
    together: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = {"targets": "centering", **SGD, "epochs": 5}
    config = tiny_config(checkpoint_minutes=1e-6, **settings)
    output, saved = tmp_path / "model", tmp_path / "model.checkpoints"

    def stop_when_saved() -> None:
        while len(list(saved.glob("checkpoint-*.pth"))) < 2 and threading.main_thread().is_alive():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_when_saved, daemon=True).start()
    with pytest.raises(
        Interrupted, match=r"of 120 images seen are in \S+/model\.checkpoints; the same command goes on from there\."
    ) as stop:
        steps.train(config, data=str(together / "data"), output=str(output), processes=Processes(LocalLauncher(), per_node=2))
    assert stop.value.exit_code == 128 + signal.SIGTERM
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err  # torchrun's own
    assert not (output / "manifest.json").exists()
    seen = max(int(path.stem.removeprefix("checkpoint-")) for path in saved.glob("*.pth"))
    assert 0 < seen < 24 * 5
    resumed = steps.train(tiny_config(**settings), data=str(together / "data"), output=str(output))
    assert resumed.training.samples_seen == 24 * 5
    assert resumed.training.processes == 1
    steps.train(tiny_config(**settings), data=str(together / "data"), output=str(tmp_path / "whole"))
    one, two = (safetensors.torch.load_file(tmp_path / name / "model.safetensors") for name in ("whole", "model"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=10 * TOLERANCE, msg=lambda text, name=name: f"{name}: {text}")
