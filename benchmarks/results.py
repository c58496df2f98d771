"""The table of a run, and the files that keep it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring import Machine, Row

TEXTS = (0, 3, 7)  # columns
HERE = Path(__file__).parent
SECTIONS = ("table", "growth", "GPU")


def table(rows: Sequence[Row]) -> str:
    """A table in Markdown, as it is printed and as it stands in RESULTS.md."""
    head = ("what", "reference", "ours", "unit", "ratio", "aim", "share of peak", "")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = tuple("-" * width if column in TEXTS else "-" * (width - 1) + ":" for column, width in enumerate(widths))
    return "\n".join("| " + " | ".join(_aligned(line, widths)) + " |" for line in (lines[0], rule, *lines[1:]))


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}×"
    aim = "" if row.target is None else f"{row.target:g}×"
    share = "" if row.share_of_peak is None else f"{row.share_of_peak:.0%}"
    return (row.work, _number(row.reference), _number(row.ours), row.unit, ratio, aim, share, row.note)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if column in (0, 3, 7) else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def record(machine: Machine, rows: Sequence[Row], section: str = "table", text: str = "") -> None:
    """Put rows into results.json, and a table into RESULTS.md, in the place of those that an earlier run put into this section.

    Args:
        machine: what they were measured on.
        rows: those of the section.
        section: `table`, or another whose name all its rows begin with, such as `growth: step over prototypes`.
        text: the table; of the rows where it is not given.
    """
    file = HERE / "results.json"
    before = json.loads(file.read_text()) if file.exists() else []
    kept = [row for row in before if _section(row["work"]) != section]
    published = [*kept, *(row.published() for row in rows)]
    published.sort(key=lambda row: SECTIONS.index(_section(row["work"])))  # stable: within a section as they were measured
    file.write_text(json.dumps(published, indent=2, ensure_ascii=False) + "\n")
    page = HERE / "RESULTS.md"
    place = re.compile(rf"(<!-- {section} -->\n).*?(<!-- end of {section} -->)", re.DOTALL)
    page.write_text(place.sub(lambda found: f"{found[1]}{machine}\n\n{text or table(rows)}\n{found[2]}", page.read_text()))


def _section(work: object) -> str:
    name = str(work).partition(": ")[0]
    return name if name in SECTIONS else SECTIONS[0]
