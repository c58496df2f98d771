"""Transforms of single channels, each held to a plain form for one image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from transforms_plainly import UNLIKELY, apply, changed, draws, grey_levels, noise

from dino4cells.augment.channels import (
    GetSpecificChannel,
    RandomGrayscale,
    RandomGrayscaleOfFour,
    RemoveChannel,
    RescaleProtein,
    ThresholdProtein,
)
from dino4cells.augment.intensity import Intensity
from dino4cells.errors import ConfigError

# remove_channel, rescale_protein, Threshold_protein


@pytest.mark.parametrize("channels", [4, 5])
def test_a_marker_channel_is_removed_and_never_the_protein(channels: int) -> None:
    views = noise(4000, channels, 2, 2) + 0.1

    after = apply(RemoveChannel(0.3), views)

    black = (after == 0).all(dim=3).all(dim=2)
    assert (black.sum(dim=1) <= 1).all()
    assert not black[:, 1].any()
    assert not black[:, 4:].any()
    assert float(black.any(dim=1).double().mean()) == pytest.approx(0.3, abs=0.03)
    assert stats.chisquare(black[:, [0, 2, 3]].sum(dim=0).numpy()).pvalue > UNLIKELY
    assert torch.equal(after[~black], views[~black])


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_nothing_is_removed_below_four_channels(channels: int) -> None:
    views = noise(200, channels, 3, 3)

    assert torch.equal(apply(RemoveChannel(1.0), views), views)


def test_the_protein_is_rescaled_by_a_uniform_factor_over_the_images_maximum() -> None:
    views = noise(3000, 4, 4, 4) * 0.4
    views[:, 0, 0, 0] = 0.8  # the maximum of the image is in another channel

    after = apply(RescaleProtein(0.25), views)

    assert torch.equal(after[:, [0, 2, 3]], views[:, [0, 2, 3]])
    chosen = changed(views, after)
    assert float(chosen.double().mean()) == pytest.approx(0.25, abs=0.03)
    factors = (after[chosen, 1, 0, 0] / views[chosen, 1, 0, 0]) * 0.8
    torch.testing.assert_close(after[chosen, 1], views[chosen, 1] * (factors / 0.8)[:, None, None])
    assert stats.kstest(factors.numpy(), stats.uniform(0, 2).cdf).statistic < 0.06


def test_a_rescaled_protein_may_exceed_white_until_something_clamps_it() -> None:
    after = apply(RescaleProtein(1.0), noise(100, 3, 4, 4))

    assert 1.5 < after[:, 1].max() <= 2


def test_protein_below_a_threshold_of_at_most_49_grey_levels_vanishes() -> None:
    ramp = torch.arange(256.0).reshape(16, 16) / 255
    views = ramp.expand(4000, 3, 16, 16)

    after = apply(ThresholdProtein(0.5), views)

    assert torch.equal(after[:, [0, 2]], views[:, [0, 2]])
    thresholds = (after[:, 1].flatten(1) == 0).sum(dim=1)  # level 0 is black in any case: thresholds 0 and 1 look alike
    level = torch.arange(256)
    torch.testing.assert_close(after[:, 1].flatten(1), torch.where(level < thresholds[:, None], torch.zeros(()), level / 255))
    assert thresholds.max() == 49
    assert float((thresholds > 1).double().mean()) == pytest.approx(0.5 * 48 / 50, abs=0.03)
    assert stats.chisquare(torch.bincount(thresholds, minlength=50)[2:].numpy()).pvalue > UNLIKELY


@pytest.mark.parametrize("transform", [RescaleProtein(1.0), ThresholdProtein(1.0)])
def test_an_image_of_one_channel_has_no_protein_to_change(transform: Intensity) -> None:
    views = noise(50, 1, 4, 4)

    assert torch.equal(apply(transform, views), views)


def test_the_protein_is_thresholded_at_whole_grey_levels_of_the_stored_image() -> None:
    """As numpy would do it on the stored image, with the numbers that were drawn."""
    stored = grey_levels(30, 4, 8, 8)

    after = apply(ThresholdProtein(0.7), stored / 255).mul(255).round()

    random = draws(30)
    chosen, thresholds = random.chance(0.7), random.integers(50)
    for image, result, is_chosen, threshold in zip(stored.numpy(), after.numpy(), chosen, thresholds.tolist(), strict=True):
        expected = image.copy()
        if is_chosen:
            expected[1] = np.where(image[1] < threshold, 0, image[1])
        assert np.array_equal(result, expected)


# Get_specific_channel


@pytest.mark.parametrize(("count", "c"), [(1, 0), (3, 2), (4, 1), (12, 11)])
def test_one_channel_is_kept(count: int, c: int) -> None:
    views = noise(5, count, 4, 6)

    assert torch.equal(apply(GetSpecificChannel(c), views), views[:, [c]])
    assert GetSpecificChannel(c).channels_after(count) == 1


def test_a_channel_that_the_images_lack_cannot_be_kept() -> None:
    with pytest.raises(ConfigError, match="the images have 3 channels, and there is no channel 3; give c from 0 to 2"):
        GetSpecificChannel(3).channels_after(3)


# RandomGrayscale


@pytest.mark.parametrize("count", [1, 2, 4, 12])
def test_grey_is_the_mean_of_the_channels_in_each_as_often_as_announced(count: int) -> None:
    views = noise(3000, count, 2, 2)

    after = apply(RandomGrayscale(0.1), views)

    grey = views.mean(dim=1, keepdim=True).expand_as(views)
    is_grey = (after == grey).flatten(1).all(dim=1)
    assert torch.equal(after[~is_grey], views[~is_grey])
    assert float(is_grey.double().mean()) == pytest.approx(0.1, abs=0.03) or count == 1


@pytest.mark.parametrize("count", [1, 4, 5, 8])
def test_grey_of_five_channels_is_that_of_the_first_four(count: int) -> None:
    views = noise(10, count, 3, 3)

    after = apply(RandomGrayscaleOfFour(1.0), views)

    torch.testing.assert_close(after[:, :4], views[:, :4].mean(dim=1, keepdim=True).expand_as(views[:, :4]))
    assert torch.equal(after[:, 4:], views[:, 4:])
