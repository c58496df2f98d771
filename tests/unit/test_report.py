"""The report: what a biologist sees, and that it is one file which nothing in the data can break."""

from __future__ import annotations

import base64
import io
import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from html_page import Page, is_picture
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image

from dino4cells.classify import CrossValidation, cross_validate, make_folds, score
from dino4cells.classify.batch_effect import batch_effect
from dino4cells.classify.evaluation import NearestNotSame
from dino4cells.classify.not_same import NotSameTask
from dino4cells.report import FeatureMap, ReportData, map_cells, render_report
from dino4cells.report.attention import Attention, AttentionExamples
from dino4cells.report.cells import merge, stretch, stretch_limits
from dino4cells.report.curves import loss_curve
from dino4cells.report.figures import BASELINE, EQUAL_CONTRAST, INK, QUIET, batch_figure, confusion_figure, scores_figure, width_of_svg
from dino4cells.report.findings import about_batches, findings, largest_class_scores, most_confused, summarize_loss
from dino4cells.report.map_figures import map_class_by_class
from dino4cells.report.palette import COLOURS, MARKERS, channel_colours, luminance, shown_together
from dino4cells.report.pictures import fitted, sheet_jpeg
from dino4cells.report.score_table import class_table
from dino4cells.report.sheet import OPEN_ROWS, SheetRow, contact_sheet
from dino4cells.report.text import data_block, visible

CLASSES = ("<b>G1</b> & S", "mitosis $x_", 'naïve "T"')


@pytest.fixture(scope="module")
def data() -> ReportData:
    rng = np.random.default_rng(0)
    codes = np.arange(120) % 3
    labels = np.asarray(CLASSES)[codes]
    plates = np.asarray([f"P{row // 3 % 5}" for row in range(120)])
    folds = make_folds(labels, plates, group_name="plate")
    files = np.asarray([f"img/{row}.png" for row in range(120)])
    features = {"trained": 0.3, "untrained": 0.8, "intensity": 1.5}
    results = {}
    for name, spread in features.items():
        rows = np.eye(8)[codes] + rng.normal(scale=spread, size=(120, 8))
        results[name] = {classifier: cross_validate(rows, labels, folds, classifier) for classifier in ("knn", "linear")}
    values = {name: np.eye(8)[codes] + rng.normal(scale=spread, size=(120, 8)) for name, spread in features.items()}
    log = [
        {"samples": 10.0 * step, "epoch": step / 12, "loss": 7 - step / 40, "lr": 1e-3, "images_per_second": 200.0, "data_wait": 0.1}
        for step in range(100)
    ]
    return ReportData(
        title="Cells <script>alert(1)</script>",
        channels=["DNA", "actin <i>", "ER"],
        labels=labels,
        results=results,
        split=folds.description,
        examples={name: [rng.integers(0, 255, size=(3, 20 + index, 24), dtype=np.uint8) for index in range(3)] for name in CLASSES},
        log=log,
        plateau=math.log(2048),
        cells=map_cells(values["trained"][:16], pd.DataFrame({"label": labels[:16], "file": files[:16]}), labels[:16], "label"),
        attention=AttentionExamples(("DNA", "actin <i>", "ER"), {CLASSES[0]: Attention(rng.random((3, 16, 16)), rng.random((2, 16, 16)))}),
        batch=batch_effect(values, labels, plates, "plate"),
        groups=plates,
        group_name="plate",
        run={"Data": "s3://bucket/<data>"},
        settings="model:\n  arch: <vit>",
        artifacts={"Model": "s3://bucket/a&b"},
    )


@pytest.fixture(scope="module")
def html(data: ReportData) -> str:
    return render_report(data)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def judged(truth: list[str], said: list[str], features: str = "") -> CrossValidation:
    labels, predictions = np.asarray(truth), np.asarray(said)
    scores = score(labels, predictions)
    return CrossValidation("knn", 10, scores.classes, labels, predictions, (scores,), scores)


def test_page_is_well_formed_and_loads_nothing_from_elsewhere(page: Page) -> None:
    page.assert_complete_and_alone()


def test_text_from_the_data_is_shown_as_text(page: Page) -> None:
    for text in (
        *CLASSES,
        "Cells <script>alert(1)</script>",
        "actin <i>",
        "model:\n  arch: <vit>",
        "s3://bucket/a&b",
        "s3://bucket/<data>",
    ):
        assert text in page.text
    assert not any(tag in {"b", "i", "vit"} for tag, _ in page.tags)


def test_every_picture_is_whole_has_a_description_and_none_is_missing(page: Page) -> None:
    images = page.images()
    # The map class by class; scores; two confusion matrices; batches; merged, attention, three channels and two heads; loss, lr, speed.
    assert len(images) == 1 + 1 + 2 + 1 + (2 + 3 + 2) + 3
    assert [attributes["aria-label"] for tag, attributes in page.tags if tag == "canvas"] == [f"{name}: 3 cells" for name in CLASSES]
    for image in images:
        assert image["alt"]
        assert is_picture(base64.b64decode((image["src"] or "").split(",", 1)[1]))


def test_headline_and_table_hold_the_numbers_beside_both_baselines_and_the_split(data: ReportData, page: Page) -> None:
    for by_classifier in data.results.values():
        for result in by_classifier.values():
            for value in (result.pooled.accuracy, result.pooled.balanced_accuracy, result.pooled.macro_f1):
                assert f"{value:.3f}" in page.text
    for words in (
        "120",
        "10-NN (cosine)",
        "linear probe",
        "same network untrained",
        "intensity statistics",
        "groups = plate never straddle",
    ):
        assert words in page.text
    assert "6.95 → 4.57" in page.text or "6.95 → 4.58" in page.text


def test_intervals_stand_beside_scores_and_so_does_the_nearest_neighbour_elsewhere(data: ReportData) -> None:
    result = judged(["a"] * 6 + ["b"] * 6, ["a"] * 5 + ["b"] * 7)
    within = replace(result, pooled=replace(result.pooled, intervals={"accuracy": (0.61, 0.94)}))
    compounds = np.asarray(["c1", "c2"] * 6)
    task = NotSameTask.of(result.labels, [compounds], ["compound"])
    found, _ = task.judge(np.eye(2)[(result.labels == "b").astype(int)] + 0.01)
    shown = replace(data, results={"trained": {"knn": within}}, resampled="5 values of plate", cells=None, batch=None, examples={})
    page = Page(render_report(replace(shown, nearest=NearestNotSame(task, {"trained": found}))))
    for words in ("[0.61, 0.94]", "by drawing 5 values of plate anew", "nearest neighbour of another compound", "1.000 [1.00, 1.00]"):
        assert words in page.text
    assert "another compound" not in Page(render_report(shown)).text


def test_report_is_the_same_for_the_same_data(data: ReportData, html: str) -> None:
    assert render_report(data) == html


def test_report_of_the_bare_minimum_is_still_a_page() -> None:
    page = Page(render_report(ReportData("Bare", ["DNA"], np.asarray(["a", "b"]), {}, "")))
    assert page.open == []
    assert "2 cells of 2 classes" in page.text
    assert page.images() == []


def test_left_out_cells_and_given_warnings_are_told(data: ReportData) -> None:
    labels = np.concatenate([data.labels, ["rare", "rare"]])
    page = Page(render_report(replace(data, labels=labels, groups=None, warnings=["Class 'rare' has 2 cells."], cells=None, examples={})))
    assert "Left out: 2 cells of classes that cannot be judged" in page.text
    assert "Class 'rare' has 2 cells." in page.text
    assert "the split is random" in page.text


def test_nothing_is_warned_of_when_training_helped_and_plates_are_kept_together(data: ReportData) -> None:
    assert findings(data) == []


def test_features_behind_a_baseline_and_a_loss_on_its_plateau_are_told(data: ReportData) -> None:
    swapped = {"trained": data.results["intensity"], "untrained": data.results["trained"], "intensity": data.results["untrained"]}
    flat = [{"epoch": float(step), "loss": math.log(2048) - 0.01} for step in range(30)]
    sentences = " ".join(findings(replace(data, results=swapped, log=flat)))
    assert "behind the baseline 'same network untrained'" in sentences
    assert "behind the baseline 'intensity statistics'" in sentences
    assert "still at the plateau of 7.62" in sentences


def test_loss_summary_averages_both_ends_and_ignores_what_is_not_finite() -> None:
    assert summarize_loss([]) is None
    assert summarize_loss([{"loss": math.nan}, {"epoch": 1.0}]) is None
    one = summarize_loss([{"loss": 3.0}])
    assert one is not None
    assert (one.start, one.end) == (3.0, 3.0)
    many = summarize_loss([{"loss": float(step)} for step in range(40)])
    assert many is not None
    assert (many.start, many.end) == (0.5, 38.5)


def test_guessing_the_largest_class_is_scored_as_scikit_learn_would() -> None:
    truth = ["a"] * 6 + ["b"] * 3 + ["c"]
    guess = score(np.asarray(truth), np.asarray(["a"] * 10))
    accuracy, balanced, _ = largest_class_scores(guess)
    assert (accuracy, balanced) == pytest.approx((guess.accuracy, guess.balanced_accuracy))
    assert largest_class_scores(guess)[2] == pytest.approx(2 * 0.6 / 1.6 / 3)


def test_each_class_is_told_with_its_recall_its_precision_and_what_it_is_taken_for() -> None:
    scores = judged(["a"] * 10 + ["b"] * 2 + ["week10", "week9"], ["a"] * 7 + ["b"] * 3 + ["a", "b"] + ["week10"] * 2).pooled
    table = class_table(scores)
    for name, *cells in (("a", "10", "0.70", "0.88", "b (3)"), ("b", "2", "0.50", "0.25", "a (1)"), ("week9", "1", "0.00", "&ndash;")):
        assert f"{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}" in table
    assert table.index("week9</th>") < table.index("week10</th>")


def test_numbers_in_a_matrix_and_letters_of_pictures_stand_out_from_what_is_behind_them() -> None:
    def contrast(first: str | tuple[float, ...], second: str | tuple[float, ...]) -> float:
        lighter, darker = sorted((luminance(to_rgb(colour)) for colour in (first, second)), reverse=True)
        return (lighter + 0.05) / (darker + 0.05)

    assert min(contrast(colour, "white") for colour in (INK, QUIET)) >= 4.5
    assert contrast(BASELINE, "white") >= 3
    for share in np.linspace(0, 1, 101):
        behind = colormaps["Blues"](share)[:3]
        assert contrast("black" if luminance(behind) > EQUAL_CONTRAST else "white", behind) >= 4.5


def test_most_confused_classes_are_named_by_share_of_the_true_class() -> None:
    scores = judged(["a"] * 10 + ["b"] * 2, ["a"] * 7 + ["b"] * 3 + ["a", "b"]).pooled
    assert most_confused(scores) == ["b taken for a (1 of 2)", "a taken for b (3 of 10)"]


@pytest.mark.parametrize("classes", [2, 13, 35])
def test_figures_are_pictures_for_any_number_of_classes(classes: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.asarray([f"a class with quite a long name {index % classes}" for index in range(classes * 6)])
    result = judged(labels.tolist(), rng.permutation(labels).tolist())
    plane = FeatureMap(rng.normal(size=(len(labels), 2)), np.arange(len(labels)), "UMAP")
    matrix = confusion_figure(result.pooled)
    assert is_picture(matrix)
    assert width_of_svg(matrix) > 72 * 0.36 * classes + 72  # cells of one size, and the names beside them
    assert f"name {classes - 1}" in matrix.decode()  # the end of a long name, which tells it from the others
    assert is_picture(scores_figure({"trained": {"knn": result}}))
    assert is_picture(map_class_by_class(plane, labels))


@pytest.mark.parametrize("steps", [1, 5, 500])
def test_loss_curve_is_a_picture_of_few_and_of_many_steps_with_and_without_speed(steps: int) -> None:
    plain = [{"epoch": step / 10, "loss": 5.0 - step / 500} for step in range(steps)]
    assert is_picture(loss_curve(plain, plateau=5.2))
    assert is_picture(loss_curve([{**record, "samples": 3.0, "images_per_second": 100.0} for record in plain]))
    assert is_picture(loss_curve([*plain, {"epoch": 9.0, "loss": math.nan}]))


def test_names_in_pictures_are_text_which_a_browser_has_letters_for() -> None:
    names = ["白血球", "خلية", "a & b", "$x_$"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's own font has no such letters
        matrix = confusion_figure(judged(names, names).pooled).decode()
    for name in ("白血球", "خلية", "a &amp; b", "$x_$"):
        assert name in matrix


def test_35_classes_look_different_from_each_other() -> None:
    assert len(set(COLOURS)) * len(set(MARKERS)) == 35


def test_channels_get_the_colours_of_their_stains_and_never_share_one() -> None:
    for names in (
        ["microtubules", "protein", "nucleus", "ER"],
        ["DNA", "F-actin", "β-tubulin"],
        [f"channel {index}" for index in range(6)],
    ):
        assert len(set(channel_colours(names))) == len(names)
    red, green, blue, yellow = channel_colours(["microtubules", "protein", "nucleus", "ER"])
    assert max(red) == red[0]
    assert max(green) == green[1]
    assert max(blue) == blue[2]
    assert min(yellow) == yellow[2]


def test_more_channels_than_colours_do_not_add_up_to_white() -> None:
    names = [f"CD{number}" for number in range(30)] + ["DAPI"]
    together = shown_together(names)
    assert (sum(together), together[-1]) == (7, True)  # a stain that is known is among them
    assert shown_together(["DNA", "actin", "ER"]) == [True] * 3
    only_others = np.where(np.asarray(together)[:, None, None], 0.0, 1.0) * np.ones((1, 4, 4))
    assert merge(only_others, names).max() == 0


def test_one_stretch_for_all_cells_keeps_a_dim_cell_dim_and_a_photograph_its_hues() -> None:
    dim, bright = np.full((3, 8, 8), 20, dtype=np.uint8), np.full((3, 8, 8), 200, dtype=np.uint8)
    dim[:, 0, 0] = 0
    limits = stretch_limits([dim, bright], ["DNA", "actin", "ER"])
    assert stretch(dim, limits).mean() < 0.15
    assert stretch(bright, limits).mean() > 0.9
    photograph = np.stack([np.full((8, 8), 200.0), np.full((8, 8), 100.0), np.full((8, 8), 50.0)])
    merged = merge(stretch(photograph, stretch_limits([photograph], ["red", "green", "blue"])), ["red", "green", "blue"])
    assert (np.diff(merged[0, 0]) < 0).all()
    smear, unnamed = np.full((3, 8, 8), 230.0) * [[[1.0]], [[0.9]], [[0.95]]], ["channel_0", "channel_1", "channel_2"]
    smear[:, 3:5, 3:5] = np.asarray([90.0, 20.0, 110.0])[:, None, None]
    assert (np.ptp(stretch_limits([smear], unnamed), axis=0) == 0).all()  # a stained smear, though nobody named its channels
    assert (np.ptp(stretch_limits([255 - smear], unnamed), axis=0) > 0).any()  # cells on black


def test_a_long_contact_sheet_is_folded_after_its_first_rows() -> None:
    rows = [SheetRow(f"class {number}", "1 cell", [np.full((2, 8, 8), number, np.uint8)]) for number in range(OPEN_ROWS + 3)]
    html = contact_sheet(rows, ["DNA", "actin"])
    shown, folded = html.split("<details>")
    assert (shown.count("<canvas"), folded.count("<canvas")) == (OPEN_ROWS, 3)
    assert "<details>" not in contact_sheet(rows[:OPEN_ROWS], ["DNA", "actin"])


def test_flat_images_and_a_single_channel_are_no_error(data: ReportData) -> None:
    flat = replace(data, channels=["DNA"], examples={name: [np.zeros((1, 9, 9), dtype=np.uint8)] for name in CLASSES}, results={}, log=())
    assert [tag for tag, _ in Page(render_report(flat)).tags].count("canvas") == 3


def test_small_cells_are_enlarged_by_whole_pixels_and_huge_ones_reduced() -> None:
    checker = np.indices((40, 40)).sum(axis=0)[None] % 2
    small = fitted(checker, 80)
    assert (small[0, ::2, ::2] == checker[0]).all()
    assert (small[:, ::2, ::2] == small[:, 1::2, 1::2]).all()
    huge = fitted(np.ones((2, 900, 450)), 90)
    assert huge.shape == (2, 90, 90)
    assert huge[0, 45, 45] == 1
    assert huge[0, 45, 10] == 0  # beside the picture
    sheet = Image.open(io.BytesIO(sheet_jpeg([np.full((8, 8, 3), shade, np.uint8) for shade in range(0, 250, 50)], 2)))
    assert sheet.size == (16, 24)


def test_data_in_the_page_cannot_end_its_element_and_what_is_unseen_is_shown() -> None:
    block = data_block("x", {"label": "</script><script>alert(1)</script><!--", "more": "\u2028"})
    assert block.count("<") == 2
    assert json.loads(block.split(">", 1)[1].rsplit("<", 1)[0])["label"].startswith("</script>")
    assert visible("a\u202eb\x00c\u2066d") == "a\ufffdb\ufffdc\ufffdd"


def test_a_plate_that_the_features_tell_is_called_a_batch_effect_and_one_that_follows_from_the_class_is_not() -> None:
    rng = np.random.default_rng(0)
    plates, labels = np.asarray(["P1", "P2"] * 60), np.asarray(["a"] * 60 + ["b"] * 60)
    noise = rng.normal(scale=0.1, size=(120, 4))
    told = batch_effect({"trained": np.eye(4)[np.arange(120) % 2] + noise}, labels, plates, "plate")
    hidden = batch_effect({"trained": np.eye(4)[np.arange(120) // 60] + noise}, labels, plates, "plate")
    follows = batch_effect({"trained": np.eye(4)[np.arange(120) // 60] + noise}, labels, labels, "plate")
    assert told is not None
    assert hidden is not None
    assert follows is not None
    assert told.scores["trained"] > 0.95
    assert told.chance == told.by_class == 0.5
    assert "strong batch effect" in about_batches(told, 0.5, 0.5)
    assert "no batch effect is seen" in about_batches(hidden, 1.0, 0.5)
    assert (follows.by_class, follows.excess) == (1.0, 0.0)
    assert "neither seen nor excluded" in about_batches(follows, 1.0, 0.5)
    assert is_picture(batch_figure(told, {"trained": 0.5}, 0.5))
    assert batch_effect({"trained": noise}, labels, np.asarray(["P1"] * 120), "plate") is None
