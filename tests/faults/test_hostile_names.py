"""Labels and names that others chose: shown as text by terminals, logs, pages and in names of objects, and obeyed by none of them."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from rich.text import Text

from dino4cells.artifacts import ArtifactWriter
from dino4cells.cluster.job import JobSpec
from dino4cells.cluster.names import is_job_name, job_name
from dino4cells.data.shards import shard_name
from dino4cells.errors import ConfigError, DataError, Dino4CellsError
from dino4cells.events import EventHandler, Style, event_of, line_of, text_of
from dino4cells.printable import UNSEEN, as_markup, json_text, printable
from dino4cells.progress import Relay
from dino4cells.report.text import data_block, escape
from tests.tally import Tally

Command = Callable[..., Any]

HOSTILE = [
    "\x1b[31mred\x1b[0m", "\x1b]8;;http://evil.example\x07link\x1b]8;;\x07", "\x1b[2J\x1b[H", "\x9b31mred", "a\rb", "a\nerror: forged",
    "a\x08\x08b", "\x07", "\u202eturned", "\u2066isolated", "\u200bunseen", "a\u2028b", "\ufeffmark", "[bold]bold[/bold]",
    "[link=http://evil.example]link[/link]", "[/]", "[red", "\\[bold]", "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>',
    "</script><!--", "{{7*7}}", "${HOME}", "%s%n", "=1+1", "x" * 5000, "../../etc", "日本", "é",
]  # fmt: skip


# Terminals and logs


@given(st.text(st.characters(codec="utf-8")) | st.sampled_from(HOSTILE))
@example("[bold]\x1b[31m[/bold]")
def test_text_is_shown_with_all_that_is_seen_of_it_and_nothing_that_is_obeyed(text: str) -> None:
    shown = printable(text)
    assert UNSEEN.search(shown) is None
    assert UNSEEN.sub("", text) == text or "\\" in shown
    assert json.loads(json_text({"label": text})) == {"label": text}
    assert UNSEEN.search(json_text({"label": text})) is None
    assert Text.from_markup(as_markup(text)).plain.rstrip("\\") == shown.rstrip("\\")  # of which rich doubles those at the end
    assert not Text.from_markup(as_markup(text)).spans


@pytest.mark.parametrize("kind", [DataError, ConfigError, Dino4CellsError])
def test_no_error_carries_what_a_terminal_obeys(kind: type[Dino4CellsError], tally: Tally) -> None:
    tally.what = f"a hostile label in a {kind.__name__}"
    for label in HOSTILE:
        tally.count(UNSEEN.search(str(kind(f"metadata.csv: the class '{label}' is empty")).replace("\n", "")) is None)


@pytest.mark.parametrize("style", [Style.TEXT, Style.JSON])
def test_the_log_shows_hostile_labels_as_text(style: Style, capsys: pytest.CaptureFixture[str], tally: Tally) -> None:
    tally.what = f"a hostile label in the log, as {style.value}"
    handler = EventHandler(style)
    for label in HOSTILE:
        handler.emit(logging.LogRecord("dino4cells", logging.WARNING, "", 0, "Skipped: %s", (label,), None))
        written = capsys.readouterr().err
        tally.count(UNSEEN.search(written.replace("\n", "")) is None)
        if style is Style.JSON:
            assert written.count("\n") == 1
            event = event_of(written)
            assert event is not None
            assert event["message"] == f"Skipped: {label}"
            assert UNSEEN.search(text_of(written).replace("\n", "")) is None


def test_what_the_processes_of_a_job_print_is_passed_on_as_text(capsys: pytest.CaptureFixture[str], tally: Tally) -> None:
    tally.what = "a hostile label in a line of a job"
    for label in HOSTILE:
        line = label.replace("\n", " ")
        with Relay(sys.stdout) as relay:
            relay.line(line)
            relay.line(line_of("warning", message=label))
        written = capsys.readouterr()
        tally.count(UNSEEN.search((written.out + written.err).replace("\n", "")) is None)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_that_looks_at_data_shows_hostile_labels_as_text(dino4cells: Command, tmp_path: Path, as_json: bool) -> None:
    labels = [label for label in HOSTILE if len(label) < 100]
    for row in range(len(labels)):
        Image.new("L", (9, 9), row).save(tmp_path / f"{row}.png")
    frame = pd.DataFrame({"file": [f"{row}.png" for row in range(len(labels))], "ID": labels, "[bold]protein\x1b[31m_location": labels})
    frame.to_csv(tmp_path / "metadata.csv", index=False)
    (tmp_path / "channels.txt").write_text("\x1b[31m[blink]DNA\u202e\n")
    answer = dino4cells("data", "validate", "--data", tmp_path, "--processes", 1, *(["--json"] if as_json else []))
    assert UNSEEN.search((answer.out + answer.err).replace("\n", "")) is None
    assert "[bold]protein" in answer.out
    if as_json:
        assert json.loads(answer.out)["channel_names"] == ["\x1b[31m[blink]DNA\u202e"]


def test_tables_of_the_terminal_show_markup_as_text() -> None:
    for label in HOSTILE:
        console = Console(file=io.StringIO(), force_terminal=True, width=20_000, color_system="truecolor")
        console.print(as_markup(label), highlight=False)
        written = console.file.getvalue()  # type: ignore[attr-defined]
        assert "\x1b" not in written
        assert written.rstrip("\n") == printable(label)


# Pages


@given(st.text(st.characters(codec="utf-8")) | st.sampled_from(HOSTILE))
def test_pages_hold_no_element_that_a_label_makes(text: str) -> None:
    assert not set("<>\"'") & set(escape(text))
    assert UNSEEN.search(escape(text)) is None
    block = data_block("data", {"label": text})
    inside = block.removeprefix('<script type="application/json" id="data">').removesuffix("</script>")
    assert "<" not in inside
    assert json.loads(inside) == {"label": text}


# Names of objects and files


@given(st.text(max_size=80) | st.sampled_from(HOSTILE), st.text(max_size=80) | st.sampled_from(HOSTILE))
def test_names_of_jobs_are_names_whatever_they_are_made_of(name: str, run: str) -> None:
    assert is_job_name(job_name(JobSpec(name, "dino4cells.training"), run))


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "..", "s3://bucket/x", "a\\..\\x", "manifest.json"])
def test_no_file_of_an_artifact_is_elsewhere(tmp_path: Path, name: str) -> None:
    with ArtifactWriter(str(tmp_path / "artifact"), "model") as writer, pytest.raises(ValueError, match="is no name of a file"):
        writer.write_text(name, "x")
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


def test_names_of_shards_are_numbers() -> None:
    """The index says which shard by its number alone, and where in it; the names of a tar's members are never opened."""
    assert shard_name(7) == "shards/cells-000007.tar"
