"""Text of others in a line of ours: names of files, labels and reasons, with nothing in it that a terminal or a reader's eye obeys."""

from __future__ import annotations

import json
import re

UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
"""Control characters (the escapes of terminals among them), marks that change the direction of what follows, separators of lines."""


def printable(text: str, longest: int | None = None, *, keep: str = "") -> str:
    """The text with an escape such as `\\x1b` for every character that is obeyed and not seen.

    Args:
        text: of a file, a table or another program.
        longest: characters that are kept of it; all when None.
        keep: control characters that stay, such as a line break of our own.

    Example:
        >>> print(printable("cell\\x1b[31m.png"))
        cell\\x1b[31m.png
    """
    shown = UNSEEN.sub(lambda found: found[0] if found[0] in keep else found[0].encode("unicode_escape").decode(), text)
    return shown if longest is None or len(shown) <= longest else f"{shown[: longest - 1]}…"


def json_text(value: object, indent: int | None = None) -> str:
    """JSON that can be read by eye too: what is obeyed and not seen is escaped, and is the same text to a program.

    Example:
        >>> print(json_text({"label": "\u202eé"}))
        {"label": "\\u202eé"}
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return UNSEEN.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def as_markup(text: str) -> str:
    """Markup of rich that shows the text, whatever it holds."""
    from rich.markup import escape  # not where training runs

    return escape(printable(text))
