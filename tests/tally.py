"""What the tests of tests/faults tried, what survived and what was lost: a line for each, printed when all have run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

_PROPERTY = "tally"


@dataclass
class Tally:
    """Counts of one test.

    Attributes:
        what: the fault, in a few words: `a rank killed at a random step`.
        tried: times that it was made to happen.
        survived: times that the promise held.
    """

    what: str = ""
    tried: int = 0
    survived: int = 0

    def count(self, survived: bool = True) -> None:
        """One more time."""
        self.tried += 1
        self.survived += survived


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """The counts of a test, which it names by `tally.what`; a test that lost anything fails."""
    counts = Tally()
    yield counts
    # Properties travel from a worker process to the one that prints.
    request.node.user_properties.append((_PROPERTY, (counts.what, counts.tried, counts.survived)))
    assert counts.tried > 0, "nothing was tried"
    assert counts.survived == counts.tried, f"{counts.what}: {counts.tried - counts.survived} of {counts.tried} were lost"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = {
        report.nodeid: value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == _PROPERTY
    }
    if not found:
        return
    terminalreporter.section("faults: tried, survived, lost")
    sums: dict[str, list[int]] = {}
    for what, *counts in found.values():
        sums[what] = [total + count for total, count in zip(sums.get(what, (0, 0)), counts, strict=True)]
    for what, (tried, survived) in sorted(sums.items()):
        terminalreporter.write_line(f"{tried:>8,} {survived:>8,} {tried - survived:>6,}  {what}")
