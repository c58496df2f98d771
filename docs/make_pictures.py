"""The pictures and the numbers of docs/tutorial.md, from the directories that its commands leave: `python docs/make_pictures.py DIRECTORY`.

Writes the pictures to docs/images, and prints the loss and the table of scores as the page has them. Needs what `dino4cells[dev]` brings,
and Chromium for the map, which is a picture of the report itself.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import sync_playwright

import dino4cells
from dino4cells.report.cells import merge, stretch, stretch_limits
from dino4cells.report.data import TRAINED
from dino4cells.report.findings import summarize_loss

IMAGES = Path(__file__).parent / "images"
FEATURES = {TRAINED: "**trained**", "untrained": "same network, untrained", "intensity": "intensity statistics"}
EXAMPLES = 2
POINTED_AT = 400
PLACE_OF_A_CELL = """(cell) => {
  const view = Bokeh.index.roots[0], data = view.model.document.get_model_by_name("cells").data;
  const figure = view.el.getBoundingClientRect();
  return [figure.left + view.frame.x_scale.compute(data.x[cell]), figure.top + view.frame.y_scale.compute(data.y[cell])];
}"""
PICTURE_DRAWN = """() => {
  const canvas = document.querySelector("#map-card .portrait");
  return canvas && canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((part) => part > 0);
}"""


def main(place: Path) -> None:
    """Write all pictures, and print the numbers of the same run."""
    IMAGES.mkdir(exist_ok=True)
    table = pd.read_csv(place / "cells" / "metadata.csv")
    model = dino4cells.load_model(place / "model")
    chosen = table.groupby("protein_location", sort=False).head(EXAMPLES).sort_values("protein_location", kind="stable")
    images = np.stack([_image(place / "cells" / file) for file in chosen["file"]])
    _save(_cells(chosen, images, model.channels), "cells")
    _save(_loss(model.trained.log()), "loss")
    _save(_attention(chosen, images, model), "attention")
    _screenshot(place / "classes" / "report.html")
    loss = summarize_loss(model.trained.log())
    assert loss is not None
    print(f"{model.trained.log()[-1]['samples']:,.0f} images, loss from {loss.start:.2f} to {loss.end:.2f}\n")
    print(_scores(json.loads((place / "classes" / "metrics.json").read_text())["results"]))


def _scores(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The table: accuracy with its interval, a row for each set of features."""
    rows = ["| | 10 nearest neighbours | linear probe |", "| --- | --- | --- |"]
    for features, name in FEATURES.items():
        cells = [name]
        for classifier in ("knn", "linear"):
            scores = results[features][classifier]
            accuracy, low, high = (f"{value:.{digits}f}".removeprefix("0") for value, digits in _with_interval(scores))
            cells.append(f"{f'**{accuracy}**' if features == TRAINED else accuracy} ({low} to {high})")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _with_interval(scores: dict[str, Any]) -> list[tuple[float, int]]:
    """Accuracy and both ends of its interval, each with its digits."""
    low, high = scores["intervals"]["accuracy"]
    return [(scores["accuracy"], 3), (low, 2), (high, 2)]


def _image(path: Path) -> np.ndarray:
    return np.array(Image.open(path)).transpose(2, 0, 1)


def _cells(chosen: pd.DataFrame, images: np.ndarray, channels: tuple[str, ...]) -> Figure:
    """A row for each class: two cells, their channels in colour together and the channels apart."""
    limits = stretch_limits(list(images), channels)
    titles = ("together", *channels) * EXAMPLES
    classes = chosen["protein_location"].unique()
    figure, axes = plt.subplots(len(classes), len(titles), figsize=(0.82 * len(titles), 0.86 * len(classes)), squeeze=False)
    for cell, image in enumerate(images):
        row, first = divmod(cell, EXAMPLES)
        stretched = stretch(image, limits)
        for column, picture in enumerate([merge(stretched, channels), *stretched], start=first * (1 + len(channels))):
            axes[row, column].imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes[row, column].axis("off")
            if row == 0:
                axes[row, column].set_title(titles[column], fontsize=7)
    for row, name in enumerate(classes):
        axes[row, 0].text(-0.1, 0.5, name, transform=axes[row, 0].transAxes, ha="right", va="center", fontsize=8)
    figure.subplots_adjust(left=0.14, right=0.995, top=0.95, bottom=0.005, wspace=0.04, hspace=0.04)
    return figure


def _loss(records: list[dict[str, float]]) -> Figure:
    figure, axis = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
    axis.plot([record["samples"] for record in records], [record["loss"] for record in records], color="#0072b2")
    axis.axhline(np.log(1024), color="#777777", linewidth=0.8, linestyle="--")
    axis.annotate(
        "log(1,024): nothing learnt", (records[-1]["samples"], np.log(1024)), ha="right", va="bottom", fontsize=8, color="#555555"
    )
    axis.set(xlabel="images seen", ylabel="loss")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def _attention(chosen: pd.DataFrame, images: np.ndarray, model: dino4cells.Model) -> Figure:
    """One cell of every class, and where each head of the last block looks."""
    limits = stretch_limits(list(images), model.channels)
    maps = model.attention(images[::EXAMPLES])
    figure, axes = plt.subplots(1 + maps.shape[1], len(maps), figsize=(1.15 * len(maps), 1.2 * (1 + maps.shape[1])), squeeze=False)
    for column, (heads, name) in enumerate(zip(maps, chosen["protein_location"].unique(), strict=True)):
        axes[0, column].imshow(merge(stretch(images[column * EXAMPLES], limits), model.channels), interpolation="nearest")
        axes[0, column].set_title(name, fontsize=7)
        for row, looked in enumerate(heads, start=1):
            axes[row, column].imshow(looked, cmap="magma", interpolation="bilinear")
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    for row in range(1, len(axes)):
        axes[row, 0].set_ylabel(f"head {row}", fontsize=8)
    figure.subplots_adjust(left=0.04, right=0.995, top=0.94, bottom=0.01, wspace=0.04, hspace=0.04)
    return figure


def _save(figure: Figure, name: str) -> None:
    stream = io.BytesIO()
    figure.savefig(stream, dpi=130)
    plt.close(figure)
    _write(Image.open(stream), name)


def _write(picture: Image.Image, name: str) -> None:
    picture.convert("RGB").save(IMAGES / f"{name}.webp", quality=82, method=6)


def _screenshot(report: Path) -> None:
    """The map of the report, as a browser shows it, with a cell under the pointer."""
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1120, "height": 900})
        page.goto(report.resolve().as_uri())
        page.wait_for_function("() => document.documentElement.dataset.map === 'drawn'")
        atlas = page.locator(".atlas")
        atlas.scroll_into_view_if_needed()
        page.mouse.move(*page.evaluate(PLACE_OF_A_CELL, POINTED_AT))
        page.wait_for_function(PICTURE_DRAWN)
        _write(Image.open(io.BytesIO(atlas.screenshot())), "map")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
