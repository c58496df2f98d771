"""The progress that a person follows, on a terminal and in a log."""

from __future__ import annotations

import io

import pytest

from dino4cells import progress
from dino4cells.progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which a test moves."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_whole_line_now_and_then(clock: list[float]) -> None:
    stream = io.StringIO()
    with Progress("train", 1000, stream=stream) as bar:
        for _ in range(100):
            clock[0] += 0.1
            bar.advance(10, "loss 6.24")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3  # at once, after five seconds, at the end
    assert "\r" not in stream.getvalue()
    assert "510/1,000 images · 100 images/s · 0:05 left · loss 6.24" in lines[1]
    assert "100% · 1,000/1,000 images · 100 images/s · 0:10 taken · loss 6.24" in lines[2]


def test_a_terminal_gets_one_line_that_is_drawn_over(clock: list[float]) -> None:
    stream = Terminal()
    with Progress("extract", 40, stream=stream) as bar:
        for _ in range(4):
            clock[0] += 0.5
            bar.advance(10)
    text = stream.getvalue()
    assert text.count("\r") == 5
    assert text.count("\n") == 1
    assert text.endswith("\n")


def test_a_resumed_run_is_measured_by_what_it_does_itself(clock: list[float]) -> None:
    stream = io.StringIO()
    bar = Progress("train", 1000, done=900, stream=stream)
    clock[0] += 10
    bar.advance(50)
    assert bar.per_second == pytest.approx(5)
    assert "950/1,000 images · 5.0 images/s · 0:10 left" in stream.getvalue()


def test_a_silent_process_counts_and_says_nothing(clock: list[float]) -> None:
    stream = io.StringIO()
    with Progress("train", 10, enabled=False, stream=stream) as bar:
        clock[0] += 2
        bar.advance(10)
    assert bar.per_second == pytest.approx(5)
    assert stream.getvalue() == ""


def test_no_images_at_all_is_not_a_division_by_zero(clock: list[float]) -> None:
    stream = io.StringIO()
    with Progress("extract", 0, stream=stream):
        pass
    assert "0/0 images" in stream.getvalue()


def test_hours_are_written_as_hours(clock: list[float]) -> None:
    stream = io.StringIO()
    bar = Progress("train", 100_000, stream=stream)
    clock[0] += 100
    bar.advance(1000)
    assert "2:45:00 left" in stream.getvalue()


def test_a_run_that_fails_leaves_its_last_state_and_its_error() -> None:
    stream = io.StringIO()

    def fail() -> None:
        with Progress("train", 100, stream=stream) as bar:
            bar.advance(10)
            raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        fail()
    assert "10/100 images" in stream.getvalue().splitlines()[-1]
