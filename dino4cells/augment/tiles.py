"""Jigsaw: the tiles of an image in another order (HANDBOOK, Transforms).

Dimensions: N samples of a view, C channels, H height, W width, T = 16 tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from dino4cells.augment.draws import Draws
from dino4cells.augment.intensity import Commutes, Drawn, Intensity, where_chosen
from dino4cells.augment.parameters import Probability

TILES = 4


@dataclass(frozen=True)
class Jigsaw(Intensity):
    """Shuffles the 4×4 tiles of a view, all channels alike, with probability p.

    Tiles are equal: rows and columns that are left over where a side is no multiple of four stay at the lower and right border.
    """

    commutes: ClassVar[Commutes] = Commutes.NOT

    p: Probability = 0.2

    def draw(self, draws: Draws, channels: int) -> Drawn:
        """Whether each sample is shuffled (N,), and which tile comes to each place, counted row by row, (N, T)."""
        return draws.chance(self.p), draws.uniform(each=TILES**2).argsort(dim=1)

    def change(self, views_NCHW: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        chosen, order_NT = drawn
        count, channels, height, width = views_NCHW.shape
        h, w = height // TILES, width // TILES
        if not h or not w:
            return views_NCHW
        inner = views_NCHW[:, :, : TILES * h, : TILES * w]
        tiles_NTChw = inner.reshape(count, channels, TILES, h, TILES, w).permute(0, 2, 4, 1, 3, 5).reshape(count, TILES**2, channels, h, w)
        moved = tiles_NTChw[torch.arange(count, device=views_NCHW.device)[:, None], order_NT]
        shuffled = views_NCHW.clone()
        shuffled[:, :, : TILES * h, : TILES * w] = (
            moved.reshape(count, TILES, TILES, channels, h, w).permute(0, 3, 1, 4, 2, 5).reshape(inner.shape)
        )
        return where_chosen(chosen, shuffled, views_NCHW)
