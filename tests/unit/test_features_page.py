"""The page of an extraction: maps, example cells and failures of tables of any size and kind, and that labels stay text."""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from html_page import Page, is_picture

from dino4cells.artifacts import SingleFile
from dino4cells.data.metadata import Metadata, read_metadata
from dino4cells.data.simulate import simulate
from dino4cells.features.store import Features, FeaturesCard, read_features
from dino4cells.report.features import features_page
from dino4cells.report.labels import EMPTY, by_number, label_columns
from dino4cells.report.scripts import page_scripts


@pytest.fixture(autouse=True)
def plain_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Principal components: UMAP takes seconds to compile, and the report's tests hold it."""
    monkeypatch.setitem(sys.modules, "umap", None)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Metadata:
    directory = tmp_path_factory.mktemp("cells")
    simulate(str(directory), cells=42, size=32, plates=3)
    return read_metadata(str(directory))


def features(frame: pd.DataFrame, channels: tuple[str, ...] = (), failed: tuple[int, ...] = ()) -> Features:
    """Random features of the rows of a table; NaN and a reason in the failed ones."""
    dino = np.random.default_rng(0).normal(size=(len(frame), 6)).astype(np.float32)
    dino[list(failed)] = np.nan
    reasons = [f"img/{row}.png: <i>damaged</i>; mend it." if row in failed else None for row in range(len(frame))]
    card = FeaturesCard(
        rows=len(frame), failed_rows=len(failed), embedding_dim=6, channels=channels, channels_of_data=channels, transforms=[],
        baselines=False, data="s3://bucket/cells/metadata.csv", data_fingerprint="d" * 64, model="s3://bucket/model",
        model_fingerprint="m" * 64, images_per_second=123.4, versions={"torch": "2.14"},
    )  # fmt: skip
    table = frame.assign(dino_model="m", dino_error=pd.Series(reasons, index=frame.index, dtype=object))
    return Features(table, dino, {}, card, SingleFile("s3://bucket/features", "f" * 64))


def coloured_by(page: Page) -> list[str]:
    """The columns that the map offers, the first chosen one first."""
    data = json.loads(page.data["map-data"])
    options = [int(attributes["value"] or "") for tag, attributes in page.tags if tag == "option"]
    options.sort(key=lambda place: place != data["first"])
    return [data["columns"][place]["name"] for place in options]


def sheet(page: Page) -> list[str]:
    """What the rows of the contact sheet are called."""
    return [attributes["aria-label"] or "" for tag, attributes in page.tags if tag == "canvas"]


def test_page_holds_maps_example_cells_and_what_was_extracted(cells: Metadata) -> None:
    assert cells.channels is not None
    html = features_page(features(cells.frame, cells.channels), cells)
    page = Page(html)
    page.assert_complete_and_alone()
    for column in ("protein_location", "cell_type", "plate", "cluster of features (7-means)"):
        assert column in coloured_by(page)
    for name in cells.frame["protein_location"].unique():
        assert f"{name}: 6 cells" in sheet(page)
    assert all(f"<bdi>{channel}</bdi>" in html for channel in cells.channels)
    portraits = json.loads(page.data["map-data"])["portraits"]
    assert is_picture(base64.b64decode(portraits["sheets"][0].split(",", 1)[1]))
    for words in ("42 cells, each described by 6 numbers", "Features of cells", "123", "s3://bucket/model", "batch effect"):
        assert words in page.text
    assert "nan" not in page.text.lower()


def test_page_is_the_same_for_the_same_features(cells: Metadata) -> None:
    table = features(cells.frame, cells.channels or ())
    assert features_page(table, cells) == features_page(table, cells)


def test_labels_columns_and_reasons_are_shown_as_text() -> None:
    labels = ["<script>alert(1)</script>", "a & b $x_", '"naïve"'] * 10
    page = Page(features_page(features(pd.DataFrame({"label": labels, "<b>Plate": ["p1", "p2"] * 15}), failed=(0,)), None))
    page.assert_complete_and_alone()
    assert "<i>damaged</i>" in page.text
    only = Page(features_page(features(pd.DataFrame({"<b>kind": ["x<u>", "y"] * 15})), None))
    only.assert_complete_and_alone()
    assert coloured_by(only)[0] == "<b>kind"


def test_labels_in_the_contact_sheet_are_shown_as_text(cells: Metadata) -> None:
    frame = cells.frame.assign(protein_location=["<script>alert(1)</script>", "b"] * 21)
    page = Page(features_page(features(frame, cells.channels or ()), cells))
    page.assert_complete_and_alone()
    assert "<script>alert(1)</script>" in page.text


@pytest.mark.parametrize("count", [1, 2, 3])
def test_page_of_one_to_three_cells_is_a_page(cells: Metadata, count: int) -> None:
    few = replace(cells, frame=cells.frame.head(count))
    page = Page(features_page(features(few.frame, cells.channels or ()), few))
    page.assert_complete_and_alone()
    assert "too few for UMAP" in page.text
    assert sheet(page)


def test_one_class_and_no_other_column_is_one_map() -> None:
    page = Page(features_page(features(pd.DataFrame({"cell_type": ["HeLa"] * 20})), None))
    page.assert_complete_and_alone()
    assert page.images() == []
    assert coloured_by(page)[0] == "cell_type"


def test_failed_cells_are_counted_and_the_first_reasons_shown(cells: Metadata) -> None:
    page = Page(features_page(features(cells.frame, cells.channels or (), failed=tuple(range(5, 25))), cells))
    page.assert_complete_and_alone()
    assert "20 of 42 cells have no features" in page.text
    assert "cell 6" in page.text
    assert "img/14.png: <i>damaged</i>" in page.text
    assert "img/15.png" not in page.text
    assert "And 10 cells more" in page.text


def test_page_without_a_single_feature_says_so(cells: Metadata) -> None:
    page = Page(features_page(features(cells.frame, cells.channels or (), failed=tuple(range(42))), cells))
    page.assert_complete_and_alone()
    assert "No image could be read" in page.text
    assert page.images() == []
    assert list(page.scripts.values()) == page_scripts()


def test_collapsed_features_are_told() -> None:
    table = features(pd.DataFrame({"cell_type": ["a", "b"] * 20}))
    same = replace(table, dino=np.ones_like(table.dino))
    assert "All cells have the same features" in features_page(same, None)
    assert "All cells have the same features" not in features_page(table, None)


def test_cells_without_labels_are_shown_at_random_by_their_numbers(cells: Metadata) -> None:
    bare = replace(cells, frame=cells.frame[["file", "ID"]])
    page = Page(features_page(features(bare.frame, cells.channels or ()), bare))
    page.assert_complete_and_alone()
    assert "at random" in page.text
    assert coloured_by(page) == ["cluster of features (2-means)"]


def test_another_table_or_images_that_are_gone_leave_a_page_without_pictures(cells: Metadata, tmp_path: Path) -> None:
    table = features(cells.frame, cells.channels or ())
    other = Page(features_page(table, replace(cells, frame=cells.frame.head(10))))
    assert "has 10 rows and the features 42" in other.text
    gone = Page(features_page(table, replace(cells, root=str(tmp_path))))
    gone.assert_complete_and_alone()
    assert "There are no pictures of cells" in gone.text
    assert sheet(gone) == []


def test_page_of_a_file_in_the_published_layout(cells: Metadata, tmp_path: Path) -> None:
    url = str(tmp_path / "features.pth")
    values = torch.randn(42, 5)
    values[3] = float("nan")
    torch.save([values, cells.frame["protein_location"].tolist(), cells.frame["cell_type"].tolist(), cells.frame["ID"].tolist()], url)
    page = Page(features_page(read_features(url), None))
    page.assert_complete_and_alone()
    assert "Features of features.pth" in page.text
    assert "has no features in row 4" in page.text
    assert {"protein_location", "cell_type"} <= set(coloured_by(page))
    with_pictures = Page(features_page(read_features(url), cells))
    assert any(name.startswith("Cytosol: ") for name in sheet(with_pictures))


def test_cells_of_a_large_table_are_all_on_the_map_and_of_its_many_classes_the_common_ones_get_panels() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"treatment": [f"drug {number}" for number in random.integers(0, 300, 20_000)]})
    page = Page(features_page(features(frame), None))
    page.assert_complete_and_alone()
    data = json.loads(page.data["map-data"])
    assert data["count"] == 20_000
    assert len(data["columns"][0]["values"]) == 300
    assert data["neighbours"]["among"] == pytest.approx(5_000, abs=50)
    assert [image["alt"] for image in page.images()] == ["PCA, value by value"]


def test_classes_come_before_groups_and_columns_that_tell_nothing_are_left() -> None:
    rows = 40
    frame = pd.DataFrame(
        {
            "ID": [str(row) for row in range(rows)], "Well": ["A1", "A2"] * 20, "plate": ["P1"] * rows, "Cell_Type": ["a", "b"] * 20,
            "compound": ["x", None, "", "y"] * 10, "label": ["u", "v"] * 20, "dino_error": [None] * rows,
        }
    )  # fmt: skip
    columns = label_columns(frame)
    assert [(column.name, column.is_group) for column in columns] == [("Cell_Type", False), ("compound", False), ("Well", True)]
    assert set(columns[1].values) == {"x", "y", EMPTY}
    assert label_columns(frame[["ID", "dino_error"]]) == []


def test_columns_without_a_usual_name_count_where_their_values_repeat() -> None:
    frame = pd.DataFrame({"ID": [str(row) for row in range(40)], "stage": ["G1", "S"] * 20, "area": np.arange(40) % 2, "gate": ["g"] * 40})
    assert [column.name for column in label_columns(frame)] == ["stage"]


def test_names_are_sorted_as_people_count() -> None:
    assert sorted(["Week10", "Week9", "10", "2", "²"], key=by_number) == ["2", "10", "Week9", "Week10", "²"]
