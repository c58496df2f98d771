"""The contact sheet: a few cells in each row, merged and channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from dino4cells.report.cells import merge, stretch, stretch_limits, strip_png
from dino4cells.report.elements import image
from dino4cells.report.palette import channel_colours, css

MOST_EXAMPLES = 4
SHEET_WIDTH = 690  # CSS pixels for the pictures of one row
SHEET_TILES = 12


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
    columns = _columns(channels)
    count = min(cells_in_a_row(channels), max(len(row.images) for row in shown))
    side = max(max(picture.shape[1:]) for row in shown for picture in row.images[:count])
    tile = min(96, max(56, SHEET_WIDTH // (columns * count)))
    head = "<th></th>" + ("<th scope=col>merged</th>" if len(channels) > 1 else "")
    for channel, colour in zip(channels, channel_colours(channels), strict=True):
        swatch = f'<span class="swatch" style="background:{css(colour)}"></span>' if len(channels) > 1 else ""
        head += f"<th scope=col>{swatch}{escape(channel)}</th>"
    body = ""
    for row in shown:
        stretched = [stretch(picture, limits) for picture in row.images[:count]]
        body += f"<tr><th scope=row>{escape(row.name)}<small>{escape(row.more)}</small></th>"
        width = tile * len(stretched)
        if len(channels) > 1:
            merged = [merge(picture, channels) for picture in stretched]
            body += f"<td>{image(strip_png(merged, side), 'png', f'{row.name}, merged', width)}</td>"
        for index, channel in enumerate(channels):
            planes = [picture[index] for picture in stretched]
            body += f"<td>{image(strip_png(planes, side), 'png', f'{row.name}, {channel}', width)}</td>"
        body += "</tr>"
    same = "the same cell" if count == 1 else f"the same {count} cells"
    dots = "; dots mark the colour of a channel in the merged picture" if len(channels) > 1 else ""
    return (
        "<h2>Example cells</h2>\n"
        f'<p class="quiet">In a row, every column shows {same}{dots}. Black and white mean the same intensity in all rows, '
        "so brightness can be compared.</p>\n"
        f'<div class="scroll"><table class="cells"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def cells_in_a_row(channels: Sequence[str]) -> int:
    """Cells of a row that are shown: fewer with more channels."""
    return min(max(1, SHEET_TILES // _columns(channels)), MOST_EXAMPLES)


def _columns(channels: Sequence[str]) -> int:
    return len(channels) + (len(channels) > 1)
