"""A report that is open in a browser: what it shows, once nothing is left to be drawn."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import expect

WAIT = 60_000  # milliseconds, of a machine that is busy with other things
SETTLED = """() => {
  const state = document.documentElement.dataset;
  if (byId("sheet-data") && state.sheet !== "drawn") return false;
  if (!byId("map-data")) return true;
  if (state.map === "hidden") return matchMedia("print").matches;  // where what was drawn before stays
  if (state.map !== "drawn") return false;
  const { width, height } = Bokeh.index.roots[0].frame.bbox, dots = byId("map-dots");
  const filled = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((part) => part > 0);
  if (dots.style.width !== `${width}px` || dots.style.height !== `${height}px`) return false;
  return [...document.querySelectorAll(".portrait")].every(filled);
}"""
# Texts that stand out too little from what is behind them (WCAG 2.2, AA: 4.5 to 1, large ones 3 to 1), with their contrast.
FAINT = """() => {
  const parts = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const linear = (part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const luminance = (colour) => {
    const [red, green, blue] = parts(colour).map(linear);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  let seen = 0;
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || ["SCRIPT", "NOSCRIPT", "OPTION"].includes(node.tagName) || !node.checkVisibility()) continue;
    const { color, fontSize, fontWeight } = getComputedStyle(node), size = parseFloat(fontSize);
    const [low, high] = [luminance(color), luminance(behind(node))].sort((a, b) => a - b), contrast = (high + 0.05) / (low + 0.05);
    seen += 1;
    if (contrast < (size >= 24 || (size >= 18.66 && fontWeight >= 700) ? 3 : 4.5)) found.push([node.textContent, contrast]);
  }
  return { seen, found };
}"""


class Visit:
    """A page that is open, with everything that it complained about and asked for."""

    def __init__(self, context: Any) -> None:
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.view: Any = self.page

    def wait(self) -> None:
        """Until nothing is left to be drawn: the map at the size that it has now, the sheet, the pictures of cells."""
        self.view.wait_for_function(SETTLED, timeout=WAIT)

    def text(self, element: str) -> str:
        return str(self.view.locator(element).inner_text())

    def wait_for(self, element: str, text: str) -> None:
        """Until an element says so, whatever it said before."""
        expect(self.view.locator(element)).to_contain_text(text, timeout=WAIT)

    def wait_for_number(self, elements: str, count: int) -> None:
        """Until there are so many of these."""
        expect(self.view.locator(elements)).to_have_count(count, timeout=WAIT)

    def place(self, cell: int) -> tuple[float, float]:
        """Where a cell of the map is, in pixels of the window."""
        self.view.locator("#map-figure").scroll_into_view_if_needed()
        self.wait()
        left, top = self.view.evaluate(
            """(cell) => {
              const view = Bokeh.index.roots[0], data = view.model.document.get_model_by_name("cells").data;
              const figure = view.el.getBoundingClientRect();
              return [figure.left + view.frame.x_scale.compute(data.x[cell]), figure.top + view.frame.y_scale.compute(data.y[cell])];
            }""",
            cell,
        )
        return float(left), float(top)

    def column(self, name: str) -> list[str]:
        """A column of the table behind the map, in the order in which the cells are drawn."""
        return list(
            self.view.evaluate(
                """(name) => {
                  const data = dataBlock("map-data"), column = data.columns.find((one) => one.name === name);
                  if (column.kind === "text") return column.texts.map((text) => column.prefix + text);
                  return Array.from(unpacked(column.codes)).map((code) => column.values[code]);
                }""",
                name,
            )
        )

    def lone(self) -> int:
        """A cell on the map that has no other near it."""
        x, y = (np.asarray(self.view.evaluate(f"() => Array.from(unpacked(dataBlock('map-data').{axis}))"), dtype=float) for axis in "xy")
        away = np.hypot(*(axis[:, None] - axis for axis in (x, y))) + np.diag(np.full(len(x), np.inf))
        return int(away.min(axis=1).argmax())

    def drag(self, *corners: tuple[float, float]) -> None:
        """Drag over the map from corner to corner, which are shares of its width and height."""
        self.view.locator("#map-figure").scroll_into_view_if_needed()
        self.wait()
        box = self.view.locator("#map-figure").bounding_box()
        points = [(box["x"] + across * box["width"], box["y"] + down * box["height"]) for across, down in corners]
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*point, steps=3)
        self.page.mouse.up()


def pixels(visit: Visit, element: str) -> np.ndarray:
    """(H, W, 3) of an element, as it is seen when all that was asked for is drawn."""
    visit.wait()
    return np.asarray(Image.open(io.BytesIO(visit.view.locator(element).screenshot())).convert("RGB"), dtype=int)


def dots_of(visit: Visit, colour: str, background: int = 255) -> int:
    """Pixels of the map that are nearly of a colour under the dots' transparency, on grey of this value."""
    wanted = np.asarray([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
    seen = pixels(visit, "#map-figure")
    return int((np.abs(seen - (0.8 * wanted + 0.2 * background)).max(axis=2) < 16).sum())
