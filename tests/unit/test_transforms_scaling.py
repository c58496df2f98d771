"""Normalization of pixel values, held to numbers worked out one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transforms_plainly import apply, noise

from dino4cells.augment import scaling
from dino4cells.errors import ConfigError


@pytest.mark.parametrize("mean", [(0.2,), (0.1, 0.2, 0.3, 0.4)])
def test_normalization_subtracts_and_divides_per_channel(mean: tuple[float, ...]) -> None:
    views = noise(5, 4, 6, 7)

    after = apply(scaling.Normalize(mean, (0.5,)), views)

    for channel in range(4):
        expected = (views[:, channel].numpy() - mean[channel % len(mean)]) / 0.5
        np.testing.assert_allclose(after[:, channel].numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_normalization_for_other_channels_than_the_images_have_is_an_error(channels: int) -> None:
    with pytest.raises(ConfigError, match=rf"mean has 3 numbers and the images have {channels} channels; give one each, or one for all"):
        scaling.Normalize((0.1, 0.2, 0.3), (1.0,)).channels_after(channels)
    assert scaling.Normalize((0.1, 0.2, 0.3), (1.0,)).channels_after(3) == 3


def test_self_normalization_uses_each_channels_mean_and_population_deviation() -> None:
    views = noise(4, 3, 2, 3)

    after = apply(scaling.SelfNormalize(), views)

    for view, normalized in zip(views.double(), after, strict=True):
        for channel, result in zip(view, normalized, strict=True):
            values = channel.flatten().tolist()
            mean = sum(values) / 6
            deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 6)
            expected = [(value - mean) / (deviation + 1e-7) for value in values]
            np.testing.assert_allclose(result.flatten().numpy(), expected, atol=1e-4)


def test_black_pixels_do_not_count_for_the_mean_and_the_deviation_of_the_others() -> None:
    views = noise(4, 3, 6, 7) + 0.1
    views[:, :, :, 5:] = 0  # as zeros around a cell
    views[0, 1] = 0

    after = apply(scaling.SelfNormalizeWithoutBlackPixels(), views)

    for view, normalized in zip(views.double().numpy(), after.numpy(), strict=True):
        for channel, result in zip(view, normalized, strict=True):
            seen = channel[channel > 0]
            expected = (channel - seen.mean()) / (seen.std() + 1e-7) if len(seen) else channel
            np.testing.assert_allclose(result, expected, atol=1e-4)


def test_without_black_pixels_the_deviation_is_one() -> None:
    """The original subtracts the mean and then divides by 1, whatever the deviation is."""
    normalized = apply(scaling.SelfNormalizeWithoutBlackPixels(), noise(3, 2, 20, 20) * 0.1 + 0.01)

    torch.testing.assert_close(normalized.std(dim=(2, 3), correction=0), torch.ones(3, 2), rtol=0, atol=1e-4)


def test_an_image_is_normalized_alike_however_many_zeros_surround_it() -> None:
    view = noise(1, 2, 8, 8) + 0.1

    alone, padded = (apply(scaling.SelfNormalizeWithoutBlackPixels(), F.pad(view, (around,) * 4)) for around in (0, 9))

    torch.testing.assert_close(padded[:, :, 9:-9, 9:-9], alone, rtol=0, atol=1e-4)
