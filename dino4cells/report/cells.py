"""Example cells: one intensity stretch per channel for the whole data set, so that bright and dim cells can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from dino4cells.report.palette import channel_colours

TILE_PIXELS = 140  # shown at 70 CSS pixels or less: sharp on screens of double density
GAP_PIXELS = 6


def stretch_limits(images: Iterable[np.ndarray], channels: Sequence[str]) -> np.ndarray:
    """(C, 2) values that become black and white: the 0.5 and 99.7 percentiles over all given cells.

    A colour photograph (channels red, green, blue) gets one pair for the three, which keeps its hues.
    """
    by_channel: list[list[np.ndarray]] = [[] for _ in channels]
    for image in images:
        for channel, plane in enumerate(image):
            by_channel[channel].append(np.asarray(plane, dtype=np.float32).ravel())
    limits = np.asarray([np.percentile(np.concatenate(pixels), [0.5, 99.7]) for pixels in by_channel])
    if [channel.strip().lower() for channel in channels] == ["red", "green", "blue"]:
        limits[:] = limits[:, 0].min(), limits[:, 1].max()
    limits[:, 1] = np.maximum(limits[:, 1], limits[:, 0] + 1e-6)
    return limits


def stretch(image: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(C, H, W) float in 0..1."""
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]
    return np.asarray(np.clip((np.asarray(image, dtype=np.float32) - low) / (high - low), 0, 1))


def merge(stretched: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """(H, W, 3) float in 0..1: the channels in their colours, added as light adds."""
    return np.asarray(np.clip(np.einsum("chw,ck->hwk", stretched, np.asarray(channel_colours(channels))), 0, 1))


def strip_png(pictures: Sequence[np.ndarray], side: int) -> bytes:
    """Pictures side by side as one PNG, all on the same scale.

    Args:
        pictures: Each (H, W) or (H, W, 3), float in 0..1.
        side: Pixels of the largest picture of the report; smaller ones are centred on black, so that true sizes compare.
    """
    tiles = [_tile(picture, side) for picture in pictures]
    # Dark lines between bright-field pictures would look like part of them.
    bright = np.median(np.concatenate([picture.ravel() for picture in pictures])) > 0.5
    gap = np.full((tiles[0].shape[0], GAP_PIXELS, tiles[0].shape[2]), 255 if bright else 0, dtype=np.uint8)
    row = np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)
    return _png(row)


def _tile(picture: np.ndarray, side: int) -> np.ndarray:
    """(S, S, 1 or 3) uint8: enlarged by whole pixels, which stay visible as squares, or reduced by area."""
    planes = np.atleast_3d(picture)
    canvas = np.zeros((side, side, planes.shape[2]), dtype=np.float32)
    top, left = (side - planes.shape[0]) // 2, (side - planes.shape[1]) // 2
    canvas[top : top + planes.shape[0], left : left + planes.shape[1]] = planes
    pixels = np.round(255 * canvas).astype(np.uint8)
    if side > 2 * TILE_PIXELS:
        image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
        return np.atleast_3d(np.asarray(image.resize((2 * TILE_PIXELS, 2 * TILE_PIXELS), Image.Resampling.BOX)))
    factor = max(1, -(-TILE_PIXELS // side))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _png(pixels: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
