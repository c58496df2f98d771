"""The report in a browser: what a biologist points at, clicks, selects and switches; from disk and in a frame as Kubeflow's."""

from __future__ import annotations

import csv
import io
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from report_visit import FAINT, WAIT, Visit, dots_of, pixels

from dino4cells.classify import cross_validate, make_folds
from dino4cells.config import ModelConfig
from dino4cells.data.dataset import CellImages
from dino4cells.data.metadata import read_metadata
from dino4cells.data.simulate import simulate
from dino4cells.data.source import image_source
from dino4cells.report import ReportData, map_cells, render_report
from dino4cells.report.examples import cell_pictures, draw_examples, read_examples
from dino4cells.report.palette import COLOURS, PALE, PALE_ON_DARK

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update",
    "--disable-sync --enable-unsafe-swiftshader",
)
HOSTILE = ("<script>window.broken=1</script>", '<img src=x onerror="window.broken=1">', "\u202eturned\x07", "=SUM(A1)", "plain")
COUNT = 60

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NO BROWSER: THE REPORT'S MAP, SHEET AND SELECTIONS ARE NOT TESTED; install chromium"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of simulated cells whose labels are hostile, and whose features tell them."""
    directory = tmp_path_factory.mktemp("report")
    simulate(str(directory / "cells"), cells=COUNT, size=32, plates=3)
    metadata = read_metadata(str(directory / "cells"))
    codes = np.arange(COUNT) % len(HOSTILE)
    labels = np.asarray(HOSTILE)[codes]
    features = np.eye(8)[codes] + np.random.default_rng(0).normal(scale=0.2, size=(COUNT, 8))
    doses = np.tile([0.1, 1.5, np.nan], COUNT // 3)
    frame = metadata.frame[["file", "ID", "plate"]].assign(label=labels, score=np.linspace(-1, 1, COUNT), dose=doses)
    images = CellImages(image_source(metadata, ModelConfig()))
    channels = images.source.channels
    examples = read_examples(images, draw_examples(np.arange(COUNT), labels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "umap", None)  # which takes seconds to compile; the unit tests hold it
        cells = map_cells(features, frame, labels, "label", pictures=cell_pictures(images, channels, examples))
    folds = make_folds(labels, metadata.frame["plate"].to_numpy(), count=3, group_name="plate")
    results = {"trained": {"knn": cross_validate(features, labels, folds, "knn")}}
    content = ReportData("Cells <i>of</i> a test", channels, labels, results, folds.description, examples=examples, cells=cells)
    page = render_report(replace(content, run={"Data": "cells"}, settings="model:", artifacts={"Model": "model"}, footer="a test"))
    path = directory / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=" ".join(ARGUMENTS).split())
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Callable[..., Visit]]:
    """Opens the report; at the end nothing may have been complained about, run, or asked for from elsewhere."""
    visits: list[Visit] = []
    contexts = []

    def open_report(path: Path = report, framed: bool = False, **options: Any) -> Visit:
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 900}, "accept_downloads": True, **options})
        contexts.append(context)
        visits.append(Visit(context))
        visits[-1].page.goto(path.as_uri())
        if framed:
            visits[-1].view = visits[-1].page.frames[1]
        visits[-1].wait()
        return visits[-1]

    yield open_report
    for one in visits:
        assert one.complaints == []
        assert [url[:100] for url in one.requests if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
        assert one.view.evaluate("() => window.broken") is None
    for context in contexts:
        context.close()


def test_points_are_drawn_in_the_colours_of_their_classes_and_switch_to_those_of_a_column(visit: Callable[..., Visit]) -> None:
    page = visit()
    for colour in COLOURS[: len(HOSTILE)]:
        assert dots_of(page, colour) > 50
    assert dots_of(page, COLOURS[5]) == 0
    before = pixels(page, "#map-figure")
    page.view.locator("#map-colour").select_option(label="plate")
    assert {"plate1", "plate2", "plate3"} <= set(page.text("#map-legend").split())
    assert dots_of(page, COLOURS[3]) == 0
    page.view.locator("#map-colour").select_option(label="score")
    assert "percentile" in page.text("#map-legend")
    assert (pixels(page, "#map-figure") != before).any()


def test_doses_lie_along_a_scale_and_cells_without_one_are_pale_on_a_light_page_and_on_a_dark_one(visit: Callable[..., Visit]) -> None:
    for scheme, pale, background in (("light", PALE, 255), ("dark", PALE_ON_DARK, 20)):
        page = visit(color_scheme=scheme)
        page.view.locator("#map-colour").select_option(label="dose")
        assert page.text("#map-legend").split() == ["dose", "0.1", "20", "1.5", "20", "(empty)", "20"]
        assert dots_of(page, pale, background) > 50
        assert dots_of(page, COLOURS[0], background) == 0
        page.view.locator("#map-legend button", has_text="(empty)").click()
        page.wait_for("#selection-count", f"20 cells of {COUNT}")


def test_a_cell_under_the_pointer_is_shown_with_its_image_class_and_metadata_as_text(visit: Callable[..., Visit]) -> None:
    page = visit()
    cell = page.lone()
    page.page.mouse.move(*page.place(cell), steps=2)
    page.wait_for("#map-card", page.column("file")[cell])  # another may lie on the way
    shown = page.text("#map-card")
    label = page.column("label")[cell].replace("\u202e", "\ufffd").replace("\x07", "\ufffd")
    for text in (label, page.column("file")[cell], page.column("ID")[cell], page.column("plate")[cell], "score"):
        assert text in shown
    assert pixels(page, "#map-card canvas").std() > 5
    for text in HOSTILE[:2]:
        assert text in page.text("#map-legend")
        assert text in page.text("table.cells")
    assert "\u202e" not in page.view.content().split("</main>")[0].split("map-data")[0]


def test_a_selection_lists_its_cells_and_downloads_them_as_a_csv_that_is_inert_in_a_spreadsheet(visit: Callable[..., Visit]) -> None:
    page = visit()
    page.drag((0.01, 0.01), (0.5, 0.01), (0.5, 0.99), (0.01, 0.99), (0.01, 0.02))
    page.view.locator("#selection-count").wait_for(timeout=WAIT)
    count = int(page.text("#selection-count").split()[0])
    assert 0 < count < COUNT
    assert page.view.locator("#selection-table tbody tr").count() == count
    with page.page.expect_download() as downloading:
        page.view.locator("#selection-save").click()
    text = Path(downloading.value.path()).read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == count
    files, labels = page.column("file"), page.column("label")
    for row in rows:
        original = labels[files.index(row["file"])]
        assert row["label"] == (f"'{original}" if original.startswith("=") else original)
        assert math.isfinite(float(row["score"]))
    page.view.locator("#map-legend button", has_text="=SUM(A1)").click()
    page.wait_for("#selection-count", f"{COUNT // len(HOSTILE)} cells of {COUNT}")
    page.view.locator("#selection-text").click()
    assert page.view.locator("#selection-copy textarea").input_value().count("'=SUM(A1)") == COUNT // len(HOSTILE)
    page.view.locator("[data-tool=box]").click()
    assert page.view.locator("[data-tool=box]").get_attribute("aria-pressed") == "true"
    page.drag((0.01, 0.01), (0.99, 0.99))
    page.wait_for("#selection-count", f"{COUNT} cells of {COUNT}")
    page.view.locator("#selection-end").click()
    assert page.view.locator("#map-selection").is_hidden()


def test_a_click_shows_ten_neighbours_with_pictures_classes_and_distances(visit: Callable[..., Visit]) -> None:
    page = visit()
    cell = page.lone()
    page.page.mouse.click(*page.place(cell))
    page.wait_for_number("#neighbours-list li", 11)
    cards = page.view.locator("#neighbours-list li")
    distances = [float(words.split("\n")[-1]) for words in cards.all_inner_texts()[1:]]
    assert distances == sorted(distances)
    assert page.view.locator("#neighbours-list canvas").count() == 11
    same = sum(words.split("\n")[0] == cards.all_inner_texts()[0].split("\n")[0] for words in cards.all_inner_texts()[1:])
    assert same >= 6  # the features tell the classes
    assert page.view.locator("#map-selection").is_hidden()


def test_the_map_can_be_walked_by_keyboard(visit: Callable[..., Visit]) -> None:
    page = visit()
    page.view.locator("#map-figure").focus()
    page.page.keyboard.press("ArrowRight")
    page.wait_for("#map-card", "plate")
    first = page.text("#map-card")
    page.page.keyboard.press("ArrowRight")
    page.view.wait_for_function("(first) => document.querySelector('#map-card').innerText !== first", arg=first, timeout=WAIT)
    page.page.keyboard.press("Enter")
    page.wait_for_number("#neighbours-list li", 11)
    page.view.locator("#map-find").fill("plate2")
    page.page.keyboard.press("Enter")
    page.wait_for("#selection-count", f"{page.column('plate').count('plate2')} cells of {COUNT}")
    page.view.locator("#map-find").fill("")
    expect(page.view.locator("#map-selection")).to_be_hidden(timeout=WAIT)


def test_channels_are_hidden_and_brightened(visit: Callable[..., Visit]) -> None:
    page = visit()
    all_channels = pixels(page, "#sheet-0")
    boxes = page.view.locator(".channels input")
    assert boxes.count() == 4
    boxes.nth(1).uncheck()  # the protein, green
    without = pixels(page, "#sheet-0")
    assert without[..., 1].sum() < all_channels[..., 1].sum()
    boxes.nth(0).uncheck()
    boxes.nth(3).uncheck()
    alone = pixels(page, "#sheet-0")
    assert np.ptp(alone, axis=2).max() < 3  # a channel alone is grey
    page.view.locator("#sheet-contrast").fill("4")
    assert pixels(page, "#sheet-0").mean() > 1.5 * alone.mean()
    page.view.locator("#sheet-reset").click()
    assert (pixels(page, "#sheet-0") == all_channels).all()


def test_the_report_works_in_a_frame_that_allows_scripts_alone(visit: Callable[..., Visit], report: Path) -> None:
    frame = report.with_name("frame.html")
    content = escape(report.read_text(encoding="utf-8"))
    inner = f'<iframe sandbox="allow-scripts" style="width:1050px;height:860px" srcdoc="{content}"></iframe>'
    frame.write_text(f'<meta charset="utf-8">{inner}', encoding="utf-8")  # else the browser guesses, and not always the same
    page = visit(frame, framed=True)
    assert dots_of(page, COLOURS[0]) > 50
    page.view.locator("#map-legend button", has_text="plain").click()
    page.wait_for("#selection-count", "12 cells of 60")
    page.view.locator(".contents a", has_text="What was run").click()
    expect(page.view.get_by_role("heading", name="What was run")).to_be_in_viewport(timeout=WAIT)
    assert page.page.frames[1].url == "about:srcdoc"  # no link led to the page around the frame
    page.view.locator("#selection-text").click()
    assert len(page.view.locator("#selection-copy textarea").input_value().splitlines()) == 1 + 12


def test_on_paper_the_map_fits_and_keeps_its_dots_and_rings(visit: Callable[..., Visit]) -> None:
    page = visit(color_scheme="dark")
    page.view.locator("#map-figure").focus()
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("Enter")
    page.wait_for_number("#neighbours-list li", 11)
    page.view.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
    page.view.evaluate("() => window.dispatchEvent(new Event('resize'))")  # as some browsers send while they print
    page.page.emulate_media(media="print", color_scheme="dark")
    page.page.set_viewport_size({"width": 640, "height": 900})
    page.view.wait_for_function("() => window.innerWidth === 640", timeout=WAIT)
    right = page.view.evaluate("() => document.getElementById('map-dots').getBoundingClientRect().right")
    assert 500 < right <= 640
    assert all(dots_of(page, colour) > 30 for colour in COLOURS[: len(HOSTILE)])
    assert (pixels(page, "#map-figure").max(axis=2) < 80).sum() > 100  # rings, black on the white of paper
    assert page.view.locator("#map-colour").is_hidden()


def test_all_of_many_cells_are_painted_and_selected(visit: Callable[..., Visit], tmp_path: Path) -> None:
    count, random = 20_000, np.random.default_rng(0)
    codes = random.integers(3, size=count)
    features = (np.eye(3)[codes] + random.normal(scale=0.1, size=(count, 3))) @ random.normal(size=(3, 8))
    labels = np.asarray(["a", "b", "c"])[codes]
    frame = pd.DataFrame({"label": labels, "well": [f"{code}-{cell % 4}" for cell, code in enumerate(codes)]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "umap", None)
        cells = map_cells(features, frame, labels, "label")
    path = tmp_path / "many.html"
    path.write_text(render_report(ReportData("Many", ["DNA"], labels, {}, "", cells=cells)), encoding="utf-8")
    page = visit(path)
    assert min(dots_of(page, colour) for colour in COLOURS[:3]) > 1000
    page.drag((0.5, 0.01), (0.99, 0.01), (0.99, 0.99), (0.5, 0.99), (0.5, 0.02))
    page.view.locator("#selection-count").wait_for(timeout=WAIT)
    right = page.view.evaluate(
        """() => {
          const { start, end } = Bokeh.index.roots[0].model.x_range;
          return Array.from(unpacked(dataBlock("map-data").x)).filter((value) => value > (start + end) / 2).length;
        }"""
    )
    assert int(page.text("#selection-count").split()[0].replace(",", "")) == pytest.approx(right, rel=0.05)
    assert "the CSV has all" in page.text("#selection-more")
    selected = pixels(page, "#map-figure")
    page.view.locator("#map-figure").press("Escape")
    page.view.locator("#map-colour").select_option(label="well")
    assert dots_of(page, COLOURS[6]) > 100
    assert (pixels(page, "#map-figure") != selected).any()


@pytest.mark.parametrize(
    ("name", "options"), [("light", {}), ("dark", {"color_scheme": "dark"}), ("phone", {"viewport": {"width": 390, "height": 844}})]
)
def test_the_page_fits_and_is_kept_as_a_picture(visit: Callable[..., Visit], report: Path, name: str, options: dict[str, Any]) -> None:
    page = visit(**options)
    page.view.locator("#map-legend button", has_text="plain").click()
    page.view.locator("#selection-table button").first.click()  # so that all parts are there
    page.wait_for_number("#neighbours-list li", 11)
    assert page.view.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    page.view.evaluate("() => document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    page.wait()
    texts = page.view.evaluate(FAINT)
    assert texts["found"] == []
    assert texts["seen"] > 100
    picture = report.with_name(f"{name}.png")
    page.page.screenshot(path=picture, full_page=True)
    print(f"screenshot: {picture}")
    background = np.asarray(Image.open(picture).convert("L"))[:, :3].mean()
    assert background < 60 if name == "dark" else background > 200
