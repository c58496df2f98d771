"""docs/scaling.md: its tables are made of what was recorded, and its arithmetic is right."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import scaling
from benchmarks.results import HERE
from benchmarks.scaling import Assumptions, Coefficients
from dino4cells.models.backbones import build_backbone

SIMPLE = Coefficients(
    decode_ms=8.0, views_ms=5.0, file_ms=2.0, shard_ms=0.1, image_bytes=500e3, row_bytes=200.0, row_us=2.0,
    step_per_second=8.0, extracted_per_second=10.0, neighbours_ms=1.0,
)  # fmt: skip


ROWS = [
    {"work": "training step", "ours": 8.0, "reference": 4.0},
    {"work": "views: the published configuration, 512 px, 4 channels", "ours": 5.0, "reference": 40.0},
    {"work": "decoding: PNG of 8 bits, 512 px, 4 channels", "ours": 8.0, "reference": 33.0},
    {"work": "decoding: a byte of TIFF of 8 bits", "ours": 0.5, "reference": 16.0},
    {"work": "… CPU time of an image", "ours": 0.1, "reference": 2.0},
    {"work": "20-NN: 2,000 queries among 1,000,000 × 384", "ours": 2.0, "reference": 1.0},
    {"work": "extraction: vit_small/16, 224 px, 4 channels", "ours": 10.0, "reference": 2.0},
    {"work": "growth: reading the table, 1,000,000 cells", "ours": 2.0, "reference": None},
    {"work": "growth: memory of the table, 1,000,000 cells", "ours": 200e6 / 2**20, "reference": None},
]


def test_the_page_is_current_or_empty_as_long_as_nothing_is_recorded() -> None:
    text = scaling.PAGE.read_text()
    if (HERE / "results.json").exists():
        assert text == scaling.page(text, scaling.coefficients(), Assumptions()), "write it anew: python -m benchmarks.scaling --write"
    else:
        for name in scaling.tables(SIMPLE, Assumptions()):
            assert f"<!-- {name} -->\n<!-- end -->" in text


def test_the_page_has_a_place_for_every_table_and_is_written_once() -> None:
    written = scaling.page(scaling.PAGE.read_text(), SIMPLE, Assumptions())
    for name, table in scaling.tables(SIMPLE, Assumptions()).items():
        assert f"<!-- {name} -->\n{table}\n<!-- end -->" in written
    assert scaling.page(written, SIMPLE, Assumptions()) == written


def test_coefficients_are_those_of_the_recorded_rows() -> None:
    assert Coefficients.of(ROWS) == SIMPLE


@pytest.mark.parametrize("left_out", [row["work"] for row in ROWS])
def test_a_result_that_is_missing_is_named(left_out: str) -> None:
    with pytest.raises(SystemExit, match=r"results.json holds no '.+'; run: make bench-full RECORD=1"):
        Coefficients.of([row for row in ROWS if row["work"] != left_out])


def test_a_pass_takes_the_images_over_the_rate_and_costs_its_hours() -> None:
    lines = scaling.runs(Assumptions(images_per_second=100, gpu_hour=3)).splitlines()
    # 10⁸ images at 100/s are 277.8 hours.
    assert "| 10⁸ | training, an epoch | 12 days | 34.7 h | 4.3 h | 277.8 | 833 |" in lines


def test_a_gpu_needs_the_cores_bytes_and_requests_of_its_images() -> None:
    first = {line.split(" | ")[0].strip("| "): line.split(" | ")[1] for line in scaling.needed(SIMPLE, Assumptions(100)).splitlines()}
    assert first["cores that decode"] == "1.0"
    assert first["MB/s"] == "50"
    assert first["requests/s, files"] == "100"
    assert first["requests/s, shards"] == "24"
    assert first["requests under way, files, 50 ms late"] == "5"


def test_what_is_used_up_first_is_named() -> None:
    of_many = [line for line in scaling.limits(SIMPLE, Assumptions(100)).splitlines() if line.startswith("| training | 64")]
    assert of_many == ["| training | 64 | 8% | 3% | 116% | 28% | store, files |"]


def test_operations_of_extraction_are_those_that_pytorch_counts() -> None:
    backbone = build_backbone("vit_tiny", 16, 224, 4, seed=0).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        backbone(torch.zeros(1, 4, 224, 224))
    # Attention by one fused kernel is not counted on a CPU; where it is, or is done by plain products, all of it is.
    counted = counter.get_total_flops() / 1e9
    expected = min((scaling.LINEAR_GFLOP, scaling.EXTRACTION_GFLOP), key=lambda operations: abs(operations - counted))
    assert counted == pytest.approx(expected, rel=0.02)
