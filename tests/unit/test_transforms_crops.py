"""Random crops: where they lie, how large they are, how often."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as tv
from transforms_plainly import NEAR, UNLIKELY, draws, noise, sizes, views

from dino4cells.augment import crops
from dino4cells.augment.geometry import Geometric


def boxes(transform: Geometric, count: int, height: int, width: int, size: int) -> torch.Tensor:
    """(count, 4): left, top, width and height of the crops in pixels."""
    maps, outputs = transform.homography(sizes(count, height, width), draws(count))
    assert (outputs == size).all()
    return torch.stack([maps[:, 0, 2], maps[:, 1, 2], maps[:, 0, 0] * size, maps[:, 1, 1] * size], dim=1)


# RandomResizedCrop


@pytest.mark.parametrize("height_width", [(200, 200), (160, 240)])
def test_crops_have_the_areas_and_ratios_that_were_asked_for(height_width: tuple[int, int]) -> None:
    height, width = height_width
    _, _, w, h = boxes(crops.RandomResizedCrop(48, (0.1, 0.4)), 8000, height, width, 48).unbind(1)

    area, ratio = w * h / (height * width), w / h
    assert area.min() > 0.1 * 0.97
    assert area.max() < 0.4 * 1.03
    assert ratio.min() > 0.75 * 0.97
    assert ratio.max() < 4 / 3 * 1.03
    assert stats.kstest(area.numpy(), stats.uniform(0.1, 0.3).cdf).statistic < 0.02
    log_ratio = stats.uniform(math.log(3 / 4), math.log(16 / 9))
    assert stats.kstest(ratio.log().numpy(), log_ratio.cdf).statistic < 0.03


def test_crops_lie_inside_and_reach_every_corner() -> None:
    left, top, w, h = boxes(crops.RandomResizedCrop(32, (0.3, 0.6)), 4000, 60, 90, 32).unbind(1)

    for start, length, end in ((left, w, 90), (top, h, 60)):
        assert start.min() == 0
        assert (start + length).max().round() == end
        assert torch.equal(start, start.round())
        torch.testing.assert_close(length, length.round(), **NEAR)
        room = end - length.round()
        place = (start / room)[room > 15]
        assert float(place.mean()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("height", "width", "box"), [(20, 100, (36, 0, 27, 20)), (100, 20, (0, 36, 20, 27)), (30, 30, (0, 0, 30, 30))])
def test_where_no_crop_fits_the_largest_one_in_the_middle_is_taken(height: int, width: int, box: tuple[int, ...]) -> None:
    ratio = (3 / 4, 4 / 3) if height != width else (0.999, 1.0)
    found = boxes(crops.RandomResizedCrop(32, (0.9999, 1.0), ratio), 50, height, width, 32)

    torch.testing.assert_close(found, torch.tensor(box, dtype=torch.float32).expand(50, 4), **NEAR)


def test_each_sample_of_a_batch_is_cropped_by_its_own_size() -> None:
    mixed = torch.tensor([[40.0, 40], [400, 100], [90, 300]]).repeat(500, 1)
    maps, _ = crops.RandomResizedCrop(32, (0.2, 0.9)).homography(mixed, draws(1500))

    corner = maps @ torch.tensor([32.0, 32, 1])
    assert (corner[:, 0] <= mixed[:, 1] + 1e-3).all()
    assert (corner[:, 1] <= mixed[:, 0] + 1e-3).all()
    area = maps[:, 0, 0] * maps[:, 1, 1] * 32**2 / mixed.prod(dim=1)
    assert area.min() > 0.15
    assert area.max() < 0.95


# RandomResizedCenterCrop


@pytest.mark.parametrize(("depth", "s", "deviation"), [(1_000_000, 1.0, 0.103), (1_000_000, 0.7, 0.072), (5000, 0.5, 0.068)])
def test_centre_crops_are_squares_whose_place_is_normal_around_the_centre(depth: int, s: float, deviation: float) -> None:
    left, top, w, h = boxes(crops.RandomResizedCenterCrop(48, (0.4, 0.6), depth=depth, s=s), 4000, 2000, 2600, 48).unbind(1)

    torch.testing.assert_close(w, h)
    assert stats.kstest((w / 2000).numpy(), stats.uniform(0.4, 0.2).cdf).statistic < 0.03
    for place in (left / (2600 - w), top / (2000 - h)):
        assert stats.kstest(place.numpy(), stats.norm(0.5, deviation).cdf).pvalue > UNLIKELY


@pytest.mark.parametrize("depth", [100, 5000])
def test_the_borders_of_centre_crops_are_the_expected_extremes_of_normal_numbers(depth: int) -> None:
    """The original draws `depth` numbers once and takes their extremes; the mean over many such samples is what is drawn here."""
    random = np.random.default_rng(0)
    samples = random.normal(size=(400, depth))
    spreads = 1 / (samples.max(axis=1) - samples.min(axis=1))

    assert crops.RandomResizedCenterCrop(48, depth=depth).deviation == pytest.approx(1 / np.mean(1 / spreads), rel=0.03)
    assert spreads.std() > 0.04 * spreads.mean()  # what one sample would have left to chance


def test_every_centre_crop_of_a_seed_has_its_place_whatever_was_drawn_before() -> None:
    first = boxes(crops.RandomResizedCenterCrop(48), 50, 200, 200, 48)
    torch.manual_seed(7)

    assert torch.equal(first, boxes(crops.RandomResizedCenterCrop(48), 50, 200, 200, 48))


@pytest.mark.parametrize("s", [1.0, 5.0, 50.0])
def test_centre_crops_never_leave_the_image(s: float) -> None:
    left, top, w, _ = boxes(crops.RandomResizedCenterCrop(48, (0.4, 1.0), s=s), 2000, 60, 80, 48).unbind(1)

    assert min(left.min(), top.min()) >= 0
    assert (left + w).max() <= 80 + 1e-3
    assert (top + w).max() <= 60 + 1e-3


# Held to torchvision, one image at a time


@settings(max_examples=30, deadline=None, derandomize=True)
@given(height=st.integers(4, 60), width=st.integers(4, 60), low=st.floats(0.05, 0.9), seed=st.integers(0, 1000))
def test_a_crop_shows_what_torchvision_shows_of_the_drawn_box(height: int, width: int, low: float, seed: int) -> None:
    transform, image = crops.RandomResizedCrop(3, (low, 1.0)), noise(2, height, width, seed=seed)
    left, top, w, h = (round(float(number)) for number in boxes(transform, 1, height, width, 3)[0])

    seen = views(transform, image, 1)[0]

    assert 0 <= left <= left + w <= width
    assert 0 <= top <= top + h <= height
    if min(w, h) >= 3:  # where a crop is enlarged, its rim sees the neighbours (test_homography.py)
        expected = tv.resized_crop(image, top, left, h, w, [3, 3], InterpolationMode.BILINEAR, antialias=False)
        torch.testing.assert_close(seen, expected, **NEAR)


def test_crops_are_distributed_as_torchvisions() -> None:
    found = boxes(crops.RandomResizedCrop(8, (0.3, 1.0)), 3000, 40, 70, 8).numpy()
    torch.manual_seed(0)
    theirs = [RandomResizedCrop.get_params(torch.zeros(1, 40, 70), [0.3, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)]

    for mine, other in zip((found[:, 1], found[:, 0], found[:, 3], found[:, 2]), np.array(theirs).T, strict=True):
        assert stats.ks_2samp(mine.round(), other).pvalue > UNLIKELY
