"""The interactive map as a part of a page: the markup, the drawing (Bokeh) and the data that `map.js` fills it with."""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode

import numpy as np

from dino4cells.report.cell_map import CellMap
from dino4cells.report.columns import packed, packed_columns, smallest
from dino4cells.report.palette import COLOURS, MARKERS, PALE, PALE_ON_DARK
from dino4cells.report.pictures import SHEET_COLUMNS
from dino4cells.report.projection import FeatureMap
from dino4cells.report.text import data_block, escape

HEIGHT = 590  # CSS pixels
MODEL_ID = re.compile(r'"p(\d+)"')


def map_section(cells: CellMap, caption: str) -> str:
    """The map, the list of selected cells and the neighbours of one, with their data.

    Args:
        cells: what is drawn.
        caption: text below the map.
    """
    from bokeh.palettes import Viridis256

    names = [str(name) for name in cells.frame.columns]
    columns = packed_columns(cells.frame)
    coloured = [place for place, column in enumerate(columns) if column["kind"] == "number" or len(column.get("values", ())) > 1]  # type: ignore[arg-type]
    first = names.index(cells.colour_by)
    coloured = sorted({first, *coloured})
    options = "".join(
        f'<option value="{place}"{" selected" if place == first else ""}>{escape(names[place])}</option>' for place in coloured
    )
    content = {
        "count": len(cells.frame),
        "x": packed(cells.plane.xy[:, 0].astype(np.float32)),
        "y": packed(cells.plane.xy[:, 1].astype(np.float32)),
        "columns": columns,
        "first": first,
        "colours": COLOURS,
        "markers": MARKERS,
        "pale": {"light": PALE, "dark": PALE_ON_DARK},
        "scale": Viridis256,
        "portraits": _portraits(cells),
        "neighbours": _neighbours(cells),
    }
    return (
        "<h2>Map of the features</h2>\n"
        '<div class="controls">'
        f'<label>Colour by <select id="map-colour">{options}</select></label>'
        '<span class="tools" role="group" aria-label="What dragging on the map does">'
        '<button type="button" data-tool="lasso" aria-pressed="false">Lasso</button>'
        '<button type="button" data-tool="box" aria-pressed="false">Box</button>'
        '<button type="button" data-tool="move" aria-pressed="false">Move</button></span>'
        '<span class="tools" role="group" aria-label="Zoom"><button type="button" data-zoom="in" aria-label="Zoom in">+</button>'
        '<button type="button" data-zoom="out" aria-label="Zoom out">&minus;</button>'
        '<button type="button" data-zoom="reset">Whole map</button></span>'
        '<label>Find <input id="map-find" type="search" placeholder="file, ID, any value" autocomplete="off"></label></div>\n'
        '<div class="atlas"><div id="map-figure" tabindex="0" role="application" aria-describedby="map-help" '
        f'aria-label="{escape(cells.plane.method)} of the features of {len(cells.frame):,} cells"></div>'
        '<aside><div id="map-card" aria-live="polite"><p class="quiet">Point at a cell.</p></div>'
        '<div id="map-legend" role="group" aria-label="Values; each selects its cells"></div></aside></div>\n'
        f'<p class="quiet">{escape(caption)}</p>\n<p class="quiet" id="map-help">Point at a cell to see it; click it for its nearest '
        "neighbours; drag around cells to select them; Ctrl and the wheel zoom. "
        "By keyboard: the arrow keys go from cell to cell, Enter shows its neighbours, Escape ends a selection.</p>\n"
        '<noscript><p class="warnings">The map needs JavaScript, which this browser does not run.</p></noscript>\n'
        '<section id="map-neighbours" aria-labelledby="neighbours-title" hidden><h3 id="neighbours-title">Nearest neighbours</h3>'
        '<p class="quiet" id="neighbours-note"></p><ol class="gallery" id="neighbours-list"></ol></section>\n'
        '<section id="map-selection" aria-labelledby="selection-title" hidden><h3 id="selection-title">Selected cells</h3>'
        '<p><strong id="selection-count" role="status"></strong> <span class="quiet" id="selection-values"></span></p>'
        '<p class="controls"><button type="button" id="selection-save">Download as CSV</button>'
        '<button type="button" id="selection-text">Show as text</button><button type="button" id="selection-end">End selection</button></p>'
        '<label id="selection-copy" hidden>The selected cells as CSV, to be copied where a frame lets no file be saved'
        '<textarea readonly rows="8"></textarea></label>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Selected cells"><table class="list" id="selection-table"></table></div>'
        '<p class="quiet" id="selection-more"></p></section>\n' + data_block("map-data", content) + data_block("map-drawing", drawing())
    )


def map_caption(plane: FeatureMap) -> str:
    """What the map is, for those who have not seen one."""
    what = "the axes are the two directions of largest variation"
    if plane.method == "UMAP":
        what = "neighbours look alike to the network, and distances between islands mean little"
    return f"{plane.method} of the features: a dot is a cell, {what}. {plane.note}".strip()


def drawing() -> dict[str, object]:
    """The figure as Bokeh's JSON, the same every time; it holds no data, which the script gives it."""
    from bokeh.embed import json_item
    from bokeh.models import BoxSelectTool, ColumnDataSource, HoverTool, LassoSelectTool, PanTool, Range1d, TapTool
    from bokeh.models.tools import WheelZoomTool
    from bokeh.plotting import figure

    lasso, box, move = LassoSelectTool(name="lasso", continuous=False), BoxSelectTool(name="box"), PanTool(name="move")
    hover, tap = HoverTool(name="hover", tooltips=None), TapTool(name="tap")
    plot = figure(
        name="plot", height=HEIGHT, sizing_mode="stretch_width", toolbar_location=None, tools=[],
        background_fill_color=None, border_fill_color=None, outline_line_color=None, min_border=4, lod_threshold=None,
        x_range=Range1d(start=0, end=1), y_range=Range1d(start=0, end=1),
    )  # fmt: skip
    plot.add_tools(lasso, box, move, hover, tap, WheelZoomTool(name="wheel", modifiers="ctrl"))
    plot.axis.visible = False
    plot.grid.visible = False
    cells = ColumnDataSource({"x": [], "y": []}, name="cells")
    # Bokeh finds the dots that a tool hits, and paints none: it leaves out what has no angle. `dots.js` paints them, and much faster.
    dots = plot.scatter("x", "y", source=cells, name="dots", marker="circle", angle=math.nan)
    dots.selection_glyph = dots.nonselection_glyph = None
    hover.renderers = tap.renderers = lasso.renderers = box.renderers = [dots]
    for name, size, width in (("near", 13, 1.6), ("here", 17, 2.4)):
        rings = ColumnDataSource({"x": [], "y": []}, name=name)
        plot.scatter(
            "x", "y", source=rings, name=f"{name}-rings", marker="circle", size=size, fill_color=None, line_color="black", line_width=width,
        )  # fmt: skip
    item = json.dumps(json_item(plot))
    # Bokeh numbers its parts through the whole process; here they are numbered from 1, so that a page is the same every time.
    numbers: dict[str, int] = {}
    item = MODEL_ID.sub(lambda found: f'"p{numbers.setdefault(found[1], len(numbers) + 1)}"', item)
    content: dict[str, object] = json.loads(item)
    return content


def _portraits(cells: CellMap) -> dict[str, object] | None:
    portraits = cells.portraits
    if portraits is None or not len(portraits.places):
        return None
    return {
        "places": packed(portraits.places.astype(np.uint32)),
        "side": portraits.side,
        "columns": SHEET_COLUMNS,
        "sheets": [f"data:image/jpeg;base64,{b64encode(sheet).decode('ascii')}" for sheet in portraits.sheets],
    }


def _neighbours(cells: CellMap) -> dict[str, object] | None:
    found = cells.neighbours
    if found is None:
        return None
    used, codes = np.unique(found.places, return_inverse=True)
    return {
        "each": found.places.shape[1],
        "among": found.among,
        "places": packed(used.astype(np.uint32)),
        "codes": packed(smallest(codes.ravel(), len(used))),
        "distances": packed(np.round(found.distances.ravel() * 32767).astype(np.uint16)),
    }
