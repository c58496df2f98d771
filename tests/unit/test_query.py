"""Conditions on metadata: what pandas' query would pick, and nothing that runs."""

from __future__ import annotations

import contextlib
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dino4cells.errors import ConfigError
from dino4cells.features.query import matching_rows

TABLE = pd.DataFrame(
    {
        "cell_type": ["DMSO", "taxol", "DMSO", None],
        "dose": [0.0, 1.5, 0.0, 3.0],
        "plate": [1, 1, 2, 2],
        "is control": [True, False, True, False],
        "good": [True, True, False, True],
        "and then": ["a`b", "it's", "x", "y"],
    }
)


def picked(condition: str) -> list[int]:
    return np.flatnonzero(matching_rows(TABLE, condition, "--controls")).tolist()


@pytest.mark.parametrize(
    "condition",
    [
        "cell_type == 'DMSO'",
        "cell_type != 'DMSO'",
        "cell_type in ['DMSO', 'taxol'] and plate == 2",
        "cell_type not in ('taxol',) or dose > 2",
        "not cell_type == 'DMSO'",
        "0 < dose <= 1.5",
        "-1 < dose",
        "1.5 >= dose and not (plate == 1)",
        "good and `is control`",
        "`is control` == False",
        '`and then` == "it\'s"',
        "plate == 1 or plate == 2 and dose < 1",
    ],
)
def test_a_condition_picks_what_pandas_would_pick(condition: str) -> None:
    assert picked(condition) == TABLE.index[TABLE.eval(condition)].tolist()


def test_columns_may_have_the_prefix_of_profiling() -> None:
    assert picked("Metadata_cell_type == 'DMSO'") == [0, 2]


@pytest.mark.parametrize(
    "condition",
    [
        "__import__('os').system('true')",
        "cell_type.str.contains('D')",
        "@sys.exit() == 1",
        "cell_type == open('x')",
        "(lambda: 1)() == plate",
        "[plate for plate in ().__class__.__bases__]",
        "plate == f'{dose}'",
        "plate + 1 == 2",
        "cell_type == 'DMSO' & plate == 1",
        "(plate := 1) == 1",
        "plate",
        "cell_type = 'DMSO'",
        "cell_type == ",
        "1 == 1",
        "plate is 1",
        "plate == [1]",
        "plate in 1",
        "plate == 1j",
        "",
        "not " * 50_000 + "good",
        "(" * 3000 + "good" + ")" * 3000,
        "\0",
    ],
)
def test_anything_else_is_refused_in_one_sentence_and_does_not_run(condition: str) -> None:
    with pytest.raises(ConfigError, match=r"^--controls: .* cannot be understood .*; write conditions such as .*\.$"):
        matching_rows(TABLE, condition, "--controls")


@given(st.text(alphabet="abdo =<>!()[]'\"`.,@&|~-+*:{}\\\n\0plate dose not in and or 12", max_size=60))
def test_no_text_ends_in_anything_but_rows_or_a_sentence(condition: str) -> None:
    with contextlib.suppress(ConfigError):
        assert matching_rows(TABLE, condition, "--controls").shape == (4,)


def test_a_column_that_is_not_there_and_a_value_of_another_kind_and_one_that_no_row_has_are_told() -> None:
    with pytest.raises(ConfigError, match=r"no column 'drug'; it has cell_type, dose, plate"):
        picked("drug == 'DMSO'")
    with pytest.raises(ConfigError, match="a value of another kind; put texts in quotes"):
        picked("dose < 'DMSO'")
    with pytest.raises(ConfigError, match="picks no row"):
        picked("cell_type == 'dmso'")
    assert "os" in sys.modules  # nothing above has ended this process
