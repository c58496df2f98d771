"""What the sweeps say of a measurement, and what recorded runs leave of each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from benchmarks import results
from benchmarks.growth.plot import picture
from benchmarks.growth.sweep import Sweep, table
from benchmarks.measuring import Machine, Row

SIZES = (1, 10, 100, 1000, 10_000)
MACHINE = Machine("a processor", 2, 24.0, {}, 1e9)


def sweep(power: float, fixed: float = 0.0) -> Sweep:
    return Sweep("step", "prototypes", "CPU ms", SIZES, [fixed + 0.001 * size**power for size in SIZES])


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5, 2.0])
def test_exponent_is_the_power_with_which_the_cost_grows(power: float) -> None:
    assert sweep(power).exponent == pytest.approx(power)


def test_what_does_not_depend_on_the_size_hides_no_growth() -> None:
    assert sweep(2.0, fixed=1.0).exponent == pytest.approx(2.0, abs=0.1)


def test_two_sizes_are_enough() -> None:
    assert Sweep("step", "processes", "ms", (1, 2), (10.0, 5.0)).exponent == pytest.approx(-1)


def test_the_table_shows_both_ends_and_both_exponents() -> None:
    line = table([sweep(2.0)]).splitlines()[-1]
    assert "| 1 | 10,000 | 0.00100 | 100,000 CPU ms | 2.00 | ≤ 1.00 |" in line


def test_the_picture_shows_every_sweep() -> None:
    drawn = picture([sweep(1.0), sweep(0.0), sweep(2.0), sweep(1.5), sweep(1.0)]).decode()
    assert drawn.count('<g id="axes_') == 5
    assert len(drawn) < 500_000


def test_a_recorded_run_replaces_its_own_section_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "HERE", tmp_path)
    page = tmp_path / "RESULTS.md"
    page.write_text("".join(f"<!-- {name} -->\n<!-- end of {name} -->\n" for name in results.SECTIONS) + "the end\n")
    results.record(MACHINE, sweep(1.0).rows(), "growth", table([sweep(1.0)]))
    for ours in (2.0, 4.0):
        results.record(MACHINE, [Row("training step", 1.0, ours, "images/s", ours)])
    kept = json.loads((tmp_path / "results.json").read_text())
    assert [(row["work"], row["ours"]) for row in kept] == [
        ("training step", 4.0),
        ("growth: step over prototypes", pytest.approx(1.0)),
        ("growth: step, 10,000 prototypes", pytest.approx(10.0)),
    ]
    assert set(kept[0]) == {"work", "reference", "ours", "ratio", "unit", "share_of_peak"}
    text = page.read_text()
    assert text.count("training step") == 1
    assert text.index("training step") < text.index("<!-- growth -->") < text.index("≤ 1.00") < text.index("<!-- end of growth -->")
    assert text.endswith("<!-- GPU -->\n<!-- end of GPU -->\nthe end\n")
