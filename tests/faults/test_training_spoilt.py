"""Losses that are no numbers, full disks, damaged checkpoints, a store that does not answer: what is kept, and what is said."""

from __future__ import annotations

import logging
import os
import random
import re
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dino4cells import steps
from dino4cells.config import Config
from dino4cells.data.dataset import Batch, CellImages
from dino4cells.data.metadata import read_metadata
from dino4cells.data.sampler import SampleStream
from dino4cells.data.strata import sample_order
from dino4cells.errors import CheckpointError, ConfigError, Interrupted, StorageError
from dino4cells.training import checkpoint as checkpoints
from dino4cells.training.checkpoint import CheckpointWriter
from dino4cells.training.distributed import ProcessGroup
from dino4cells.training.divergence import RecentSteps
from dino4cells.training.fit import fit
from dino4cells.training.interruption import CHECK_EVERY, WATCH_SECONDS, Looks, stop_signal
from dino4cells.training.loop import DINO
from tests.integration.training_alone import ALONE, run
from tests.tally import Tally

ALL_FINITE = "every tensor of every checkpoint is finite"


def saved(output: Path) -> list[Path]:
    return sorted(Path(f"{output}.checkpoints").glob("*.pth"))


def is_finite(path: Path) -> bool:
    state = checkpoints.load(str(path))
    tensors = [*state["student"].values(), *state["teacher"].values(), *state["dino_loss"].values()]
    tensors += [value for values in state["optimizer"]["state"].values() for value in values.values()]
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


# A loss that is not finite


def spoil(monkeypatch: pytest.MonkeyPatch, at: int, how: str) -> None:
    """In the step after so many images the pixels are no numbers, or the step leaves weights that are none."""
    step = DINO.step

    def spoilt(self: DINO, batch: Batch, seen: int) -> torch.Tensor:
        if seen != at:
            return step(self, batch, seen)
        if how == "pixels":
            pixels = batch.images_BCHW.float()
            pixels[1] = float("nan")
            batch = Batch(pixels, batch.sizes_B2, batch.index_B, batch.epoch_B)
            return step(self, batch, seen)
        loss = step(self, batch, seen)
        with torch.no_grad():
            next(self.student.parameters()).fill_(float("inf"))
        return loss

    monkeypatch.setattr(DINO, "step", spoilt)


@pytest.mark.parametrize("how", ["pixels", "weights"])
@pytest.mark.parametrize("minutes", [1e-6, 10.0])
def test_a_loss_that_is_no_number_stops_the_run_with_the_images_and_a_good_checkpoint(
    how: str, minutes: float, tiny_config: Callable[..., Config], cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    tally.what = f"a loss or weights that are no numbers ({how}, checkpoints {'each step' if minutes < 1 else 'as copies'}): {ALL_FINITE}"
    config = tiny_config(checkpoint_minutes=minutes, saveckp_freq=1, epochs=2, lr=0.02)
    spoil(monkeypatch, 24, how)
    with pytest.raises(ConfigError) as stopped:
        run(config, cells, tmp_path / "model")
    said = str(stopped.value)
    found = re.match(r"model\.lr: the loss is no finite number any more since the step after (\d+) images, on cells ([\d, ]+) of ", said)
    assert found, said
    order = SampleStream(sample_order(read_metadata(cells), config), 2, 8, config.model.seed)
    # Spoilt weights show at once where a checkpoint is to be written, else in the next step's loss.
    expected = 24 if how == "pixels" or minutes < 1 else 32
    assert int(found[1]) == expected
    rows = sorted(row for _, row in list(order)[expected // 8])
    assert [int(cell) - 1 for cell in found[2].split(", ")] == rows
    assert f"images/{rows[0]:03d}.png" in said
    assert "lower model.lr (0.02)" in said
    kept = saved(tmp_path / "model")
    assert kept
    for path in kept:
        tally.count(is_finite(path))
    if minutes < 1:
        assert f"model.init={tmp_path}/model.checkpoints/checkpoint-000000000024.pth keeps what was learnt before" in said
    assert not (tmp_path / "model").exists()


def test_weights_that_the_last_step_spoils_are_no_model(
    tiny_config: Callable[..., Config], cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, 16, "weights")
    with pytest.raises(ConfigError, match="since the step after 16 images"):
        run(tiny_config(epochs=1), cells, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_learning_rate_that_is_much_too_high_is_said_to_be(tiny_config: Callable[..., Config], cells: str, tmp_path: Path) -> None:
    config = tiny_config(optimizer="sgd", lr=1e30, warmup_epochs=0, clip_grad=0)
    with pytest.raises(ConfigError, match=r"lower model\.lr \(1e\+30\)"):
        run(config, cells, tmp_path / "model")


def test_steps_without_a_lost_loss_name_the_last_one() -> None:
    recent = RecentSteps()
    for seen in (8, 16):
        rows = torch.arange(seen, seen + 2)
        recent.add(seen, Batch(torch.zeros(2, 1, 1, 1), torch.ones(2, 2), rows, rows), torch.tensor(0.5))
    assert not recent.lost(torch.device("cpu"))
    assert recent.first_lost() == (16, [16, 17])


# Stopping in time


def test_slow_steps_are_fewer_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHECK_EVERY, "cpu", 10)
    clock = 0.0
    looks = Looks(ProcessGroup(0, 1, 0, torch.device("cpu")), lambda: clock)

    def steps_until_a_look(seconds: float) -> int:
        nonlocal clock
        for number in range(1, 100):
            clock += seconds
            if looks.due():
                looks.look(asked=False, late=False, lost=torch.zeros(()))
                return number
        raise AssertionError

    assert steps_until_a_look(0.05) == 1  # how long a step takes is known after the first
    assert steps_until_a_look(0.05) == 10
    assert steps_until_a_look(4.0) == 10
    assert steps_until_a_look(4.0) == 1


def test_sigterm_while_a_store_does_not_answer_leaves_a_checkpoint_at_once(
    tiny_config: Callable[..., Config], cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    tally.what = "SIGTERM while a run waits for images: a checkpoint before the images come"
    read, answered, before_images = CellImages.__getitems__, threading.Event(), []

    def slow(self: CellImages, keys: list[tuple[int, int]]) -> Batch:
        if keys[0][0] == 1 and threading.current_thread().name.startswith("read-ahead"):  # the second epoch
            assert answered.wait(90)
        return read(self, keys)

    def stop_then_answer() -> None:
        time.sleep(1.0)  # the first epoch's steps are done, and the run waits
        began = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)
        while not saved(tmp_path / "model") and time.monotonic() - began < 60:
            time.sleep(0.01)
        before_images.extend(saved(tmp_path / "model"))
        answered.set()

    monkeypatch.setattr(CellImages, "__getitems__", slow)
    config = tiny_config(epochs=2)

    def record(network: DINO, seen: int, seconds: float) -> None:
        if seen == 24:
            threading.Thread(target=stop_then_answer).start()

    with pytest.raises(Interrupted):
        fit(
            config, read_metadata(cells), str(tmp_path / "model"), ALONE, resume_directory=f"{tmp_path}/model.checkpoints", on_record=record
        )
    tally.count("checkpoint-000000000024.pth" in [path.name for path in before_images])


def test_a_signal_saves_once_and_only_while_the_run_waits() -> None:
    written: list[int] = []
    saved_once = threading.Event()

    def save() -> None:
        written.append(1)
        saved_once.set()

    with stop_signal() as stop:
        with stop.waiting(save):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        time.sleep(3 * WATCH_SECONDS)
        assert not written
        with stop.waiting(save):
            assert saved_once.wait(60)
        with stop.waiting(save):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(3 * WATCH_SECONDS)
        assert written == [1]


def test_a_save_that_fails_while_the_run_waits_ends_it() -> None:
    failing = threading.Event()

    def fail() -> None:
        failing.set()
        raise StorageError("the store is full")

    with stop_signal() as stop, pytest.raises(StorageError, match="the store is full"), stop.waiting(fail):  # noqa: PT012
        os.kill(os.getpid(), signal.SIGTERM)
        assert failing.wait(60)


# Damaged checkpoints


def small(seen: int) -> checkpoints.Checkpoint:
    return {"teacher": {"weight": torch.full((64, 8), float(seen))}, "samples_seen": seen}


def test_a_flipped_bit_anywhere_is_found_or_harmless(tmp_path: Path, tally: Tally) -> None:
    tally.what = "a bit of a checkpoint flipped, or its end cut off: found, or nothing but what was written is read"
    good, dice, path = checkpoints.dump(small(8)), random.Random(0), tmp_path / "checkpoint.pth"
    for trial in range(1500):
        damaged = bytearray(good)
        if trial % 5:
            damaged[dice.randrange(len(good))] ^= 1 << dice.randrange(8)
        else:
            del damaged[dice.randrange(len(good)) :]
        path.write_bytes(damaged)
        try:
            read = checkpoints.load(str(path))
        except CheckpointError:
            tally.count()
        else:
            tally.count(torch.equal(read["teacher"]["weight"], small(8)["teacher"]["weight"]) and read["samples_seen"] == 8)


def test_a_run_does_not_start_anew_by_itself_where_no_checkpoint_can_be_read(tmp_path: Path) -> None:
    for seen in (8, 16):
        Path(checkpoints.save(str(tmp_path), small(seen))).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"none of which can be read \(checkpoint-000000000016\.pth, checkpoint-000000000008\.pth\)"):
        checkpoints.load_latest(str(tmp_path))


def test_a_damaged_newest_checkpoint_is_not_counted_as_one_that_is_kept(tmp_path: Path) -> None:
    for seen in (8, 16, 24):
        url = checkpoints.save(str(tmp_path), small(seen))
    Path(url).write_bytes(b"damaged")
    found = checkpoints.load_latest(str(tmp_path))
    assert found is not None
    assert found["samples_seen"] == 16
    checkpoints.save(str(tmp_path), small(20))
    assert [path.name[-6:-4] for path in sorted(tmp_path.glob("*.pth"))] == ["16", "20"]


# A full disk


def test_a_disk_that_is_full_during_a_checkpoint_keeps_the_one_before_it(
    tmp_path: Path, tiny_config: Callable[..., Config], cells: str, caplog: pytest.LogCaptureFixture, tally: Tally
) -> None:
    """The limit on a file's size gives a real error of a real write, at any byte, without a disk of its own."""
    tally.what = "a checkpoint that finds no room, at any byte of it: the one before it is kept, and said to be"
    size, before = len(checkpoints.dump(small(8))), resource.getrlimit(resource.RLIMIT_FSIZE)
    dice = random.Random(0)
    for room in [0, 1, size - 1, *(dice.randrange(size) for _ in range(30))]:
        directory = tmp_path / str(tally.tried)
        with CheckpointWriter(str(directory)) as writer:
            writer.save(small(8))
            writer.wait()
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
            try:
                writer.save(small(16))
                with pytest.raises(StorageError, match=r"checkpoint is not written, the one before it, checkpoint-0+8\.pth, is as it was"):
                    writer.wait()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
        found = checkpoints.load_latest(str(directory))
        tally.count(found is not None and found["samples_seen"] == 8 and len(list(directory.iterdir())) == 1)


def test_a_run_whose_disk_is_full_goes_on_from_the_last_checkpoint_when_there_is_room(
    tmp_path: Path, tiny_config: Callable[..., Config], cells: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    config, output = tiny_config(checkpoint_minutes=1e-6, epochs=1), tmp_path / "model"

    def fill(network: DINO, seen: int, seconds: float) -> None:
        if seen == 16:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, before[1]))

    try:
        with pytest.raises(StorageError, match=r"checkpoint-000000000016\.pth.*this checkpoint is not written, the one before it"):
            fit(config, read_metadata(cells), str(output), ALONE, resume_directory=f"{output}.checkpoints", on_record=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in saved(output)] == ["checkpoint-000000000008.pth"]
    with caplog.at_level(logging.INFO):
        steps.train(config, data=cells, output=str(output))
    assert "Continuing after 8 images" in caplog.text
