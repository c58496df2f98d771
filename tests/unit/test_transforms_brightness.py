"""Brightness, contrast, solarization and blur, each held to a plain form for one image."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from scipy import stats
from scipy.ndimage import gaussian_filter
from torchvision.transforms import functional as tv
from transforms_plainly import UNLIKELY, apply, changed, draws, grey_levels, noise

from dino4cells.augment import brightness
from dino4cells.augment.intensity import Intensity


def follows_the_clipped_normal(factors: torch.Tensor, p: float) -> bool:
    """Whether factors are distributed as max(N(1, p), 0.5): so many at 0.5, and the normal above."""
    at_half = factors < 0.5 + 1e-4
    share, above = float(at_half.double().mean()), factors[~at_half].numpy()
    announced = stats.norm(1, p).cdf(0.5)
    return (
        bool((factors > 0.5 - 1e-4).all())
        and abs(share - announced) < 4 * math.sqrt(announced / factors.numel())
        and bool(stats.kstest(above, stats.truncnorm(-0.5 / p, math.inf, 1, p).cdf).pvalue > UNLIKELY)
    )


# Brightness and contrast


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_brightness_multiplies_each_channel_by_its_own_clipped_normal_factor(p: float) -> None:
    views = noise(1500, 3, 4, 4) * 0.25 + 0.01

    after = apply(brightness.ChangeBrightness(p), views)

    factors = (after / views).amin(dim=(2, 3))
    torch.testing.assert_close(after, (views * factors[:, :, None, None]).clamp(0, 1))
    assert follows_the_clipped_normal(factors.flatten(), p)
    assert abs(np.corrcoef(factors[:, 0], factors[:, 1])[0, 1]) < 0.1


def test_brightness_clamps_at_white() -> None:
    after = apply(brightness.ChangeBrightness(0.5), torch.full((200, 1, 2, 2), 0.9))

    assert after.max() == 1
    assert float((after == 1).double().mean()) == pytest.approx(1 - stats.norm(1, 0.5).cdf(1 / 0.9), abs=0.12)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_contrast_moves_each_channel_about_its_own_mean(p: float) -> None:
    views = noise(1500, 3, 4, 4) * 0.02 + 0.45 + torch.tensor([0.0, 0.03, 0.06])[:, None, None]

    after = apply(brightness.ChangeContrast(p), views)

    means = views.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(after.mean(dim=(2, 3), keepdim=True), means, rtol=0, atol=1e-5)
    factors = after.std(dim=(2, 3)) / views.std(dim=(2, 3))
    torch.testing.assert_close(after, means + (views - means) * factors[:, :, None, None], rtol=0, atol=1e-5)
    assert follows_the_clipped_normal(factors.flatten(), p)
    assert abs(np.corrcoef(factors[:, 0], factors[:, 1])[0, 1]) < 0.1


@pytest.mark.parametrize("plain", [tv.adjust_brightness, tv.adjust_contrast])
def test_brightness_and_contrast_are_torchvisions_of_each_channel(plain: Callable[[torch.Tensor, float], torch.Tensor]) -> None:
    """With the numbers that were drawn, one image and one channel at a time, as the original does it."""
    transform = brightness.ChangeBrightness(0.5) if plain is tv.adjust_brightness else brightness.ChangeContrast(0.5)
    views = noise(20, 5, 6, 7)

    after = apply(transform, views)

    factors = draws(20).normal(1.0, 0.5, each=5).clamp(min=0.5)
    for view, changed_view, factors_of_view in zip(views, after, factors, strict=True):
        for channel, changed_channel, factor in zip(view, changed_view, factors_of_view.tolist(), strict=True):
            torch.testing.assert_close(changed_channel, plain(channel[None], factor)[0], rtol=0, atol=1e-5)


# Solarization, blur


def test_solarization_inverts_the_brighter_half_of_the_grey_levels() -> None:
    levels = torch.arange(256.0)
    views = (levels / 255).reshape(1, 1, 16, 16).expand(1000, 2, 16, 16)

    after = apply(brightness.Solarization(0.2), views)

    chosen = changed(views, after)
    assert float(chosen.double().mean()) == pytest.approx(0.2, abs=0.05)
    assert torch.equal(after[~chosen], views[~chosen])
    inverted = torch.where(levels >= 128, 255 - levels, levels).reshape(16, 16)
    assert ((after[chosen] * 255).round() == inverted).all()


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
@pytest.mark.parametrize("shape", [(24, 31), (8, 8)])
def test_blur_is_scipys_gaussian_filter(sigma: float, shape: tuple[int, int]) -> None:
    views = noise(3, 2, *shape)

    after = apply(brightness.GaussianBlur(1.0, sigma, sigma), views)

    reach = int(3 * sigma + 0.5)
    expected = gaussian_filter(views.numpy(), sigma, axes=(2, 3), mode="nearest", radius=reach)
    np.testing.assert_allclose(after.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_blur_is_pillows_but_for_its_boxes_and_rounding(sigma: float) -> None:
    """Also at the border, beyond which both go on as the border is."""
    stored = grey_levels(1, 1, 40, 40)
    stored[:, :, :6] = 255

    after = apply(brightness.GaussianBlur(1.0, sigma, sigma), stored / 255)[0, 0] * 255

    pillows = np.asarray(Image.fromarray(stored[0, 0].byte().numpy()).filter(ImageFilter.GaussianBlur(sigma)), dtype=float)
    difference = np.abs(after.numpy() - pillows)
    assert difference.mean() < 0.05 * stored.std()
    assert difference[:2].max() < 3


def test_solarization_is_pillows_of_the_stored_image() -> None:
    stored = grey_levels(1, 3, 20, 20)

    after = apply(brightness.Solarization(1.0), stored / 255)[0].mul(255).round().byte()

    for before, solarized in zip(stored[0], after, strict=True):
        assert np.array_equal(solarized.numpy(), np.asarray(ImageOps.solarize(Image.fromarray(before.byte().numpy()))))


@pytest.mark.parametrize(
    ("of_four", "plain"),
    [
        (brightness.SolarizationOfFour(1.0), brightness.Solarization(1.0)),
        (brightness.GaussianBlurOfFour(1.0, 1.0, 1.0), brightness.GaussianBlur(1.0, 1.0, 1.0)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3, 4, 5, 7])
def test_variants_for_five_channels_change_the_first_four_and_leave_the_others(of_four: Intensity, plain: Intensity, channels: int) -> None:
    views = noise(3, channels, 10, 10)

    after = apply(of_four, views)

    torch.testing.assert_close(after[:, :4], apply(plain, views[:, :4]))
    assert torch.equal(after[:, 4:], views[:, 4:])


def test_blur_strengths_are_uniform_and_unchosen_views_stay_as_they_are() -> None:
    views = torch.zeros(2000, 1, 13, 13)
    views[:, :, 6, 6] = 1

    after = apply(brightness.GaussianBlur(0.5, 0.5, 2.0), views)

    chosen = changed(views, after)
    assert float(chosen.double().mean()) == pytest.approx(0.5, abs=0.05)
    assert torch.equal(after[~chosen], views[~chosen])
    ratio = after[chosen, 0, 6, 7] / after[chosen, 0, 6, 6]  # exp(−1 / 2σ²)
    assert stats.kstest((-0.5 / ratio.log()).sqrt().numpy(), stats.uniform(0.5, 1.5).cdf).pvalue > UNLIKELY


def test_blur_of_images_smaller_than_its_kernel_keeps_their_mass() -> None:
    after = apply(brightness.GaussianBlur(1.0, 2.0, 2.0), torch.ones(2, 1, 3, 1))

    torch.testing.assert_close(after, torch.ones(2, 1, 3, 1))
