"""The report of 100,000 cells: what it costs to compose, and how long a reader waits for it in a browser that draws without a GPU."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import Machine, Row, apart, peak_memory_mib
from dino4cells.config import ModelConfig
from dino4cells.data.dataset import CellImages
from dino4cells.data.metadata import read_metadata
from dino4cells.data.simulate import simulate
from dino4cells.data.source import image_source
from dino4cells.report import ReportData, map_cells, render_report
from dino4cells.report.examples import cell_pictures, draw_examples, read_examples

CELLS, FEATURES, CLASSES, PLATES = 100_000, 384, 20, 12
INNER = 12  # dimensions in which the cells differ
IMAGES, IMAGE_PIXELS = 1000, 64
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader")
WINDOW = {"width": 1100, "height": 900}
LASSO = ((0.2, 0.2), (0.7, 0.15), (0.8, 0.7), (0.3, 0.8), (0.2, 0.25))  # shares of the map's width and height
HOVERED = 5  # places
PATIENCE = 120_000  # milliseconds


def measure(machine: Machine) -> list[Row]:
    """There is no reference: what is asked for is that a reader does not wait."""
    with tempfile.TemporaryDirectory() as directory:
        cells = f"{directory}/cells"
        simulate(cells, cells=IMAGES, size=IMAGE_PIXELS, plates=4)
        page = Path(directory, "report.html")
        cpu, wall, before, peak = apart(compose, cells, str(page))
        what = f"report of {CELLS:,} cells: "
        rows = [
            Row(f"{what}composing, CPU", None, cpu, "s", None, note=f"{wall:.0f} s by the clock; with {FEATURES} features each"),
            Row(f"{what}composing, memory", None, peak, "MiB", None, note=f"peak of the process; with the features alone {before:,.0f}"),
            Row(f"{what}the page", None, page.stat().st_size / 2**20, "MiB", None),
        ]
        browser = next(filter(None, map(shutil.which, BROWSERS)), None)
        if browser is None:
            print("NO BROWSER: what a reader waits for is not measured; install chromium")
            return rows
        waits = read(page, browser)
        still = waits.pop("a screenshot alone")
        seen = f"until a screenshot shows it, which alone takes {still:.2f} s; no GPU"
        notes = {"hover": f"until the card tells of the cell, median of {HOVERED}"}
        return rows + [Row(what + name, None, waited, "s", None, note=notes.get(name, seen)) for name, waited in waits.items()]


def compose(cells: str, page: str) -> tuple[float, float, float, float]:
    """Write the page; CPU seconds, seconds, and the peak of this process's memory in MiB before and after."""
    random = np.random.default_rng(0)
    codes = random.integers(CLASSES, size=CELLS)
    inner = random.normal(scale=1.5, size=(CLASSES, INNER))[codes] + random.normal(size=(CELLS, INNER))
    features = inner.astype(np.float32) @ random.standard_normal((INNER, FEATURES), dtype=np.float32)
    labels = np.asarray([f"class {code + 1}" for code in range(CLASSES)])[codes]
    rows = np.arange(CELLS) % IMAGES
    metadata = read_metadata(cells)
    frame = metadata.frame[["file", "ID"]].iloc[rows].reset_index(drop=True)
    frame["ID"] = [f"cell-{number:06d}" for number in range(CELLS)]
    frame["label"], frame["plate"] = labels, [f"plate {code + 1}" for code in random.integers(PLATES, size=CELLS)]
    frame["area"] = random.gamma(9, 30, size=CELLS).round(2)
    before, cpu, started = peak_memory_mib(), time.process_time(), time.perf_counter()
    images = CellImages(image_source(metadata, ModelConfig()))
    examples = read_examples(images, draw_examples(rows[: 50 * CLASSES], labels[: 50 * CLASSES]))
    pictures = cell_pictures(images, images.source.channels, examples)
    drawn = map_cells(features, frame, labels, "label", rows=rows, pictures=pictures)
    data = ReportData("100,000 simulated cells", images.source.channels, labels, {}, "", examples=examples, cells=drawn)
    Path(page).write_text(render_report(data), encoding="utf-8")
    return time.process_time() - cpu, time.perf_counter() - started, before, peak_memory_mib()


def read(page: Path, browser: str) -> dict[str, float]:
    """Seconds that a reader waits for each thing, and those that a screenshot of an unchanged page takes."""
    waits = {}
    with _opened(browser) as tab:
        started = time.perf_counter()
        tab.goto(page.as_uri(), wait_until="commit")
        tab.wait_for_function("() => document.documentElement.dataset.map === 'drawn'", timeout=PATIENCE)
        tab.locator("#map-figure").scroll_into_view_if_needed()
        tab.screenshot(timeout=PATIENCE)
        waits["opening until drawn"] = time.perf_counter() - started
        waits["a screenshot alone"] = _until_seen(tab, lambda: None)
        waits["another colour"] = _until_seen(tab, lambda: tab.locator("#map-colour").select_option(label="plate"))
        waits["lasso"] = _until_seen(tab, lambda: _drag(tab, LASSO))
        waits["end of the selection"] = _until_seen(tab, lambda: tab.locator("#map-figure").press("Escape"))
        waits["zoom"] = _until_seen(tab, lambda: tab.locator("[data-zoom=in]").click())
        waits["hover"] = float(np.median([_until_told(tab, place) for place in range(HOVERED)]))
    return waits


@contextmanager
def _opened(browser: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=list(ARGUMENTS))
        yield opened.new_page(viewport=WINDOW)
        opened.close()


def _until_seen(tab: Any, act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    tab.screenshot(timeout=PATIENCE)
    return time.perf_counter() - started


def _drag(tab: Any, corners: tuple[tuple[float, float], ...]) -> None:
    box = tab.locator("#map-figure").bounding_box()
    places = [(box["x"] + across * box["width"], box["y"] + down * box["height"]) for across, down in corners]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    for place in places[1:]:
        tab.mouse.move(*place, steps=3)
    tab.mouse.up()
    tab.locator("#selection-count").wait_for(timeout=PATIENCE)


def _until_told(tab: Any, number: int) -> float:
    """From the pointer's arrival at one of the cells until the card tells of it."""
    box = tab.locator("#map-figure").bounding_box()
    left, top = tab.evaluate(
        """(number) => {
          const view = Bokeh.index.roots[0], { x, y } = cellsOf(dataBlock("map-data")), { width, height } = view.frame.bbox;
          for (let cell = 997 * (number + 1); ; cell++) {
            const left = view.frame.x_scale.compute(x[cell]), top = view.frame.y_scale.compute(y[cell]);
            if (left > 20 && top > 20 && left < width - 20 && top < height - 20) return [left, top];
          }
        }""",
        number,
    )
    before = tab.locator("#map-card").inner_text()
    started = time.perf_counter()
    tab.mouse.move(box["x"] + left, box["y"] + top)
    tab.wait_for_function("(before) => document.getElementById('map-card').innerText !== before", arg=before, timeout=PATIENCE)
    return time.perf_counter() - started
