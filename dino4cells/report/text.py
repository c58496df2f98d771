"""Text from tables as text: never markup, and with nothing in it that is invisible or turns the text around."""

from __future__ import annotations

import html
import json
import re

# Control characters, marks that change the direction of what follows, separators of lines: shown, not obeyed.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


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
