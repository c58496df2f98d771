"""The scripts of the pages: Bokeh's, from the installed package, and the small ones beside this file; each stands in the page itself."""

from __future__ import annotations

from importlib import resources


def page_scripts(*, cell_map: bool = False, sheet: bool = False) -> list[str]:
    """What a page runs, in order.

    Args:
        cell_map: whether it has the interactive map.
        sheet: whether it has the contact sheet.
    """
    own = [name for name, wanted in (("cells.js", cell_map), ("dots.js", cell_map), ("map.js", cell_map), ("sheet.js", sheet)) if wanted]
    links = _read("links.js")
    if not own:
        return [links]
    return [*(_bokeh() if cell_map else []), "\n".join([*(_read(name) for name in ("page.js", *own)), links])]


def _bokeh() -> list[str]:
    from bokeh.resources import Resources

    return [str(script) for script in Resources("inline", components=["bokeh"], log_level="warn").js_raw]


def _read(name: str) -> str:
    return (resources.files("dino4cells.report") / name).read_text(encoding="utf-8")
