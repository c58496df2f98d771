"""What every page is made of: the frame that keeps it to itself, the summary at the top, pictures with captions, tables of facts."""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from dino4cells.report.style import CSS
from dino4cells.report.text import escape

PAGE = 600  # CSS pixels: what is wider is scrolled on many screens, and so must be reached by keyboard
HEADING = re.compile(r"<h2>(.*?)</h2>", re.DOTALL)


@dataclass(frozen=True)
class Fact:
    """A number at the top of a page.

    Attributes:
        name: What it counts.
        value: As it is shown, large.
        more: A few words below, or "".
    """

    name: str
    value: str
    more: str = ""


def document(title: str, sections: Iterable[str], footer: str, scripts: Sequence[str]) -> str:
    """The whole page as HTML; empty sections are left out. Sections are markup, title and footer are text.

    The browser itself is told that nothing may be loaded from elsewhere, and that these scripts alone may run.
    """
    run = [script.replace("</script", "<\\/script") for script in scripts]
    allowed = " ".join(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode('ascii')}'" for script in run)
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<a class="skip" href="#content">To the content</a>\n'
        '<main id="content" tabindex="-1">\n'
        + _with_contents([section for section in sections if section])
        + "\n</main>\n"
        + (f"<footer>{escape(footer)}</footer>\n" if footer else "")
        + "".join(f"<script>{script}</script>\n" for script in run)
        + "</body>\n</html>\n"
    )


def _with_contents(sections: Sequence[str]) -> str:
    """The sections, each with an address, and behind the first one links to the others by their headings."""
    parts, links = [], []
    for number, section in enumerate(sections):
        headings = HEADING.findall(section)
        links += [f'<a href="#part-{number}">{heading}</a>' for heading in headings[:1]]
        parts.append(f'<section id="part-{number}" tabindex="-1">\n{section}\n</section>' if headings else section)
    if len(links) > 2:
        parts.insert(1, f'<nav class="contents" aria-label="Contents">{" ".join(links)}</nav>')
    return "\n".join(parts)


def summary(title: str, lead: str, facts: Sequence[Fact], warnings: Sequence[str]) -> str:
    """The top of a page: headline, one sentence, the main numbers, and what the reader must know."""
    cards = "".join(
        f"<div><dt>{escape(fact.name)}</dt><dd>{escape(fact.value)}{f'<small>{escape(fact.more)}</small>' if fact.more else ''}</dd></div>"
        for fact in facts
    )
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in warnings)
    return f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n<dl class="facts">{cards}</dl>' + (
        f'\n<ul class="warnings" aria-label="Warnings">{items}</ul>' if items else ""
    )


def plot(
    picture: bytes, kind: str, alternative: str, caption: str, *, wide: bool = False, width: int | None = None, narrowest: int = 0
) -> str:
    """A figure.

    Args:
        picture: The file's bytes.
        kind: "png" or "svg+xml".
        alternative: What it shows, for those who do not see it.
        caption: Text below, or "".
        wide: Of the page's width, and on a narrow screen not much less: it is scrolled.
        width: CSS pixels at most.
        narrowest: CSS pixels at least.
    """
    style = f' style="max-width:{width}px; min-width:{min(width, narrowest)}px"' if width else ""
    scrolled = f' tabindex="0" role="region" aria-label="{escape(alternative)}"' if narrowest > PAGE else ""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure class="plot{" wide" if wide else ""}"><div class="scroll"{scrolled}><img{style} src="{_data_url(picture, kind)}" '
        f'alt="{escape(alternative)}"></div>{below}</figure>'
    )


def image(picture: bytes, kind: str, alternative: str, width: int) -> str:
    """A picture alone, `width` CSS pixels wide."""
    return f'<img src="{_data_url(picture, kind)}" alt="{escape(alternative)}" width="{width}">'


def fact_table(rows: Mapping[str, str], *, code: bool = False) -> str:
    """What beside its value, a row each; values that are code or addresses are set as such. "" without rows."""
    cells = {what: f"<code>{escape(value)}</code>" if code else escape(value) for what, value in rows.items()}
    body = "".join(f"<tr><th scope=row>{escape(what)}</th><td>{cell}</td></tr>" for what, cell in cells.items())
    return f'<div class="scroll"><table class="where">{body}</table></div>\n' if body else ""


def folded(title: str, text: str) -> str:
    """Long text such as a configuration, shown when it is asked for; "" without text."""
    lines = "\n".join(escape(line) for line in text.split("\n"))
    return f"<details><summary>{escape(title)}</summary><pre>{lines}</pre></details>" if text else ""


def number_of_cells(count: int) -> str:
    """ "1 cell", "1,234 cells"."""
    return f"{count:,} {'cell' if count == 1 else 'cells'}"


def rate(per_second: float) -> str:
    """Things per second in few digits; a dash where there is none."""
    if not math.isfinite(per_second) or per_second <= 0:
        return "–"
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def _data_url(picture: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(picture).decode('ascii')}"
