"""The map of the features: where cells lie, who their neighbours are, and what the page is told of each column."""

from __future__ import annotations

import base64
import sys

import numpy as np
import pandas as pd
import pytest

from dino4cells.report import map_cells, project, projection
from dino4cells.report.columns import packed_columns
from dino4cells.report.pictures import CellPictures, Portraits
from dino4cells.report.umap_layout import fuzzy_graph


def test_cells_without_a_value_come_behind_those_that_have_one_and_have_no_colour() -> None:
    frame = pd.DataFrame({"gene": ["b", None, "a", ""] * 5, "guess": ["x", "(not judged)"] * 10, "dose": [1, np.nan] * 10})
    gene, guess, dose = packed_columns(frame)
    assert (gene["values"], gene["known"]) == (["a", "b", "(empty)"], 2)
    assert (guess["values"], guess["known"]) == (["x", "(not judged)"], 1)
    assert (dose["values"], dose["known"]) == (["1", "(empty)"], 1)


def test_doses_are_steps_in_their_order_and_measurements_are_numbers() -> None:
    frame = pd.DataFrame({"dose": [0.25, 10, np.nan, 0.5] * 5, "area": np.linspace(0.1, 9.7, 20), "few": [0.5, 0.25] * 10})
    dose, area, few = packed_columns(frame)
    assert (dose["values"], dose["known"], dose["ordered"]) == (["0.25", "0.5", "10", "(empty)"], 3, True)
    assert list(base64.b64decode(dose["codes"]["data"])[:4]) == [0, 2, 3, 1]  # type: ignore[index]
    assert area["kind"] == "number"
    assert few["values"] == ["0.25", "0.5"]
    assert packed_columns(frame.head(4))[0]["kind"] == "number"  # a handful of cells are no series


def test_long_bar_codes_keep_every_digit() -> None:
    (column,) = packed_columns(pd.DataFrame({"barcode": [9_007_199_254_740_993 + row for row in range(20)]}))
    assert column["kind"] == "text"
    assert f"{column['prefix']}{column['texts'][2]}" == "9007199254740995"  # type: ignore[index]


def test_columns_are_packed_as_values_numbers_or_text() -> None:
    frame = pd.DataFrame(
        {
            "plate": [10, 9] * 20, "size": np.linspace(0, 1, 40), "file": [f"img/{row}.png" for row in range(40)],
            "drug": ["week10", "week9", None, ""] * 10, "right": [True, False] * 20,
        }
    )  # fmt: skip
    plate, size, file, drug, right = packed_columns(frame)
    assert (plate["kind"], plate["values"]) == ("category", ["9", "10"])
    assert size["kind"] == "number"
    assert (file["prefix"], file["texts"][:2]) == ("img/", ["0.png", "1.png"])  # type: ignore[index]
    assert drug["values"] == ["week9", "week10", "(empty)"]
    assert right["values"] == ["False", "True"]


def test_neighbours_of_a_cell_are_its_likes_nearest_first_and_never_itself() -> None:
    rng = np.random.default_rng(0)
    codes = np.arange(15) % 3
    features = np.eye(4)[codes] + rng.normal(scale=0.05, size=(15, 4))
    cells = map_cells(features, pd.DataFrame({"row": np.arange(15) * 1.5}), codes.astype(str))
    assert cells.neighbours is not None
    drawn = codes[cells.plane.rows]
    assert (drawn[cells.neighbours.places[:, :4]] == drawn[:, None]).all()
    assert (np.diff(cells.neighbours.distances, axis=1) >= 0).all()
    assert (cells.neighbours.places != np.arange(15)[:, None]).all()
    unit = features[cells.plane.rows] / np.linalg.norm(features[cells.plane.rows], axis=1, keepdims=True)
    assert cells.neighbours.distances[0, 0] == pytest.approx(np.sort(1 - unit @ unit[0])[1], abs=1e-6)
    clusters = cells.frame["cluster of features (3-means)"].to_numpy()
    assert all(len(set(clusters[drawn == code])) == 1 for code in range(3))


def test_neighbours_have_pictures_where_some_cells_have_none() -> None:
    class Unreadable(CellPictures):
        def portraits(self, rows: np.ndarray, places: np.ndarray) -> Portraits:
            return Portraits(places[places % 2 == 0], 8, ())

    features = np.random.default_rng(0).normal(size=(40, 6))
    unreadable = Unreadable(None, ["DNA"], np.zeros((1, 2)))  # type: ignore[arg-type]
    cells = map_cells(features, pd.DataFrame({"row": np.arange(40)}), np.asarray(["a"] * 40), pictures=unreadable)
    assert cells.neighbours is not None
    assert cells.neighbours.among == 20
    assert (cells.neighbours.places % 2 == 0).all()


def test_the_graph_of_a_map_is_that_of_umap_learn() -> None:
    umap = pytest.importorskip("umap.umap_")
    rng = np.random.default_rng(0)
    units = rng.normal(size=(80, 6))
    units[:20] = units[0]  # cells that look the same to the network
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    near = projection.Nearest.among(np.arange(80), units)
    distances = np.sqrt((2 - 2 * near.similarities).clip(0))
    found = {"knn_indices": near.places.astype(np.int32), "knn_dists": distances.astype(np.float32)}
    theirs, _, _ = umap.fuzzy_simplicial_set(units, projection.NEIGHBOURS, np.random.RandomState(0), "euclidean", **found)
    np.testing.assert_allclose(fuzzy_graph(near.places, distances).toarray(), theirs.toarray(), atol=1e-5)


def test_cells_beyond_those_that_umap_lays_out_lie_among_their_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.arange(120) % 3
    features = np.eye(8)[codes] + np.random.default_rng(0).normal(scale=0.1, size=(120, 8))
    monkeypatch.setattr(projection, "LAID_OUT", 60)
    plane = project(features, codes.astype(str))
    assert plane.method == "UMAP"
    assert "UMAP laid out 60 of them" in plane.note
    centres = np.stack([plane.xy[codes == code].mean(axis=0) for code in range(3)])
    assert (np.linalg.norm(plane.xy[:, None] - centres, axis=2).argmin(axis=1) == codes).all()


def test_map_shows_separate_classes_apart_and_is_the_same_every_time() -> None:
    rng = np.random.default_rng(0)
    codes = np.arange(90) % 3
    features = np.eye(16)[codes] + rng.normal(scale=0.03, size=(90, 16))
    labels = codes.astype(str)
    first, second = project(features, labels), project(features, labels)
    assert first.method == "UMAP"
    assert (first.xy == second.xy).all()
    centres = np.stack([first.xy[codes == code].mean(axis=0) for code in range(3)])
    nearest = np.linalg.norm(first.xy[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == codes).all()


def test_large_maps_draw_a_sample_in_the_proportions_of_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    labels = np.asarray(["common"] * 900 + ["rare"] * 99 + ["single"])
    plane = project(np.random.default_rng(0).normal(size=(1000, 5)), labels, limit=100)
    drawn = labels[plane.rows].tolist()
    assert (drawn.count("common"), drawn.count("rare"), drawn.count("single")) == (90, 10, 1)
    assert "sample of 101 of 1,000 cells" in plane.note
    assert plane.method == "PCA"
    assert "umap-learn is not installed" in plane.note


@pytest.mark.parametrize("cells", [1, 2, 10])
def test_a_map_of_very_few_cells_falls_back_to_principal_components(cells: int) -> None:
    plane = project(np.random.default_rng(0).normal(size=(cells, 4)), np.asarray(["a"] * cells))
    assert plane.method == "PCA"
    assert np.isfinite(plane.xy).all()
    assert "too few for UMAP" in plane.note
