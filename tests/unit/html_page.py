"""A page as a browser would find it."""

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ElementTree
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
from PIL import Image

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.data: dict[str, str] = {}
        self.scripts: dict[str, str] = {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in {"style", "script"}:
            self.text += data
        elif self.open[-1] == "script":
            attributes = self.tags[-1][1]
            blocks = self.data if attributes.get("type") == "application/json" else self.scripts
            name = attributes.get("id") or f"script {len([tag for tag, _ in self.tags if tag == 'script'])}"
            blocks[name] = blocks.get(name, "") + data

    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "img"]

    def assert_complete_and_alone(self) -> None:
        """Everything that is opened is closed, nothing is loaded from elsewhere, and every picture is whole and described."""
        assert self.open == []
        for tag, attributes in self.tags:
            assert tag not in {"link", "iframe", "object"}
            for name in ("src", "href", "srcset", "data", "action"):
                assert (attributes.get(name) or "data:").startswith(("data:", "#"))
            assert not any(name.startswith("on") for name in attributes)
        policy = next(attributes["content"] or "" for tag, attributes in self.tags if "http-equiv" in attributes)
        assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
        for script in self.scripts.values():
            assert f"'sha256-{base64.b64encode(sha256(script.encode()).digest()).decode()}'" in policy
        for picture in self.images():
            assert picture["alt"]
            assert is_picture(base64.b64decode((picture["src"] or "").split(",", 1)[1]))


def is_picture(content: bytes) -> bool:
    """Whether these bytes are a whole picture with something on it."""
    if content.startswith((b"\x89PNG", b"\xff\xd8")):
        image = Image.open(io.BytesIO(content))
        image.load()
        return bool(np.asarray(image).std() > 1)
    drawing = ElementTree.fromstring(content)
    shapes, words = (len(list(drawing.iter(f"{{http://www.w3.org/2000/svg}}{tag}"))) for tag in ("path", "text"))
    return drawing.tag.endswith("svg") and shapes > 3 and words > 1
