"""What the configuration asks an epoch to draw, read from a table: groups, classes, and what is wrong with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dino4cells import steps
from dino4cells.config import load_config
from dino4cells.data.metadata import Metadata, read_metadata
from dino4cells.data.sampler import SampleOrder
from dino4cells.data.strata import classes_in, sample_order
from dino4cells.errors import DataError

MakeOrder = Callable[..., SampleOrder]
TABLE = pd.DataFrame(
    {
        "file": [f"{row}.png" for row in range(12)],
        "ID": ["a", "a", "a", "b", "b", "c", "d", "d", "d", "d", "e", "e"],
        "cell_type": ["U-2 OS"] * 9 + ["HeLa"] * 3,
        "protein_location": ["cytosol"] * 8 + ["nucleoli", "nucleoli", "aggresome", "aggresome"],
        "cytosol": [1] * 8 + [0] * 4,
        "nucleoli": [0] * 7 + [1] * 3 + [0] * 2,
    }
)


@pytest.fixture
def order_of(tmp_path: Path) -> MakeOrder:
    """The order that a configuration asks for of a table, `TABLE` unless another is given."""

    def make(table: pd.DataFrame = TABLE, **overrides: object) -> SampleOrder:
        table.to_csv(tmp_path / "metadata.csv", index=False)
        config = load_config(overrides={name.replace("__", "."): value for name, value in overrides.items()})
        return sample_order(read_metadata(str(tmp_path)), config)

    return make


def drawn(order: SampleOrder, epochs: int = 1) -> np.ndarray:
    """How often each row of the table is drawn."""
    return np.bincount(np.concatenate([order.draw(0, epoch)[0] for epoch in range(epochs)]), minlength=len(TABLE))


def changed(column: str, values: object) -> pd.DataFrame:
    return TABLE.assign(**{column: values})


def test_by_default_every_row_is_drawn_once(order_of: MakeOrder) -> None:
    assert drawn(order_of()).tolist() == [1] * 12


def test_sample_single_cells_draws_one_row_of_each_id(order_of: MakeOrder) -> None:
    order = order_of(model__sample_single_cells=True)
    fields = TABLE["ID"].to_numpy()

    assert len(order) == 5
    for epoch in range(5):
        assert sorted(fields[order.draw(0, epoch)[0]]) == ["a", "b", "c", "d", "e"]
    assert (drawn(order, 60) > 0).all()


def test_hpa_balanced_draws_the_label_columns_classes_evenly(order_of: MakeOrder) -> None:
    times = drawn(order_of(model__datatype="HPABalanced"))

    assert (times[:8].sum(), times[8:10].sum(), times[10:].sum()) == (4, 4, 4)


def test_the_classes_are_those_of_the_column_that_the_configuration_names(order_of: MakeOrder) -> None:
    times = drawn(order_of(model__datatype="HPABalanced", classification__label="cell_type"))
    without = drawn(order_of(TABLE.drop(columns="protein_location"), model__datatype="HPABalanced"))

    assert (times[:9].sum(), times[9:].sum()) == (6, 6)
    assert without.tolist() == times.tolist()


def test_target_labels_are_the_classes_where_they_are_given(order_of: MakeOrder) -> None:
    order = order_of(model__datatype="HPABalanced", embedding__target_labels=["cytosol", "nucleoli"])

    assert len(order) == 10  # 11 ones in two columns, 5 for each
    assert order.rows == 10  # the last two cells have neither
    times = drawn(order, 600) / 600
    assert times == pytest.approx([5 / 8] * 7 + [5 / 8 + 5 / 3] + [5 / 3] * 2 + [0, 0], abs=0.06)


@pytest.mark.parametrize("values", [("True", "False"), ("1.0", "0.0"), (" true", "FALSE ")])
def test_columns_of_true_and_false_count_as_ones_and_zeros(values: tuple[str, str], order_of: MakeOrder) -> None:
    table = changed("cytosol", [values[0]] * 8 + [values[1]] * 4)
    asked = {"model__datatype": "HPABalanced", "embedding__target_labels": ["cytosol", "nucleoli"]}

    assert drawn(order_of(table, **asked)).tolist() == drawn(order_of(**asked)).tolist()


def test_a_list_in_the_label_column_is_several_classes(order_of: MakeOrder) -> None:
    lists = ["['cytosol']"] * 7 + ["['cytosol', 'nucleoli']"] + ["['nucleoli']"] * 2 + ["[]", "[]"]
    by_columns = order_of(model__datatype="HPABalanced", embedding__target_labels=["cytosol", "nucleoli"])

    assert drawn(order_of(changed("protein_location", lists), model__datatype="HPABalanced")).tolist() == drawn(by_columns).tolist()


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("['ER', 'ER', 2]", ["ER", "2"]),
        ("[['ER'], ['ER']]", ["['ER']"]),
        ("[{[]: 1}]", ["[{[]: 1}]"]),
        ("[Golgi]", ["[Golgi]"]),
        ("['ER'], 1", ["['ER'], 1"]),
        ("[" * 5000, ["[" * 5000]),
        (f"[{'-' * 100_000}1]", [f"[{'-' * 100_000}1]"]),
    ],
    ids=["list", "lists", "no value", "brackets", "tuple", "deep", "deeper"],
)
def test_any_text_names_classes(text: str, classes: list[str]) -> None:
    assert classes_in(text) == classes


def test_both_together_draw_classes_evenly_and_within_them_ids(order_of: MakeOrder) -> None:
    order = order_of(model__datatype="HPABalanced", model__sample_single_cells=True)
    times = drawn(order, 1200) / 1200

    # Four IDs hold cytosol, one nucleoli and one the aggresome: two draws for each class.
    assert len(order) == 6
    expected = [0.5 / 3] * 3 + [0.5 / 2] * 2 + [0.5] + [0.5 / 2] * 2 + [1] * 4
    assert times == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("overrides", [{"model__sample_single_cells": True}, {"model__datatype": "HPABalanced"}])
def test_a_table_without_the_column_is_an_error_that_says_what_it_is_for(overrides: dict[str, object], order_of: MakeOrder) -> None:
    with pytest.raises(DataError, match=r"metadata\.csv: there is no column '(ID|cell_type)' \(model\.") as error:
        order_of(TABLE[["file", "cytosol"]], **overrides)
    assert "it has: file, cytosol" in str(error.value)


def test_a_target_label_without_a_column_is_an_error_with_the_nearest_one(order_of: MakeOrder) -> None:
    with pytest.raises(DataError, match=r"no column 'nucleolus' \(a class, named in embedding\.target_labels\); did you mean 'nucleoli'\?"):
        order_of(model__datatype="HPABalanced", embedding__target_labels=["cytosol", "nucleolus"])


@pytest.mark.parametrize(
    ("column", "overrides"),
    [("ID", {"model__sample_single_cells": True}), ("protein_location", {"model__datatype": "HPABalanced"})],
)
def test_an_empty_cell_is_an_error_with_its_row(column: str, overrides: dict[str, object], order_of: MakeOrder) -> None:
    values = TABLE[column].tolist()
    values[3], values[7] = "", " "
    with pytest.raises(DataError, match=rf"cell 4 \(3\.png\): the column '{column}' is empty \(and in 1 more\); fill it \(model"):
        order_of(changed(column, values), **overrides)


def test_a_target_label_that_is_neither_one_nor_zero_is_an_error_with_its_row(order_of: MakeOrder) -> None:
    with pytest.raises(DataError, match=r"cell 6 \(5\.png\): the column 'cytosol' is '2'; write 1 where the cell has it, else 0"):
        order_of(changed("cytosol", [1] * 5 + [2] * 7), model__datatype="HPABalanced", embedding__target_labels=["cytosol"])


def test_a_class_without_a_row_is_an_error(order_of: MakeOrder) -> None:
    with pytest.raises(DataError, match=r"embedding\.target_labels: names 'nucleoli'.* has a 1 there; take it out of the list\."):
        order_of(changed("nucleoli", 0), model__datatype="HPABalanced", embedding__target_labels=["cytosol", "nucleoli"])
    with pytest.raises(DataError, match="no cell has a class in the column 'protein_location'"):
        order_of(changed("protein_location", "[]"), model__datatype="HPABalanced")


def test_a_million_rows_are_read_in_seconds(order_of: MakeOrder) -> None:
    count = 1_000_000
    numbers = np.arange(count)
    frame = pd.DataFrame({"file": "x.png", "ID": (numbers // 20).astype(str), "protein_location": (numbers % 19).astype(str)})
    config = load_config(overrides={"model.datatype": "HPABalanced", "model.sample_single_cells": True})
    started = time.process_time()
    order = sample_order(Metadata(frame, "metadata.csv", ".", None, ""), config)

    assert time.process_time() - started < 5
    assert order.rows == count


def test_a_pipeline_run_is_refused_before_it_starts_where_a_class_cannot_be_drawn(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "metadata.csv", index=False)
    overrides = "model.datatype=HPABalanced embedding.target_labels=cytosol,golgi"
    with pytest.raises(DataError, match="there is no column 'golgi'"):
        steps.check_run("", "handbook", overrides, data=str(tmp_path), label="cell_type", group="")
