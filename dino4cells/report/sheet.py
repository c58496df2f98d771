"""The contact sheet: a few cells in each row, whose channels are shown, hidden and brightened by the reader (`sheet.js`)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dino4cells.report.cells import stretch, stretch_limits
from dino4cells.report.elements import number_of_cells
from dino4cells.report.palette import channel_colours, css, shown_together
from dino4cells.report.pictures import fitted, sheet_jpeg
from dino4cells.report.text import data_block, escape

MOST_EXAMPLES = 8
TILE_PIXELS = 96
SHOWN_PIXELS = 88  # CSS
OPEN_ROWS = 24  # the others are folded


@dataclass(frozen=True)
class SheetRow:
    """Cells that belong together.

    Attributes:
        name: What they are.
        more: Words below the name.
        images: (C, H, W) each, any number type and size.
    """

    name: str
    more: str
    images: Sequence[np.ndarray]


def contact_sheet(rows: Sequence[SheetRow], channels: Sequence[str]) -> str:
    """A section of the page; "" where no row has an image.

    Args:
        rows: Those without images are left out.
        channels: C names.
    """
    shown = [row for row in rows if len(row.images)]
    if not shown:
        return ""
    limits = stretch_limits((picture for row in shown for picture in row.images), channels)
    largest = max(max(picture.shape[1:]) for row in shown for picture in row.images)
    tile = min(largest, TILE_PIXELS)
    colours, together = channel_colours(channels), shown_together(channels)
    content = {
        "tile": tile,
        "channels": [{"name": channel, "colour": colour} for channel, colour in zip(channels, colours, strict=True)],
        "rows": [{"picture": _picture(row, limits, tile, largest)} for row in shown],
    }
    toggles = "".join(
        f'<label><input type="checkbox" id="channel-{number}"{" checked" if together[number] else ""}>'
        f'<span class="swatch" style="background:{css(colour)}"></span>'
        f"<bdi>{escape(channel)}</bdi></label>"
        for number, (channel, colour) in enumerate(zip(channels, colours, strict=True))
    )
    switches = f'<fieldset class="channels"><legend>Channels</legend>{toggles}</fieldset>' if len(channels) > 1 else ""
    body = [
        f"<tr><th scope=row><bdi>{escape(row.name)}</bdi><small>{escape(row.more)}</small></th><td>"
        f'<canvas id="sheet-{number}" role="img" aria-label="{escape(f"{row.name}: {number_of_cells(len(row.images))}")}" '
        f'style="width:{SHOWN_PIXELS * len(row.images)}px"></canvas></td></tr>'
        for number, row in enumerate(shown)
    ]
    more = len(body) - OPEN_ROWS
    which = "all channels" if all(together) else f"{sum(together)} of {len(channels)} channels until you switch on others,"
    merged = f", {which} in their colours, added up as light adds" if len(channels) > 1 else ""
    alone = " A channel alone is grey." if len(channels) > 1 else ""
    return (
        "<h2>Example cells</h2>\n"
        f'<p class="quiet">Cells of each row drawn at random{merged}. Black and white mean the same intensity in all rows, so brightness '
        f"can be compared.{alone}</p>\n"
        f'<div class="controls">{switches}'
        '<label>Contrast <input type="range" id="sheet-contrast" min="0.5" max="6" step="0.1" value="1"> '
        '<output id="contrast-value" for="sheet-contrast">×1.0</output></label>'
        '<label>Black below <input type="range" id="sheet-black" min="0" max="60" step="1" value="0"> '
        '<output id="black-value" for="sheet-black">0 %</output></label>'
        '<button type="button" id="sheet-reset">As at first</button></div>\n'
        + _table("Example cells", body[:OPEN_ROWS])
        + (f"<details><summary>{more:,} more</summary>{_table('More example cells', body[OPEN_ROWS:])}</details>\n" if more > 0 else "")
        + data_block("sheet-data", content)
    )


def _table(name: str, rows: Sequence[str]) -> str:
    body = "".join(rows)
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table class="cells"><tbody>{body}</tbody></table></div>\n'


def _picture(row: SheetRow, limits: np.ndarray, tile: int, largest: int) -> str:
    """A grey JPEG as a data URL: the cells from left to right, the channels from top to bottom."""
    cells_NCHW = [np.round(255 * stretch(fitted(image, tile, largest), limits)).astype(np.uint8) for image in row.images]
    tiles = [cell[channel] for channel in range(len(limits)) for cell in cells_NCHW]
    return f"data:image/jpeg;base64,{b64encode(sheet_jpeg(tiles, len(row.images), quality=85)).decode('ascii')}"
