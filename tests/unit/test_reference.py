"""docs/configuration.md says what the models and the transforms say today."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, create_model

from dino4cells.cli.reference import THE_HANDBOOKS_KEYS, default_of, page, value_of
from dino4cells.config import SECTIONS, parse_config
from dino4cells.config.model import IMAGE_MODES
from dino4cells.config.values import TRANSFORM_NAMES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: make reference"


def test_the_page_has_a_row_for_every_key_and_transform_and_names_every_image_mode() -> None:
    rows = [line.split(" | ")[0].strip("| +") for line in page().splitlines() if line.startswith("| `")]
    for section in SECTIONS.values():
        for key in section.model_fields:
            assert f"`{key}`" in rows
    for name in TRANSFORM_NAMES:
        assert rows.count(f"`{name}`") == 1
    for mode in IMAGE_MODES:
        assert f"`{mode}`" in page()


def test_every_key_of_the_handbook_is_one_here() -> None:
    for section, keys in THE_HANDBOOKS_KEYS.items():
        assert set(keys) <= set(SECTIONS[section].model_fields)


def test_the_files_on_the_page_can_be_used() -> None:
    for block in page().split("```yaml\n")[1:]:
        config = parse_config(block.split("```")[0])
        assert config.warnings == []


def test_the_tables_keep_their_columns() -> None:
    width = 0
    for line in page().splitlines():
        if not line.startswith("|"):
            width = 0
        elif width:
            assert line.replace("\\|", "").count("|") == width, line
        else:
            width = line.count("|")


@pytest.mark.parametrize("section", SECTIONS)
def test_the_default_on_the_page_is_the_one_that_a_file_would_give(section: str) -> None:
    for key, field in SECTIONS[section].model_fields.items():
        written = f"{section}: {{{key}: {default_of(field).strip('`')}}}"
        assert getattr(parse_config(written, preset="none"), section) == SECTIONS[section]()


def test_a_range_is_told_in_words() -> None:
    fields = create_model("M", a=(float, Field(gt=0, le=1)), b=(int | None, Field(default=None, ge=2)), c=(bool, True)).model_fields
    assert [value_of(field) for field in fields.values()] == ["number above 0, at most 1", "whole number at least 2", "`true`, `false`"]
