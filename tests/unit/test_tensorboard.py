"""The event file that TensorBoard opens, read back as TensorBoard reads it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dino4cells import steps
from dino4cells.artifacts import open_artifact
from dino4cells.config import Config
from dino4cells.models.artifact import load_model
from dino4cells.training import tensorboard
from dino4cells.training.tensorboard import EVENTS, TAGS, LiveEvents, clear_events, dump_events

RECORDS = [
    {"samples": 8, "time": 1_700_000_000.0, "loss": 4.5, "lr": 1e-4},
    {"samples": 16, "time": 1_700_000_060.0, "loss": 4.25, "lr": 2e-4},
    {"samples": 24, "loss": 4.0, "lr": 3e-4},  # without a time, as older runs have logged
]


def read(directory: Path) -> dict[str, list[tuple[float, int, float]]]:
    """Time, step and value of all scalars, as TensorBoard finds them in a directory."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(directory))
    accumulator.Reload()
    return {tag: [(at.wall_time, at.step, at.value) for at in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}


def test_tensorboard_finds_every_figure_of_a_run_in_its_artifact(tiny_config: Callable[..., Config], cells: str) -> None:
    output = "memory://tensorboard/model"
    steps.train(tiny_config(epochs=1), data=cells, output=output)
    model = open_artifact(output, "model")
    model.verify()
    scalars, log = read(model.local(EVENTS).parent), load_model(output).log()
    assert set(scalars) == set(TAGS.values())
    for key, tag in TAGS.items():
        assert [step for _, step, _ in scalars[tag]] == [record["samples"] for record in log]
        assert [value for *_, value in scalars[tag]] == pytest.approx([record[key] for record in log], rel=1e-6)
    assert [time for time, *_ in scalars["loss"]] == pytest.approx([record["time"] for record in log])


def test_a_file_that_grows_keeps_its_beginning() -> None:
    files = [dump_events(RECORDS[:count]) for count in (1, 2, 3)]
    assert files[0] is not None
    assert files[1] is not None
    assert files[2] is not None
    assert files[1].startswith(files[0])
    assert files[2].startswith(files[1])


def test_a_run_can_be_watched_beside_its_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(tensorboard.time, "monotonic", lambda: now[0])
    events = LiveEvents(str(tmp_path))
    events.update(RECORDS[:1])
    assert not (tmp_path / EVENTS).exists()  # a run of seconds is over before anyone looks
    now[0] = 31
    events.update(RECORDS[:1])
    now[0] = 40
    events.update(RECORDS[:2])
    assert [step for _, step, _ in read((tmp_path / EVENTS).parent)["loss"]] == [8]
    now[0] = 62
    events.update(RECORDS)
    assert [step for _, step, _ in read((tmp_path / EVENTS).parent)["loss"]] == [8, 16, 24]
    clear_events(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said_once_and_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tensorboard, "LIVE_SECONDS", 0.0)
    (tmp_path / "file").write_text("")
    events = LiveEvents(str(tmp_path / "file"))
    events.update(RECORDS)
    events.update(RECORDS)
    (message,) = caplog.messages
    assert "TensorBoard shows this run when it has ended" in message


def test_without_the_extra_nothing_is_written_and_no_one_is_bothered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    monkeypatch.setattr(tensorboard, "LIVE_SECONDS", 0.0)
    events = LiveEvents(str(tmp_path))
    with caplog.at_level(logging.DEBUG, "dino4cells.training.tensorboard"):
        events.update(RECORDS[:1])
        events.update(RECORDS)
    assert list(tmp_path.iterdir()) == []
    (said,) = caplog.records
    assert said.levelno == logging.DEBUG
    assert "pip install 'dino4cells[tensorboard]'" in said.getMessage()
    assert dump_events(RECORDS) is None
