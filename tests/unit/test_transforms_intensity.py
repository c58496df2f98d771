"""Intensity transforms of the handbook, each held to a plain form for one image that is written here."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.ndimage import gaussian_filter
from torchvision.transforms import functional as tv

from dino4cells.augment import intensity
from dino4cells.augment.draws import Draws
from dino4cells.errors import ConfigError

UNLIKELY = 1e-4
ALL = [
    intensity.ChangeBrightness(), intensity.ChangeContrast(), intensity.RemoveChannel(0.9), intensity.RescaleProtein(0.9),
    intensity.ThresholdProtein(0.9), intensity.Solarization(0.9), intensity.GaussianBlur(0.9), intensity.ColorJitter(),
    intensity.Normalize(), intensity.SelfNormalize(), intensity.ToTensor(),
]  # fmt: skip


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def apply(transform: intensity.Intensity, views_NCHW: torch.Tensor) -> torch.Tensor:
    return transform.apply(views_NCHW, Draws(torch.arange(len(views_NCHW))))


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


def changed(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    return (before != after).flatten(1).any(dim=1)


@pytest.mark.parametrize("transform", ALL, ids=lambda transform: type(transform).__name__)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 12])
def test_any_number_of_channels_keeps_its_shape_and_its_input(transform: intensity.Intensity, channels: int) -> None:
    views = noise(6, channels, 9, 13)
    before = views.clone()

    after = apply(transform, views)

    assert after.shape == before.shape
    assert after.dtype == torch.float32
    assert torch.equal(views, before)
    if not isinstance(transform, intensity.Normalize | intensity.SelfNormalize):
        assert after.min() >= 0
        assert after.max() <= 1 + 1e-6


@pytest.mark.parametrize("transform", ALL, ids=lambda transform: type(transform).__name__)
def test_black_images_stay_finite_and_black(transform: intensity.Intensity) -> None:
    after = apply(transform, torch.zeros(20, 4, 8, 8))

    assert torch.isfinite(after).all()
    if not isinstance(transform, intensity.Normalize):
        assert (after == 0).all()


@pytest.mark.parametrize("transform", ALL, ids=lambda transform: type(transform).__name__)
def test_a_view_is_changed_alike_in_any_batch(transform: intensity.Intensity) -> None:
    views, keys = noise(12, 4, 16, 16), torch.arange(12)

    together = transform.apply(views, Draws(keys))

    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(transform.apply(views[order], Draws(keys[order])), together[order], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(transform.apply(views[3:4], Draws(keys[3:4])), together[3:4], rtol=1e-6, atol=1e-6)


# Brightness and contrast


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_brightness_multiplies_each_channel_by_its_own_clipped_normal_factor(p: float) -> None:
    views = noise(1500, 3, 4, 4) * 0.25 + 0.01

    after = apply(intensity.ChangeBrightness(p), views)

    factors = (after / views).amin(dim=(2, 3))
    torch.testing.assert_close(after, (views * factors[:, :, None, None]).clamp(0, 1))
    assert follows_the_clipped_normal(factors.flatten(), p)
    assert abs(np.corrcoef(factors[:, 0], factors[:, 1])[0, 1]) < 0.1


def test_brightness_clamps_at_white() -> None:
    after = apply(intensity.ChangeBrightness(0.5), torch.full((200, 1, 2, 2), 0.9))

    assert after.max() == 1
    assert float((after == 1).double().mean()) == pytest.approx(1 - stats.norm(1, 0.5).cdf(1 / 0.9), abs=0.12)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_contrast_moves_each_channel_about_its_own_mean(p: float) -> None:
    views = noise(1500, 3, 4, 4) * 0.02 + 0.45 + torch.tensor([0.0, 0.03, 0.06])[:, None, None]

    after = apply(intensity.ChangeContrast(p), views)

    means = views.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(after.mean(dim=(2, 3), keepdim=True), means, rtol=0, atol=1e-5)
    factors = after.std(dim=(2, 3)) / views.std(dim=(2, 3))
    torch.testing.assert_close(after, means + (views - means) * factors[:, :, None, None], rtol=0, atol=1e-5)
    assert follows_the_clipped_normal(factors.flatten(), p)
    assert abs(np.corrcoef(factors[:, 0], factors[:, 1])[0, 1]) < 0.1


# Channels


@pytest.mark.parametrize("channels", [4, 5])
def test_a_marker_channel_is_removed_and_never_the_protein(channels: int) -> None:
    views = noise(4000, channels, 2, 2) + 0.1

    after = apply(intensity.RemoveChannel(0.3), views)

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

    assert torch.equal(apply(intensity.RemoveChannel(1.0), views), views)


def test_the_protein_is_rescaled_by_a_uniform_factor_over_the_images_maximum() -> None:
    views = noise(3000, 4, 4, 4) * 0.4
    views[:, 0, 0, 0] = 0.8  # the maximum of the image is in another channel

    after = apply(intensity.RescaleProtein(0.25), views)

    assert torch.equal(after[:, [0, 2, 3]], views[:, [0, 2, 3]])
    chosen = changed(views, after)
    assert float(chosen.double().mean()) == pytest.approx(0.25, abs=0.03)
    factors = (after[chosen, 1, 0, 0] / views[chosen, 1, 0, 0]) * 0.8
    below_white = torch.where(after[chosen, 1].amax(dim=(1, 2)) < 1)[0]
    expected = (views[chosen, 1] * (factors / 0.8)[:, None, None]).clamp(0, 1)
    torch.testing.assert_close(after[chosen, 1][below_white], expected[below_white])
    assert stats.kstest(factors.numpy(), stats.uniform(0, 2).cdf).statistic < 0.06


def test_protein_below_a_threshold_of_at_most_49_grey_levels_vanishes() -> None:
    ramp = torch.arange(256.0).reshape(16, 16) / 255
    views = ramp.expand(4000, 3, 16, 16)

    after = apply(intensity.ThresholdProtein(0.5), views)

    assert torch.equal(after[:, [0, 2]], views[:, [0, 2]])
    thresholds = (after[:, 1].flatten(1) == 0).sum(dim=1)  # level 0 is black in any case: thresholds 0 and 1 look alike
    level = torch.arange(256)
    torch.testing.assert_close(after[:, 1].flatten(1), torch.where(level < thresholds[:, None], torch.zeros(()), level / 255))
    assert thresholds.max() == 49
    assert float((thresholds > 1).double().mean()) == pytest.approx(0.5 * 48 / 50, abs=0.03)
    assert stats.chisquare(torch.bincount(thresholds, minlength=50)[2:].numpy()).pvalue > UNLIKELY


@pytest.mark.parametrize("transform", [intensity.RescaleProtein(1.0), intensity.ThresholdProtein(1.0)])
def test_an_image_of_one_channel_has_no_protein_to_change(transform: intensity.Intensity) -> None:
    views = noise(50, 1, 4, 4)

    assert torch.equal(apply(transform, views), views)


# Solarization, blur, jitter


def test_solarization_inverts_the_brighter_half_of_the_grey_levels() -> None:
    levels = torch.arange(256.0)
    views = (levels / 255).reshape(1, 1, 16, 16).expand(1000, 2, 16, 16)

    after = apply(intensity.Solarization(0.2), views)

    chosen = changed(views, after)
    assert float(chosen.double().mean()) == pytest.approx(0.2, abs=0.05)
    assert torch.equal(after[~chosen], views[~chosen])
    inverted = torch.where(levels >= 128, 255 - levels, levels).reshape(16, 16)
    assert ((after[chosen] * 255).round() == inverted).all()


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
@pytest.mark.parametrize("shape", [(24, 31), (8, 8)])
def test_blur_is_scipys_gaussian_filter(sigma: float, shape: tuple[int, int]) -> None:
    views = noise(3, 2, *shape)

    after = apply(intensity.GaussianBlur(1.0, sigma, sigma), views)

    reach = int(3 * sigma + 0.5)
    expected = gaussian_filter(views.numpy(), sigma, axes=(2, 3), mode="mirror", radius=reach)
    np.testing.assert_allclose(after.numpy(), expected, atol=1e-5)


def test_blur_strengths_are_uniform_and_unchosen_views_stay_as_they_are() -> None:
    views = torch.zeros(2000, 1, 13, 13)
    views[:, :, 6, 6] = 1

    after = apply(intensity.GaussianBlur(0.5, 0.5, 2.0), views)

    chosen = changed(views, after)
    assert float(chosen.double().mean()) == pytest.approx(0.5, abs=0.05)
    assert torch.equal(after[~chosen], views[~chosen])
    ratio = after[chosen, 0, 6, 7] / after[chosen, 0, 6, 6]  # exp(−1 / 2σ²)
    assert stats.kstest((-0.5 / ratio.log()).sqrt().numpy(), stats.uniform(0.5, 1.5).cdf).pvalue > UNLIKELY


def test_blur_of_images_smaller_than_its_kernel_keeps_their_mass() -> None:
    after = apply(intensity.GaussianBlur(1.0, 2.0, 2.0), torch.ones(2, 1, 3, 1))

    torch.testing.assert_close(after, torch.ones(2, 1, 3, 1))


@pytest.mark.parametrize(
    ("strengths", "plain"),
    [((0.9, 0, 0), tv.adjust_brightness), ((0, 0.9, 0), tv.adjust_contrast), ((0, 0, 0.9), tv.adjust_saturation)],
    ids=["brightness", "contrast", "saturation"],
)
def test_jitter_of_three_channels_is_torchvisions(
    strengths: tuple[float, float, float], plain: Callable[[torch.Tensor, float], torch.Tensor]
) -> None:
    views = noise(40, 3, 8, 8) * 0.2 + 0.2  # no factor below 1.9 reaches black or white

    after = apply(intensity.ColorJitter(*strengths, p=1.0), views)

    for view, jittered in zip(views, after, strict=True):
        step = 2 * (view - plain(view, 0.5))
        factor = 1 + float(((jittered - view) * step).sum() / (step**2).sum())
        assert 0.09 < factor < 1.91
        torch.testing.assert_close(jittered, plain(view, factor), rtol=0, atol=1e-4)


def test_jitter_comes_with_probability_eight_tenths() -> None:
    views = noise(1000, 4, 4, 4)

    assert float(changed(views, apply(intensity.ColorJitter(), views)).double().mean()) == pytest.approx(0.8, abs=0.05)


# Normalization


@pytest.mark.parametrize("mean", [(0.2,), (0.1, 0.2, 0.3, 0.4)])
def test_normalization_subtracts_and_divides_per_channel(mean: tuple[float, ...]) -> None:
    views = noise(5, 4, 6, 7)

    after = apply(intensity.Normalize(mean, (0.5,)), views)

    for channel in range(4):
        expected = (views[:, channel].numpy() - mean[channel % len(mean)]) / 0.5
        np.testing.assert_allclose(after[:, channel].numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_normalization_for_other_channels_than_the_images_have_is_an_error(channels: int) -> None:
    with pytest.raises(ConfigError, match=rf"'mean' has 3 values and the images have {channels} channels"):
        apply(intensity.Normalize((0.1, 0.2, 0.3), (1.0,)), noise(2, channels, 4, 4))


def test_self_normalization_uses_each_channels_mean_and_population_deviation() -> None:
    views = noise(4, 3, 2, 3)

    after = apply(intensity.SelfNormalize(), views)

    for view, normalized in zip(views.double(), after, strict=True):
        for channel, result in zip(view, normalized, strict=True):
            values = channel.flatten().tolist()
            mean = sum(values) / 6
            deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 6)
            expected = [(value - mean) / (deviation + 1e-7) for value in values]
            np.testing.assert_allclose(result.flatten().numpy(), expected, atol=1e-4)
