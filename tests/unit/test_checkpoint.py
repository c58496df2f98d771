"""Checkpoints: what is kept, what is skipped, what is refused."""

from __future__ import annotations

import argparse
import logging
import pickle
import random
import threading
from pathlib import Path

import pytest
import torch

from dino4cells import storage
from dino4cells.errors import CheckpointError, StorageError
from dino4cells.training import checkpoint as checkpoints
from dino4cells.training.checkpoint import CheckpointWriter
from dino4cells.training.fit import clean_up
from dino4cells.training.tensorboard import EVENTS


def checkpoint(seen: int = 0) -> checkpoints.Checkpoint:
    """As the published code writes it, with `samples_seen`."""
    network = {"backbone.cls_token": torch.full((1, 1, 4), float(seen)), "head.mlp.0.weight": torch.randn(64, 64)}
    return {
        "student": {f"module.{name}": value for name, value in network.items()},
        "teacher": network,
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "epoch": 1,
        "args": argparse.Namespace(arch="vit_tiny", lr=0.1, channels=["DNA"]),
        "dino_loss": {"center": torch.zeros(1, 8)},
        "fp16_scaler": dict(checkpoints.FRESH_SCALER),
        "samples_seen": seen,
    }


def written(directory: Path, *seen: int) -> str:
    for number in seen:
        checkpoints.save(str(directory), checkpoint(number))
    return str(directory)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_checkpoint_is_read_back_as_it_was(tmp_path: Path) -> None:
    read = checkpoints.load(checkpoints.save(str(tmp_path), checkpoint(7)))
    assert read["args"] == argparse.Namespace(arch="vit_tiny", lr=0.1, channels=["DNA"])
    assert set(read) == set(checkpoint())
    assert torch.equal(read["student"]["module.backbone.cls_token"], torch.full((1, 1, 4), 7.0))


def test_the_two_latest_are_kept_by_samples_and_not_by_name(tmp_path: Path) -> None:
    written(tmp_path, 900, 1_000, 20_000_000_000)
    assert names(tmp_path) == ["checkpoint-000000001000.pth", "checkpoint-020000000000.pth"]
    assert checkpoints.load_latest(str(tmp_path))["samples_seen"] == 20_000_000_000


def test_a_checkpoint_holds_the_state_of_its_step_and_not_of_what_training_did_while_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, moved_on = storage.write_bytes, threading.Event()

    def slowly(url: str, content: bytes) -> None:
        assert moved_on.wait(60)
        write(url, content)

    monkeypatch.setattr(storage, "write_bytes", slowly)
    state = checkpoint(5)
    with CheckpointWriter(str(tmp_path)) as writer:
        writer.save(state)
        assert not names(tmp_path)
        state["student"]["module.backbone.cls_token"].zero_()
        moved_on.set()
    assert torch.equal(checkpoints.load_latest(str(tmp_path))["student"]["module.backbone.cls_token"], torch.full((1, 1, 4), 5.0))


def test_checkpoints_written_one_after_the_other_are_the_same_files_as_at_once(tmp_path: Path) -> None:
    with CheckpointWriter(str(tmp_path / "behind")) as writer:
        for seen in (1, 2, 3):
            writer.save(checkpoint(seen))
            writer.keep_copy(checkpoint(seen))
    written(tmp_path / "at-once", 1, 2, 3)
    assert names(tmp_path / "behind") == [*names(tmp_path / "at-once"), "checkpoint0001.pth"]


@pytest.fixture
def full_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be written."""

    def refuse(url: str, content: bytes) -> None:
        raise StorageError("the store is full")

    monkeypatch.setattr(storage, "write_bytes", refuse)


@pytest.mark.usefixtures("full_store")
def test_a_checkpoint_that_cannot_be_written_stops_the_run_at_the_next_one(tmp_path: Path) -> None:
    writer = CheckpointWriter(str(tmp_path))
    writer.save(checkpoint(1))
    with pytest.raises(StorageError, match="the store is full"):
        writer.save(checkpoint(2))


@pytest.mark.usefixtures("full_store")
def test_a_last_checkpoint_that_cannot_be_written_stops_the_run_at_its_end(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the store is full"), CheckpointWriter(str(tmp_path)) as writer:
        writer.save(checkpoint(1))


@pytest.mark.usefixtures("full_store")
def test_what_ended_a_run_is_said_before_a_checkpoint_that_was_lost_meanwhile(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def run() -> None:
        with CheckpointWriter(str(tmp_path)) as writer:
            writer.save(checkpoint(1))
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert "the store is full" in caplog.text


def test_other_files_of_the_directory_are_left_alone_by_the_run_and_when_it_is_finished(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "events.out.tfevents.another").touch()
    storage.write_bytes(storage.join(str(tmp_path), EVENTS), b"")
    written(tmp_path, 1, 2, 3)
    clean_up(str(tmp_path))
    assert storage.list_files(str(tmp_path)) == ["notes.txt", "tensorboard/events.out.tfevents.another"]


def test_a_directory_of_checkpoints_alone_goes_with_them(tmp_path: Path) -> None:
    storage.write_bytes(storage.join(written(tmp_path / "model.checkpoints", 1, 2), EVENTS), b"")
    clean_up(str(tmp_path / "model.checkpoints"))
    assert names(tmp_path) == []


def test_a_directory_that_is_not_there_has_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoints.load_latest(str(tmp_path / "none")) is None
    assert checkpoints.load_latest("memory://none") is None


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "zeros"])
def test_a_damaged_newest_checkpoint_is_skipped_with_a_warning(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    written(tmp_path, 8, 16)
    newest = tmp_path / "checkpoint-000000000016.pth"
    content = newest.read_bytes()
    newest.write_bytes({"truncated": content[:-300], "empty": b"", "text": b"not a checkpoint", "zeros": bytes(len(content))}[damage])
    with caplog.at_level(logging.WARNING):
        assert checkpoints.load_latest(str(tmp_path))["samples_seen"] == 8
    assert "checkpoint-000000000016.pth" in caplog.text


def test_damage_anywhere_in_the_file_is_a_checkpoint_error_or_harmless(tmp_path: Path) -> None:
    good = checkpoints.dump(checkpoint(8))
    path, dice = tmp_path / "damaged.pth", random.Random(0)
    for trial in range(300):
        damaged = bytearray(good)
        for place in dice.sample(range(len(good)), 1 + trial % 20):
            damaged[place] ^= dice.randrange(1, 256)
        path.write_bytes(damaged[: dice.randrange(1, len(good))] if trial % 3 == 0 else damaged)
        try:
            read = checkpoints.load(str(path))
        except CheckpointError:
            continue
        # Only what the format does not use, such as padding and time stamps, may change unseen.
        assert torch.equal(read["teacher"]["backbone.cls_token"], torch.full((1, 1, 4), 8.0))


class Payload:
    """What an attacker's file would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("this must not run",))


@pytest.mark.parametrize("extra", [Payload(), Path("x"), argparse.ArgumentParser])
def test_a_file_that_holds_more_than_tensors_and_settings_is_refused(
    tmp_path: Path, extra: object, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({**checkpoint(), "extra": extra}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth: holds more than tensors"):
        checkpoints.load(str(tmp_path / "evil.pth"))
    assert "this must not run" not in capsys.readouterr().out


def test_a_plain_pickle_is_refused_without_being_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(CheckpointError):
        checkpoints.load(str(tmp_path / "evil.pth"))
    assert "this must not run" not in capsys.readouterr().out


def test_a_file_without_teacher_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="no 'teacher'"):
        checkpoints.load(str(tmp_path / "other.pth"))


def test_a_checkpoint_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.pth"):
        checkpoints.load(str(tmp_path / "none.pth"))
