"""Training in this process on a few tiny cells: what a step does, what a run leaves, what an interruption costs."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch
import torch
from training_alone import ALONE, assert_same_bits, run

from dino4cells import steps
from dino4cells.config import Config
from dino4cells.data.dataset import Batch, CellImages
from dino4cells.data.metadata import read_metadata
from dino4cells.data.sampler import DRAWS_AGAIN
from dino4cells.data.source import plain_source
from dino4cells.errors import CheckpointError, DataError, Interrupted
from dino4cells.models.artifact import load_model
from dino4cells.training import checkpoint as checkpoints
from dino4cells.training.loop import DINO
from dino4cells.training.schedules import Schedules
from dino4cells.training.throughput import Throughput

MakeConfig = Callable[..., Config]
BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


@pytest.fixture(scope="module")
def field_cells(draw_cells: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """24 cells, three of each field of view, in two classes that each hold whole fields."""
    data = draw_cells(tmp_path_factory.mktemp("fields") / "data", 24)
    frame = pd.read_csv(f"{data}/metadata.csv")
    frame.assign(protein_location=["cytosol"] * 18 + ["nucleus"] * 6).to_csv(f"{data}/metadata.csv", index=False)
    return data


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    # Sums in another order differ in the last bit.
    torch.set_num_threads(1)


def dino(config: Config, length: int = 24) -> DINO:
    schedules = Schedules.from_config(config.model, length, length * config.model.epochs, config.model.batch_size or 8)
    return DINO(config, 4, schedules, ALONE)


def batch(cells: str, indices: range = range(8), epoch: int = 0) -> Batch:
    return CellImages(plain_source(read_metadata(cells).urls, 4)).__getitems__([(epoch, index) for index in indices])


def final_state(output: Path) -> checkpoints.Checkpoint:
    return checkpoints.load(str(output / "checkpoint.pth"))


def without_clock(state: checkpoints.Checkpoint) -> checkpoints.Checkpoint:
    measured = {"time", *(field.name for field in dataclasses.fields(Throughput))}
    log = [{key: value for key, value in record.items() if key not in measured} for record in state["log"]]
    return {**state, "log": log}


# A step


@pytest.mark.parametrize("targets", ["centering", "sinkhorn"])
def test_teacher_receives_no_gradient_and_changes_only_as_the_average_of_the_student(
    targets: str, tiny_config: MakeConfig, cells: str
) -> None:
    network = dino(tiny_config(targets=targets, momentum_teacher=0.9, koleo_weight=0.1, drop_path_rate=0.1))
    for step in range(3):
        seen = 8 * step
        before = [parameter.clone() for parameter in network.teacher.parameters()]
        network.step(batch(cells, range(seen, seen + 8)), seen)
        momentum = network.schedules.momentum(seen)
        for old, new, student in zip(before, network.teacher.parameters(), network.student.parameters(), strict=True):
            assert new.grad is None
            assert not new.requires_grad
            torch.testing.assert_close(new, momentum * old + (1 - momentum) * student)
    trained = {id(parameter) for group in network.optimizer.param_groups for parameter in group["params"]}
    assert trained.isdisjoint(id(parameter) for parameter in network.teacher.parameters())
    assert trained == {id(parameter) for parameter in network.student.parameters() if parameter.requires_grad}
    assert not network.teacher.training


def test_every_trained_parameter_moves_and_prototypes_keep_their_length(tiny_config: MakeConfig, cells: str) -> None:
    network = dino(tiny_config(warmup_epochs=0))
    before = {name: value.clone() for name, value in network.student.state_dict().items()}
    network.step(batch(cells), 0)
    still = [name for name, value in network.student.state_dict().items() if torch.equal(value, before[name])]
    assert still == ["head.last_layer.weight_g"]


def test_last_layer_is_frozen_for_the_first_epoch_and_moves_after_it(tiny_config: MakeConfig, cells: str) -> None:
    network = dino(tiny_config(freeze_last_layer=1, epochs=4, warmup_epochs=0))
    before = network.student.head.last_layer.weight_v.clone()
    for step in range(3):
        network.step(batch(cells, range(8 * step, 8 * step + 8)), 8 * step)
        assert torch.equal(network.student.head.last_layer.weight_v, before)
    network.step(batch(cells, epoch=1), 24)
    assert not torch.equal(network.student.head.last_layer.weight_v, before)


def test_first_step_is_the_same_whatever_happened_to_the_global_generator(tiny_config: MakeConfig, cells: str) -> None:
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        losses.append(dino(tiny_config(drop_path_rate=0.2)).step(batch(cells), 0).item())
    assert losses[0] == losses[1]


def test_bfloat16_loss_is_close_to_that_of_float32(tiny_config: MakeConfig, cells: str) -> None:
    def losses(precision: str) -> list[float]:
        network = dino(tiny_config(precision=precision, lr=0.001))
        return [network.step(batch(cells, range(8 * step, 8 * step + 8)), 8 * step).item() for step in range(3)]

    assert losses("bfloat16") == pytest.approx(losses("float32"), rel=5e-3)


def test_a_step_without_a_readable_image_changes_nothing(tiny_config: MakeConfig, cells: str) -> None:
    network = dino(tiny_config(warmup_epochs=0))
    network.step(batch(cells), 0)  # from now on there are a centre, and momenta
    before = copy.deepcopy(network.checkpoint(8, 0))
    assert network.step(batch(cells, range(0)), 8).item() == 0
    assert_same_bits(network.checkpoint(8, 0), before)


# A run


@pytest.fixture(scope="module")
def finished(tiny_config: MakeConfig, cells: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of an uninterrupted run with stochastic depth, six steps."""
    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("finished") / "model"
    run(tiny_config(drop_path_rate=0.1), cells, output)
    return output


def test_checkpoint_has_the_published_layout_and_names(finished: Path) -> None:
    state = torch.load(finished / "checkpoint.pth", weights_only=False)
    assert {"student", "teacher", "optimizer", "epoch", "args", "dino_loss", "fp16_scaler"} <= set(state)
    layers = ["patch_embed.proj", "norm", *(f"blocks.{number}.{layer}" for number in range(12) for layer in BLOCK)]
    names = [f"backbone.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    names += ["backbone.cls_token", "backbone.pos_embed", "head.last_layer.weight_g", "head.last_layer.weight_v"]
    names += [f"head.mlp.{number}.{kind}" for number in (0, 2, 4) for kind in ("weight", "bias")]
    assert set(state["teacher"]) == set(names)
    assert set(state["student"]) == {f"module.{name}" for name in names}
    assert state["teacher"]["backbone.pos_embed"].shape == (1, 1 + (16 // 8) ** 2, 192)
    assert state["dino_loss"]["center"].shape == (1, 64)
    assert isinstance(state["args"], argparse.Namespace)
    assert (state["args"].arch, state["args"].patch_size, state["epoch"]) == ("vit_tiny", 8, 2)


def test_model_artifact_holds_the_teacher_and_says_what_it_is(finished: Path, cells: str) -> None:
    model = load_model(str(finished))
    state = final_state(finished)["teacher"]
    teacher = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    assert_same_bits(dict(model.backbone.state_dict()), {name: teacher[name] for name in model.backbone.state_dict()})
    assert safetensors.torch.load_file(finished / "model.safetensors").keys() == teacher.keys()
    assert model.card.channels == ("microtubules", "protein", "nucleus", "ER")
    assert (model.card.arch, model.card.embedding_dim, model.card.image_size) == ("vit_tiny", 192, 16)
    assert (model.card.training.samples_seen, model.card.training.epochs) == (48, 2)
    assert model.card.data_fingerprint == read_metadata(cells).fingerprint
    assert [record["samples"] for record in model.log()] == [8, 16, 24, 32, 40, 48]
    assert not Path(f"{finished}.checkpoints").exists()
    assert not torch.equal(model.untrained().pos_embed, model.backbone.pos_embed)


def test_every_record_says_how_fast_the_run_goes_and_what_it_waits_for(finished: Path) -> None:
    model = load_model(str(finished))
    for record in model.log():
        assert record["step_seconds"] > 0
        assert record["images_per_second"] == pytest.approx(8 / record["step_seconds"])
        assert 0 <= record["data_wait"] < 1
        assert 0.05 < record["memory_gib"] < 64  # PyTorch alone takes more than 50 MiB
    training = model.card.training
    assert training.images_per_second * training.seconds == pytest.approx(48)
    assert training.step_seconds == pytest.approx(sum(record["step_seconds"] for record in model.log()) / 6)
    assert training.memory_gib == model.log()[-1]["memory_gib"]


def test_a_run_goes_on_from_records_that_say_less(tiny_config: MakeConfig, cells: str, tmp_path: Path) -> None:
    config, output = tiny_config(), tmp_path / "model"
    with pytest.raises(Interrupted):
        run(config, cells, output, stop_after=2)
    kept = max(Path(f"{output}.checkpoints").glob("*.pth"))
    state = checkpoints.load(str(kept))
    for record in state["log"]:
        del record["step_seconds"], record["data_wait"], record["memory_gib"]
    kept.write_bytes(checkpoints.dump(state))
    run(config, cells, output)
    assert ["data_wait" in record for record in load_model(str(output)).log()] == [False] * 3 + [True] * 3


@pytest.mark.parametrize("records", [1, 4])
def test_resumed_run_equals_uninterrupted_run(records: int, finished: Path, tiny_config: MakeConfig, cells: str, tmp_path: Path) -> None:
    config, output = tiny_config(drop_path_rate=0.1), tmp_path / "model"
    with pytest.raises(Interrupted) as stopped:
        run(config, cells, output, stop_after=records)
    assert stopped.value.code == 143
    assert not output.exists()
    torch.manual_seed(99)
    run(config, cells, output)
    assert_same_bits(without_clock(final_state(output)), without_clock(final_state(finished)))
    assert (output / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()
    assert not Path(f"{output}.checkpoints").exists()


def test_a_damaged_newest_checkpoint_costs_steps_and_not_the_run(
    finished: Path, tiny_config: MakeConfig, cells: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, output = tiny_config(drop_path_rate=0.1, checkpoint_minutes=1e-6), tmp_path / "model"
    with pytest.raises(Interrupted):
        run(config, cells, output, stop_after=4)
    kept = sorted(Path(f"{output}.checkpoints").glob("*.pth"))
    assert [path.name for path in kept] == ["checkpoint-000000000032.pth", "checkpoint-000000000040.pth"]
    kept[1].write_bytes(kept[1].read_bytes()[:-1000])
    with caplog.at_level(logging.INFO):
        run(config, cells, output)
    assert "checkpoint-000000000040.pth: the checkpoint is damaged" in caplog.text
    assert "Continuing after 32 images" in caplog.text
    assert (output / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_sigterm_in_the_last_step_does_not_cost_the_finished_run(tiny_config: MakeConfig, cells: str, tmp_path: Path) -> None:
    run(tiny_config(epochs=1), cells, tmp_path / "model", stop_after=3)
    assert load_model(str(tmp_path / "model")).card.training.samples_seen == 24


# What an epoch draws: 24 cells of two classes in 8 fields of view


DRAWN = {
    "one row of each ID": ({"sample_single_cells": True}, 8),
    "every class equally often": ({"datatype": "HPABalanced"}, 24),
    "both": ({"datatype": "HPABalanced", "sample_single_cells": True}, 8),
}


@pytest.mark.parametrize("drawn", DRAWN)
def test_a_resumed_run_of_drawn_samples_equals_an_uninterrupted_one(
    drawn: str, tiny_config: MakeConfig, field_cells: str, tmp_path: Path
) -> None:
    settings, epoch = DRAWN[drawn]
    config = tiny_config(**settings, batch_size=4, drop_path_rate=0.1)
    run(config, field_cells, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(config, field_cells, tmp_path / "model", stop_after=2)
    run(config, field_cells, tmp_path / "model")

    one, other = final_state(tmp_path / "whole"), final_state(tmp_path / "model")
    assert_same_bits(without_clock(other), without_clock(one))
    assert (one["epoch"], one["samples_seen"]) == (2, 2 * epoch)
    card = load_model(str(tmp_path / "model")).card.training
    assert (card.images, card.epochs, card.samples_seen) == (24, 2, 2 * epoch)
    # The first record is made after one step of four images; warm-up lasts an epoch, which is shorter than the table.
    assert one["log"][0]["epoch"] == pytest.approx(4 / epoch, abs=1e-4)
    assert max(record["lr"] for record in one["log"]) == one["log"][epoch // 4 - 1]["lr"]


def test_a_row_that_is_drawn_twice_is_seen_in_other_views(tiny_config: MakeConfig, cells: str) -> None:
    drawn = [(0, 3), (DRAWS_AGAIN, 3), (0, 3)]
    views, _ = dino(tiny_config()).multi_crop(CellImages(plain_source(read_metadata(cells).urls, 4)).__getitems__(drawn))

    assert torch.equal(views[:, 0], views[:, 2])
    assert not torch.equal(views[0, 0], views[0, 1])


def test_cells_that_no_class_holds_are_counted_before_training(
    tiny_config: MakeConfig, draw_cells: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = draw_cells(tmp_path / "data", 24)
    frame = pd.read_csv(f"{data}/metadata.csv")
    frame.assign(nucleus=[1] * 8 + [0] * 16, cytosol=[0] * 7 + [1] * 9 + [0] * 8).to_csv(f"{data}/metadata.csv", index=False)
    config = tiny_config({"embedding.target_labels": ["nucleus", "cytosol"]}, datatype="HPABalanced", epochs=1)
    card = steps.train(config, data=data, output=str(tmp_path / "model"))

    assert "8 of 24 cells belong to no class and are never drawn." in caplog.text
    assert card.training.samples_seen == 16


# Another run's checkpoints


def test_copies_of_the_checkpoint_stay_as_often_as_asked(tiny_config: MakeConfig, cells: str, tmp_path: Path) -> None:
    # Batches of 10 do not end with the epochs of 24: the copy is made in the step that ends the epoch.
    run(tiny_config(epochs=3, batch_size=10, saveckp_freq=1), cells, tmp_path / "model")
    kept = sorted(Path(f"{tmp_path}/model.checkpoints").glob("*.pth"))
    assert [path.name for path in kept] == ["checkpoint0001.pth", "checkpoint0002.pth"]
    states = [checkpoints.load(str(path)) for path in kept]
    assert [(state["epoch"], state["samples_seen"]) for state in states] == [(1, 30), (2, 50)]
    assert checkpoints.load_latest(f"{tmp_path}/model.checkpoints") is None  # a run that is started again begins anew


@pytest.fixture
def interrupted(tiny_config: MakeConfig, cells: str, tmp_path: Path) -> Path:
    """Where a run was to leave its model; its checkpoint is beside it."""
    with pytest.raises(Interrupted):
        run(tiny_config(), cells, tmp_path / "model", stop_after=2)
    return tmp_path / "model"


def test_a_checkpoint_of_another_network_is_refused_with_the_reason(interrupted: Path, tiny_config: MakeConfig, cells: str) -> None:
    (newest,) = Path(f"{interrupted}.checkpoints").iterdir()
    with pytest.raises(CheckpointError, match=r"belongs to another network \(size mismatch for head\.last_layer"):
        dino(tiny_config(out_dim=32)).restore(checkpoints.load(str(newest)), str(newest))


def test_a_checkpoint_of_a_run_on_other_data_is_refused(
    interrupted: Path, tiny_config: MakeConfig, draw_cells: Callable[..., str], tmp_path: Path
) -> None:
    other = draw_cells(tmp_path / "other", 16)
    with pytest.raises(CheckpointError, match="unfinished run on other data"):
        run(tiny_config(), other, interrupted)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.lr": 0.02}, r"model\.lr was 0\.01 and is 0\.02"),
        ({"model.datatype": "HPABalanced"}, r"model\.datatype was HPA and is HPABalanced"),
        ({"local_crops_number": 1}, "local_crops_number was 2 and is 1"),
        ({"local_transfo.RandomResizedCrop.size": 16}, r"local_transfo\.RandomResizedCrop\.size was 8 and is 16"),
        ({"normalization.Normalize": [True, {"mean": 0.5, "std": 0.5}]}, r"normalization\.Normalize was not given and is"),
    ],
)
def test_a_checkpoint_of_a_run_with_another_configuration_is_refused_with_the_first_key(
    changes: dict[str, object], said: str, interrupted: Path, tiny_config: MakeConfig, cells: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"unfinished run with another configuration \({said}.*\); change it back, choose another"):
        run(tiny_config(changes), cells, interrupted)


def test_a_run_goes_on_with_another_limit_and_another_number_of_readers(interrupted: Path, tiny_config: MakeConfig, cells: str) -> None:
    run(tiny_config(max_bad_images=0.5, num_workers=3, checkpoint_minutes=1), cells, interrupted)
    assert load_model(str(interrupted)).card.training.samples_seen == 48


# Bad images


def damage(data: str, *rows: int) -> str:
    for row in rows:
        Path(data, f"images/{row:03d}.png").write_bytes(b"no image")
    return data


def test_an_unreadable_image_is_skipped_counted_and_listed(
    tiny_config: MakeConfig, draw_cells: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = damage(draw_cells(tmp_path / "data", 24), 5)
    card = steps.train(tiny_config(), data=data, output=str(tmp_path / "model"))
    assert card.training.bad_images == 1
    assert card.training.samples_seen == 48
    listed = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Skipped:")]
    assert len(listed) == 1
    assert "images/005.png" in listed[0]


def test_steps_all_of_whose_images_are_unreadable_are_survived_below_the_limit(
    tiny_config: MakeConfig, draw_cells: Callable[..., str], tmp_path: Path
) -> None:
    data = damage(draw_cells(tmp_path / "data", 6), 1, 4)
    card = steps.train(tiny_config(batch_size=1, epochs=1, max_bad_images=0.5), data=data, output=str(tmp_path / "model"))
    assert card.training.bad_images == 2


def test_more_unreadable_images_than_the_limit_stop_the_run_with_their_number(
    tiny_config: MakeConfig, draw_cells: Callable[..., str], tmp_path: Path
) -> None:
    data = damage(draw_cells(tmp_path / "data", 24), 3, 9, 17)
    with pytest.raises(DataError, match=r"of 24 images cannot be read, more than model\.max_bad_images \(5\.0%\)"):
        steps.train(tiny_config(max_bad_images=0.05), data=data, output=str(tmp_path / "model"))


def test_a_limit_of_zero_allows_no_unreadable_image(tiny_config: MakeConfig, draw_cells: Callable[..., str], tmp_path: Path) -> None:
    data = damage(draw_cells(tmp_path / "data", 24), 3)
    with pytest.raises(DataError, match="1 of 24 images cannot be read"):
        steps.train(tiny_config(max_bad_images=0), data=data, output=str(tmp_path / "model"))
