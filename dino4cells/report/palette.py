"""Colours that stay apart for colour-blind readers, and the colours microscopists expect for their channels."""

from __future__ import annotations

from collections.abc import Sequence

# Okabe and Ito (2008) without yellow, which vanishes on white, and grey for black, which vanishes on black: seven colours, and five
# shapes for what seven colours cannot tell.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A7A7A")
MARKERS = ("circle", "triangle", "square", "diamond", "star")
PALE, PALE_ON_DARK = "#c3c8ce", "#4a525a"

Colour = tuple[float, float, float]
GREY: Colour = (0.65, 0.65, 0.65)

# Words in a channel's name and the colour that such a stain usually gets (red, green, blue in 0..1).
_STAINS: tuple[tuple[tuple[str, ...], Colour], ...] = (
    (("bright", "phase", "dic", "transmitted", "dark"), GREY),
    (("nucle", "dna", "dapi", "hoechst", "draq", "blue"), (0.15, 0.35, 1.0)),
    (("green", "gfp", "protein", "fitc", "488"), (0.0, 1.0, 0.2)),
    (("reticulum", "yellow"), (1.0, 0.9, 0.0)),
    (("actin", "phalloidin", "red", "membrane"), (1.0, 0.15, 0.1)),
    (("tubul",), (1.0, 0.15, 0.1)),
    (("mito",), (1.0, 0.5, 0.0)),
    (("golgi",), (1.0, 0.3, 0.9)),
)
_SPARE = ((1.0, 0.15, 0.1), (0.0, 1.0, 0.2), (0.15, 0.35, 1.0), (1.0, 0.9, 0.0), (1.0, 0.2, 0.9), (0.0, 0.9, 0.9), (1.0, 0.5, 0.0))


def channel_colours(channels: Sequence[str]) -> list[Colour]:
    """(red, green, blue) in 0..1 for each channel: by the name where it is a known stain and the colour is free, else the next free one;
    grey where all are taken."""
    chosen = _own_colours(channels)
    return [chosen.get(index, GREY) for index in range(len(channels))]


def shown_together(channels: Sequence[str]) -> list[bool]:
    """Which channels a merged picture holds: those that have a colour of their own. More would add up to white."""
    chosen = _own_colours(channels)
    return [index in chosen for index in range(len(channels))]


def _own_colours(channels: Sequence[str]) -> dict[int, Colour]:
    """Place of a channel → its colour, which no other has."""
    if [channel.strip().lower() for channel in channels] == ["red", "green", "blue"]:
        return dict(enumerate([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]))
    chosen: dict[int, Colour] = {}
    for index, channel in enumerate(channels):
        colour = _stain_colour(channel)
        if colour is not None and colour not in chosen.values():
            chosen[index] = colour
    free = [colour for colour in _SPARE if colour not in chosen.values()]
    without = [index for index in range(len(channels)) if index not in chosen]
    return {**chosen, **dict(zip(without, free, strict=False))}


def _stain_colour(channel: str) -> Colour | None:
    words = channel.lower()
    if words in {"er", "rna"}:
        return (1.0, 0.9, 0.0)
    return next((colour for stems, colour in _STAINS if any(stem in words for stem in stems)), None)


def luminance(colour: Sequence[float]) -> float:
    """Relative luminance, 0 to 1, of (red, green, blue) in 0..1 (WCAG 2.2, from sRGB)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def css(colour: Colour) -> str:
    """A colour as CSS takes it."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)
