"""Text from tables as text: never markup, and with nothing in it that is invisible or turns the text around."""

from __future__ import annotations

import html
import json

from dino4cells.printable import UNSEEN


def visible(text: str) -> str:
    """The text with a replacement character for each one that is not seen.

    Example:
        >>> visible("a\\u202eb")
        'a\ufffdb'
    """
    return UNSEEN.sub("\ufffd", text)


def escape(text: str) -> str:
    """Markup that shows the text."""
    return html.escape(visible(text))


def data_block(name: str, content: object) -> str:
    """An element that is not shown and holds data for the page's scripts: JSON that no label can end."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>'
