"""Trainings killed, stopped and robbed of checkpoints at random and started again until they end: bit for bit the same weights."""

from __future__ import annotations

import os
import random
import re
import signal
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from dino4cells.config import Config
from dino4cells.training import checkpoint as checkpoints
from tests.faults.trainings import Ended, Fault, Nursery
from tests.tally import Tally

HISTORIES = int(os.environ.get("DINO4CELLS_HISTORIES", "20"))
SEED = int(os.environ.get("DINO4CELLS_SEED", random.randrange(10**6)))
RUNS_WITH_FAULTS = 3
STOPPED = 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("notes")) as nursery:
        yield nursery


@pytest.fixture(scope="module")
def configured(tiny_config: Callable[..., Config]) -> Callable[..., str]:
    """A small configuration as text: a checkpoint after every step, or only when the run is asked to stop."""

    def make(minutes: float = 1e-6, **others: object) -> str:
        return tiny_config(checkpoint_minutes=minutes, **others).to_yaml()

    return make


@pytest.fixture(scope="module")
def whole(
    nursery: Nursery, configured: Callable[..., str], cells: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, tuple[Path, Ended]]:
    """Uninterrupted runs, by their number of processes."""
    found = {}
    for processes in (1, 2):
        output = tmp_path_factory.mktemp("whole") / "model"
        ended = nursery.train(configured(drop_path_rate=0.1), cells, output, processes=processes)
        assert ended.codes == (0,) * processes, ended.said
        found[processes] = output, ended
    return found


def state(output: Path) -> dict[str, torch.Tensor]:
    """All tensors of a finished run's checkpoint, by name."""
    found = checkpoints.load(str(output / "checkpoint.pth"))
    moments = found["optimizer"]["state"]
    return {
        **{f"{part}.{name}": value for part in ("student", "teacher", "dino_loss") for name, value in found[part].items()},
        **{f"{number}.{name}": value for number, values in moments.items() for name, value in values.items()},
    }


def same_bits(one: Path, other: Path) -> bool:
    first, second = state(one), state(other)
    assert len(first) > 90
    return (
        (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
        and first.keys() == second.keys()
        and all(torch.equal(first[name], second[name]) for name in first)
    )


def damage(directory: Path, dice: random.Random) -> str:
    """Cut the newest of two checkpoints short, or flip a bit of a tensor in it, where there are two; returns what was done."""
    saved = sorted(directory.glob("checkpoint-*.pth"))
    if len(saved) < 2 or dice.random() < 0.4 or not zipfile.is_zipfile(saved[-1]):  # one that was cut short stays so until it is replaced
        return ""
    content, how = bytearray(saved[-1].read_bytes()), dice.choice(("cut short", "a bit flipped"))
    if how == "cut short":
        del content[dice.randrange(len(content)) :]
    else:
        with zipfile.ZipFile(saved[-1]) as archive:
            tensor = dice.choice([entry for entry in archive.infolist() if "/data/" in entry.filename])
        name, extra = struct.unpack_from("<HH", content, tensor.header_offset + 26)
        begin = tensor.header_offset + 30 + name + extra
        content[begin + dice.randrange(tensor.file_size)] ^= 1 << dice.randrange(8)
    saved[-1].write_bytes(content)
    return f"{saved[-1].name} {how}"


def test_weights_after_any_history_of_kills_stops_and_damage_are_those_of_an_uninterrupted_run(
    nursery: Nursery, configured: Callable[..., str], cells: str, whole: dict[int, tuple[Path, Ended]], tmp_path: Path, tally: Tally
) -> None:
    tally.what = "training killed, stopped or robbed of its newest checkpoint, again and again: same weights"
    print(f"DINO4CELLS_SEED={SEED}")
    for history in range(HISTORIES):
        dice = random.Random(f"{SEED} {history}")
        processes = 2 if history % 4 == 3 else 1
        config = configured(dice.choice((1e-6, 1e-6, 10.0)), drop_path_rate=0.1)
        output, told, damaged = tmp_path / str(history) / "model", [], ""
        for run in range(RUNS_WITH_FAULTS + 2):
            fault = Fault(
                dice.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)),
                1 + int(dice.random() * whole[processes][1].places),
                dice.randrange(processes),
            )
            ended = nursery.train(config, cells, output, processes=processes, faults=[fault] if run < RUNS_WITH_FAULTS else [])
            told.append(f"run {run}: {fault.number.name} at place {fault.place} of rank {fault.rank}: {ended.codes}")
            # The others of a killed process lose their connection to it.
            expected = {0, 1, -signal.SIGKILL} if -signal.SIGKILL in ended.codes else {0, STOPPED, -signal.SIGTERM}
            assert set(ended.codes) <= expected, f"{told}\n{ended.said}"
            if STOPPED in ended.codes:
                assert ended.seconds < 10
                assert "the same command goes on from there" in ended.said
            if damaged and "Training in" in ended.said:
                assert re.search(rf"{damaged.split()[0]}: the checkpoint is damaged .* Trying the one before it", ended.said), ended.said
            if ended.codes == (0,) * processes:
                break
            damaged = damage(Path(f"{output}.checkpoints"), dice)
            told.append(damaged)
        survived = ended.codes == (0,) * processes and same_bits(output, whole[processes][0])
        tally.count(survived)
        assert survived, "\n".join([*told, ended.said])
        assert sorted(path.name for path in output.parent.iterdir()) == ["model"]  # neither lease nor checkpoints


def test_a_run_on_changing_numbers_of_processes_sees_each_image_once_an_epoch(
    nursery: Nursery, configured: Callable[..., str], cells: str, whole: dict[int, tuple[Path, Ended]], tmp_path: Path, tally: Tally
) -> None:
    tally.what = "training resumed on another number of processes: same samples, same schedules"
    print(f"DINO4CELLS_SEED={SEED}")
    sgd = {"optimizer": "sgd", "lr": 0.3, "weight_decay_end": 0.04}  # as in test_two_processes, where rounding errors stay small
    reference = tmp_path / "reference"
    assert nursery.train(configured(**sgd), cells, reference).codes == (0,)
    for history in range(max(3, HISTORIES // 7)):
        dice = random.Random(f"{SEED} numbers {history}")
        output, rows = tmp_path / str(history), {}
        numbers = dice.sample((1, 2, 4), 3)
        for run, processes in enumerate(numbers):
            number, rank = dice.choice((signal.SIGKILL, signal.SIGTERM)), dice.randrange(processes)
            faults = [] if run == 2 else [Fault(number, dice.randrange(4, 16), rank)]
            ended = nursery.train(configured(**sgd), cells, output, processes=processes, faults=faults)
            for seen, read in ended.rows.items():
                # A step that was begun and lost is made again with the same images.
                assert len(read) < 8 or sorted(read) == sorted(rows.setdefault(seen, read))
        assert ended.codes == (0,) * numbers[-1], ended.said
        assert sorted(rows) == [0, 8, 16, 24, 32, 40]
        epochs = [sorted(row for seen in epoch for row in rows[seen]) for epoch in ((0, 8, 16), (24, 32, 40))]
        ends, expected = (checkpoints.load(str(place / "checkpoint.pth")) for place in (output, reference))
        rates = [[(record["samples"], record["lr"], record["momentum"]) for record in found["log"]] for found in (ends, expected)]
        one, other = (safetensors.torch.load_file(place / "model.safetensors") for place in (output, reference))
        close = all(torch.allclose(one[name], other[name], rtol=0, atol=1e-4) for name in one)
        tally.count(epochs == [list(range(24))] * 2 and rates[0] == rates[1] and close)
        assert tally.survived == tally.tried, (numbers, epochs, rates, close)
