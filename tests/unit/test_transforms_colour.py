"""Colour jitter, held to torchvision's functions for one image, with the numbers that were drawn."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import ColorJitter
from torchvision.transforms import functional as tv
from transforms_plainly import UNLIKELY, apply, changed, draws, noise

from dino4cells.augment import colour
from dino4cells.errors import ConfigError

PLAIN = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
FULL = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}


def jittered_plainly(view: torch.Tensor, order: list[int], factors: list[float]) -> torch.Tensor:
    """torchvision's functions on one image of three channels, one after the other."""
    for number in order:
        view = PLAIN[number](view, factors[number])
    return view


@pytest.mark.parametrize(
    "strengths",
    [{"brightness": 0.9}, {"contrast": 0.9}, {"saturation": 0.9}, {"hue": 0.5}, FULL, {"brightness": (0.2, 3.0), "hue": (-0.4, -0.1)}],
    ids=str,
)
def test_jitter_of_three_channels_is_torchvisions(strengths: dict[str, float]) -> None:
    transform, views = colour.ColorJitter(**strengths), noise(40, 3, 8, 8)

    after = apply(transform, views)

    chosen, orders, factors = transform.draw(draws(40), 3)
    for view, result, is_chosen, order, own in zip(views, after, chosen, orders.tolist(), factors.tolist(), strict=True):
        expected = jittered_plainly(view, order, own) if is_chosen else view
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(pixel=st.tuples(*[st.integers(0, 255)] * 3), shift=st.floats(-0.5, 0.5))
def test_any_colour_is_turned_as_torchvision_turns_it(pixel: tuple[int, int, int], shift: float) -> None:
    view = torch.tensor(pixel).reshape(1, 3, 1, 1) / 255

    after = colour._hue(view, torch.tensor(shift).reshape(1, 1, 1, 1))

    torch.testing.assert_close(after, tv.adjust_hue(view, shift), rtol=0, atol=1e-5)


def test_the_numbers_of_jitter_are_distributed_as_torchvisions() -> None:
    _, orders, factors = colour.ColorJitter(**FULL).draw(draws(4000), 3)
    theirs = ColorJitter(**FULL)
    torch.manual_seed(0)
    other = [ColorJitter.get_params(theirs.brightness, theirs.contrast, theirs.saturation, theirs.hue) for _ in range(4000)]

    for number in range(4):
        assert stats.ks_2samp(factors[:, number].numpy(), [drawn[1 + number] for drawn in other]).pvalue > UNLIKELY
    found = torch.unique(orders, dim=0, return_counts=True)
    assert len(found[0]) == 24
    assert stats.chisquare(found[1].numpy()).pvalue > UNLIKELY


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 12])
def test_images_without_colours_take_brightness_and_contrast_shared_by_their_channels(channels: int) -> None:
    transform, views = colour.ColorJitter(0.4, 0.4, p=1.0), noise(10, channels, 6, 6) * 0.4 + 0.2

    after = apply(transform, views)

    assert transform.channels_after(channels) == channels
    _, orders, factors = transform.draw(draws(10), channels)
    for view, result, order, own in zip(views, after, orders.tolist(), factors.tolist(), strict=True):
        for number in order:
            if number == 0:
                view = (view * own[0]).clamp(0, 1)
            elif number == 1:
                view = (view.mean() + (view - view.mean()) * own[1]).clamp(0, 1)
        torch.testing.assert_close(result, view, rtol=0, atol=1e-5)


def test_jitter_without_strengths_changes_nothing() -> None:
    views = noise(50, 3, 4, 4)

    assert torch.equal(apply(colour.ColorJitter(), views), views)


@pytest.mark.parametrize("transform", [colour.ColorJitter(**FULL), colour.ColorJitterOfThree(), colour.ColorJitterOfThreeOfFour()])
def test_jitter_comes_with_probability_eight_tenths(transform: colour.ColorJitter) -> None:
    views = noise(1000, 3, 4, 4)

    assert float(changed(views, apply(transform, views)).double().mean()) == pytest.approx(0.8, abs=0.05)


# Three channels of more


@pytest.mark.parametrize(("transform", "channels", "among"), [
    (colour.ColorJitterOfThree(p=1.0), 4, 4),
    (colour.ColorJitterOfThree(p=1.0), 7, 7),
    (colour.ColorJitterOfThreeOfFour(p=1.0), 5, 4),
    (colour.ColorJitterOfThreeOfFour(p=1.0), 3, 3),
])  # fmt: skip
def test_three_channels_drawn_at_random_are_jittered_as_red_green_and_blue(
    transform: colour.ColorJitterOfThree, channels: int, among: int
) -> None:
    views = noise(60, channels, 6, 6)

    after = apply(transform, views)

    triples, _, orders, factors = transform.draw(draws(60), channels)
    assert int(triples.max()) == among - 1
    for view, result, triple, order, own in zip(views, after, triples.tolist(), orders.tolist(), factors.tolist(), strict=True):
        expected = view.clone()
        expected[triple] = jittered_plainly(view[triple], order, own)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)


def test_every_ordered_triple_of_four_channels_is_drawn_equally_often() -> None:
    triples, counts = torch.unique(colour.ColorJitterOfThree().draw(draws(4800), 4)[0], dim=0, return_counts=True)

    assert len(triples) == 24
    assert all(len(set(triple)) == 3 for triple in triples.tolist())
    assert stats.chisquare(counts.numpy()).pvalue > UNLIKELY


# Where there is no colour


@pytest.mark.parametrize("channels", [2, 4, 5, 12])
@pytest.mark.parametrize("strengths", [{"saturation": 0.2}, {"hue": 0.1}, {"saturation": (0.5, 1.5)}])
def test_saturation_and_hue_of_other_numbers_of_channels_are_refused(channels: int, strengths: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"have {channels} channels, and only three have saturation and hue; take ColorJitter_for_RGBA"):
        colour.ColorJitter(**strengths).channels_after(channels)


@pytest.mark.parametrize("transform", [colour.ColorJitterOfThree(), colour.ColorJitterOfThreeOfFour()])
def test_three_channels_cannot_be_drawn_of_two(transform: colour.ColorJitterOfThree) -> None:
    with pytest.raises(ConfigError, match="have 2 channels, and three are jittered together"):
        transform.channels_after(2)
