"""Intensity statistics of each channel: the baseline that any learned feature should beat, and cheap enough to compute always."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
STATISTICS = ("mean", "std", *(f"p{percentile}" for percentile in PERCENTILES))


def intensity_names(channels: Sequence[str]) -> list[str]:
    """Column names of `intensity_statistics`, in its order: `intensity_<channel>_<statistic>`.

    Example:
        >>> intensity_names(["DNA"])[:3]
        ['intensity_DNA_mean', 'intensity_DNA_std', 'intensity_DNA_p1']
    """
    return [f"intensity_{channel}_{statistic}" for channel in channels for statistic in STATISTICS]


def intensity_statistics(image: np.ndarray) -> np.ndarray:
    """Mean, standard deviation and percentiles of every channel, without any notion of where the pixels are.

    Args:
        image: (C, H, W) uint8, uint16 or float, at its true size: padding would count as background.

    Returns:
        (C * 9,) float32 in the units of the image, all statistics of a channel together.

    Raises:
        ValueError: The image is not (C, H, W) or has no pixels.
    """
    if image.ndim != 3 or image.size == 0:
        raise ValueError(f"An image of shape {image.shape} has no intensity statistics: expected (channels, height, width).")
    channels = image.reshape(len(image), -1)
    if image.dtype == np.uint8:
        return np.concatenate([_of_grey_values(np.bincount(channel)) for channel in channels]).astype(np.float32)
    pixels = channels.astype(np.float32)
    statistics = np.vstack([pixels.mean(axis=1), pixels.std(axis=1), np.percentile(pixels, PERCENTILES, axis=1)])
    return np.asarray(statistics.T.ravel(), dtype=np.float32)


def _of_grey_values(counts: np.ndarray) -> np.ndarray:
    """The statistics of pixels of which `counts[v]` have the grey value v: no pixel is looked at twice, or sorted."""
    values, pixels = np.arange(len(counts)), counts.sum()
    mean = counts @ values / pixels
    deviation = np.sqrt(counts @ (values - mean) ** 2 / pixels)
    places = np.asarray(PERCENTILES) / 100 * (pixels - 1)
    up_to = np.cumsum(counts)
    below, above = (np.searchsorted(up_to, place, side="right") for place in (np.floor(places), np.ceil(places)))
    return np.asarray([mean, deviation, *(below + (above - below) * (places % 1))])
