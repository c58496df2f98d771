"""The progress that a person or a program follows, in a terminal and in a log."""

from __future__ import annotations

import io
import json
import sys

import pytest
from rich.console import Console

from dino4cells import progress
from dino4cells.events import LOG, Style, line_of, style_of
from dino4cells.progress import Progress, Relay


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which a test moves."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.delenv(LOG, raising=False)
    return now


def test_a_log_gets_an_object_a_line_now_and_then(clock: list[float]) -> None:
    stream = io.StringIO()
    with Progress("train", 1000, stream=stream) as bar:
        for _ in range(100):
            clock[0] += 0.1
            bar.advance(10, "loss 6.24", {"loss": 6.24})
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["done"] for line in lines] == [10, 510, 1000]  # at once, after five seconds, at the end
    assert lines[1].pop("time").endswith("Z")
    assert lines[1] == {
        **{"event": "progress", "step": "train", "done": 510, "total": 1000, "unit": "images", "images_per_second": 100.0},
        **{"seconds": 5.1, "seconds_left": 4.9, "loss": 6.24, "note": "loss 6.24"},
    }


def test_a_person_may_have_lines_of_text_in_a_log(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOG, "text")
    stream = io.StringIO()
    with Progress("train", 1000, stream=stream) as bar:
        for _ in range(100):
            clock[0] += 0.1
            bar.advance(10, "loss 6.24")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert "\r" not in stream.getvalue()
    assert "510/1,000 images · 100 images/s · 0:05 left · loss 6.24" in lines[1]
    assert "100% · 1,000/1,000 images · 100 images/s · 0:10 taken · loss 6.24" in lines[2]


@pytest.mark.parametrize("width", [80, 200])
def test_a_terminal_gets_a_bar_that_fits_it(clock: list[float], width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    with Progress("extract", 12_000, stream=stream) as bar:
        for _ in range(4):
            clock[0] += 5
            bar.advance(3000, "epoch 12.5/100 · loss 6.240 · 12% waiting for data · 14.2 GiB")
    text = Console(width=width)
    shown = [text.render_str(line) for line in _screen(stream.getvalue())]
    assert len(shown) == 2  # drawn over and over
    assert "extract" in shown[0].plain
    assert "100% · 12,000/12,000 images · 600 images/s · 0:20 taken" in shown[0].plain
    assert "12% waiting for data" in shown[1].plain
    assert max(len(line.plain) for line in shown) <= width


def _screen(written: str) -> list[str]:
    """What a terminal shows that got this text: of the control sequences, those that rich uses to draw over a line."""
    import re

    lines, row = [""], 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\n|\r)", written):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part in ("\x1b[2K", "\r"):
            lines[row] = "" if part == "\x1b[2K" else lines[row]
        elif part == "\x1b[1A":
            row -= 1
        elif not part.startswith("\x1b"):
            lines[row] += part
    return [line for line in lines if line.strip()]


def test_the_rate_is_that_of_the_last_half_minute(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOG, "text")
    stream = io.StringIO()
    with Progress("train", 10_000, stream=stream) as bar:
        for seconds, images in ((100, 1), (100, 100)):  # a slow beginning
            for _ in range(seconds):
                clock[0] += 1
                bar.advance(images)
        assert bar.per_second_now == pytest.approx(100)
        assert bar.per_second == pytest.approx(50.5, rel=0.01)
    assert stream.getvalue().splitlines()[-2].endswith("100 images/s · 0:03 left")


def test_a_resumed_run_is_measured_by_what_it_does_itself(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOG, "text")
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
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert (line["done"], line["total"], line["seconds_left"]) == (0, 0, None)


def test_hours_are_written_as_hours(clock: list[float]) -> None:
    stream = io.StringIO()
    bar = Progress("train", 100_000, stream=stream, style=Style.TEXT)
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
    assert json.loads(stream.getvalue().splitlines()[-1])["done"] == 10


def test_what_fails_before_it_has_begun_shows_no_progress() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="why"), Progress("simulate", 100, stream=stream):
        raise ValueError("why")
    assert stream.getvalue() == ""


SAID = (
    line_of("progress", step="train", done=50, total=100, unit="images", images_per_second=5.0, seconds=10.0, seconds_left=10.0),
    line_of("warning", message="a.png is missing"),
    "a line of a library",
)


@pytest.mark.parametrize(
    ("style", "said"),
    [
        ("json", f"{SAID[0]}\n{SAID[1]}\n"),
        (
            "text",
            "train    ████████████░░░░░░░░░░░░  50% · 50/100 images · 5.0 images/s · 0:10 left\nwarning: a.png is missing\n",
        ),
        ("quiet", ""),
    ],
)
def test_what_processes_of_a_job_say_is_written_as_their_launcher_writes(
    style: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LOG, style)
    with Relay() as relay:
        for line in SAID:
            relay.line(f"{line}\n")
    assert capsys.readouterr() == ("a line of a library\n", said)


def test_processes_of_a_job_draw_their_launchers_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    rates = {"images_per_second": 5.0, "seconds_left": 5.0, "note": "loss 4.2"}
    output = sys.stdout
    with Relay(io.StringIO()) as relay:
        for done in (50, 75):
            relay.line(line_of("progress", step="train", done=done, total=100, unit="images", **rates))
        assert sys.stdout is output  # by which a caller may get the lines that it gives to the relay
    first, second = _screen(terminal.getvalue())
    assert "75% · 75/100 images · 5.0 images/s · 0:05 left" in first
    assert second.strip() == "loss 4.2"


@pytest.mark.parametrize(
    ("asked", "terminal", "style"),
    [("", True, Style.TEXT), ("", False, Style.JSON), ("text", False, Style.TEXT), ("json", True, Style.JSON), ("loud", False, Style.JSON)],
)
def test_a_terminal_gets_text_and_anything_else_json_unless_asked(
    asked: str, terminal: bool, style: Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOG, asked)
    assert style_of(Terminal() if terminal else io.StringIO()) is style
