"""Example cells: one intensity stretch per channel for the whole data set, so that bright and dim cells can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from dino4cells.report.palette import channel_colours, shown_together

UNNAMED = ["channel_0", "channel_1", "channel_2"]


def stretch_limits(images: Iterable[np.ndarray], channels: Sequence[str]) -> np.ndarray:
    """(C, 2) values that become black and white: the 0.5 and 99.7 percentiles over all given cells.

    A colour photograph gets one pair for the three, which keeps its hues.
    """
    by_channel: list[list[np.ndarray]] = [[] for _ in channels]
    for image in images:
        for channel, plane in enumerate(image):
            by_channel[channel].append(np.asarray(plane, dtype=np.float32).ravel())
    found = np.asarray([np.percentile(np.concatenate(pixels), [0.5, 50, 99.7]) for pixels in by_channel])
    limits = found[:, [0, 2]]
    if _is_photograph(channels, found):
        limits[:] = limits[:, 0].min(), limits[:, 1].max()
    limits[:, 1] = np.maximum(limits[:, 1], limits[:, 0] + 1e-6)
    return limits


def _is_photograph(channels: Sequence[str], percentiles: np.ndarray) -> bool:
    """Whether these are red, green and blue of a stained smear or section: by their names, or, where nobody named them, since most of it
    is bright in all three; cells that fluoresce lie on black."""
    names = [channel.strip().lower() for channel in channels]
    dark, middle, bright = percentiles.T
    return names == ["red", "green", "blue"] or (names == UNNAMED and bool((middle > (dark + bright) / 2).all()))


def stretch(image: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(C, H, W) float in 0..1."""
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]
    return np.asarray(np.clip((np.asarray(image, dtype=np.float32) - low) / (high - low), 0, 1))


def merge(stretched: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """(H, W, 3) float in 0..1: the channels that are shown together, in their colours, added as light adds."""
    colours = np.asarray(channel_colours(channels)) * np.asarray(shown_together(channels))[:, None]
    return np.asarray(np.clip(np.einsum("chw,ck->hwk", stretched, colours), 0, 1))
