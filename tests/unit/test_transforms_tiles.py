"""Jigsaw, held to a plain form for one image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transforms_plainly import UNLIKELY, apply, changed, draws, noise

from dino4cells.augment.tiles import Jigsaw


def shuffled_plainly(image: np.ndarray, order: list[int]) -> np.ndarray:
    """One image, tile by tile: place n, counted row by row, gets tile order[n]."""
    result, h, w = image.copy(), image.shape[1] // 4, image.shape[2] // 4
    for place, tile in enumerate(order):
        (to_row, to_column), (row, column) = divmod(place, 4), divmod(tile, 4)
        result[:, to_row * h : (to_row + 1) * h, to_column * w : (to_column + 1) * w] = image[
            :, row * h : (row + 1) * h, column * w : (column + 1) * w
        ]
    return result


@settings(max_examples=40, deadline=None, derandomize=True)
@given(height=st.integers(1, 30), width=st.integers(1, 30), channels=st.integers(1, 12))
def test_tiles_are_shuffled_and_no_pixel_is_lost(height: int, width: int, channels: int) -> None:
    views = noise(5, channels, height, width)

    after = apply(Jigsaw(0.7), views)

    chosen, orders = Jigsaw(0.7).draw(draws(5), channels)
    for view, result, is_chosen, order in zip(views.numpy(), after.numpy(), chosen, orders.tolist(), strict=True):
        assert np.array_equal(result, shuffled_plainly(view, order) if is_chosen else view)
        assert np.array_equal(np.sort(result.reshape(channels, -1)), np.sort(view.reshape(channels, -1)))


def test_every_tile_comes_to_every_place_equally_often() -> None:
    _, orders = Jigsaw().draw(draws(3200), 4)

    for place in range(16):
        assert stats.chisquare(torch.bincount(orders[:, place], minlength=16).numpy()).pvalue > UNLIKELY


@pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
def test_views_are_shuffled_as_often_as_announced(p: float) -> None:
    views = noise(1500, 1, 8, 8)

    assert float(changed(views, apply(Jigsaw(p), views)).double().mean()) == pytest.approx(p, abs=0.05)
