"""What holds for every transform: any number of channels, no image changed in place, the same view in any batch."""

from __future__ import annotations

import pytest
import torch
from transforms_plainly import grey_levels, noise

from dino4cells.augment.draws import Draws
from dino4cells.augment.intensity import Commutes, Gain, Intensity
from dino4cells.augment.registry import TRANSFORMS, build_transform
from dino4cells.augment.stages import Transform
from dino4cells.augment.views import ViewKind
from dino4cells.errors import ConfigError

LIKELY = {"p": 0.9}
PARAMETERS: dict[str, dict[str, object]] = {
    "RandomResizedCrop": {"size": 16}, "RandomResizedCenterCrop": {"size": 16}, "RandomResizedCrop_for_5_channels": {"size": 16},
    "Get_specific_channel": {"c": 0}, "Normalize": {"mean": 0.4, "std": 0.2},
    "ColorJitter": {"brightness": 0.4, "contrast": 0.4},
    **{name: LIKELY for name in ("remove_channel", "rescale_protein", "Threshold_protein", "Solarization", "Jigsaw", "GaussianBlur")},
    **{name: {"size": 16} for name in TRANSFORMS if name.startswith("Single_cell") or name == "FA_resize"},
}  # fmt: skip
EVERY = {name: build_transform(name, PARAMETERS.get(name), lambda *_: "here") for name in TRANSFORMS}
INTENSITY = {name: transform for name, transform in EVERY.items() if isinstance(transform, Intensity)}
NEEDS_THREE = {"ColorJitter_for_RGBA", "ColorJitter_for_5_channels"}


def made(transform: Transform, images_BCHW: torch.Tensor, keys_BV: torch.Tensor) -> torch.Tensor:
    sizes = torch.tensor([images_BCHW.shape[2:]] * len(images_BCHW))
    return ViewKind((transform,)).make(images_BCHW, sizes, keys_BV)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
def test_any_number_of_channels_is_taken_where_the_operation_allows_it(name: str, channels: int) -> None:
    images, keys = noise(2, channels, 14, 14), torch.arange(6).reshape(2, 3)

    if name in NEEDS_THREE and channels < 3:
        with pytest.raises(ConfigError, match=f"the images have {channels} channels, and three are jittered together"):
            made(EVERY[name], images, keys)
        return
    views = made(EVERY[name], images, keys)

    assert views.shape[:3] == (3, 2, 1 if name == "Get_specific_channel" else channels)
    assert views.dtype == torch.float32
    assert torch.isfinite(views).all()


@pytest.mark.parametrize("name", EVERY)
def test_the_image_that_the_views_share_is_never_changed(name: str) -> None:
    """The original changes the protein, a channel, brightness and contrast in the image that its ten views share."""
    images = noise(3, 4, 15, 15)
    before = images.clone()

    made(EVERY[name], images, torch.arange(30).reshape(3, 10))

    assert torch.equal(images, before)


@pytest.mark.parametrize("name", INTENSITY)
def test_no_intensity_transform_changes_its_argument(name: str) -> None:
    views = noise(8, 4, 9, 13)
    before = views.clone()

    after = INTENSITY[name].apply(views, Draws(torch.arange(8)))

    assert torch.equal(views, before)
    assert after.shape[2:] == before.shape[2:]


@pytest.mark.parametrize("name", INTENSITY)
def test_black_images_stay_finite_and_black(name: str) -> None:
    after = INTENSITY[name].apply(torch.zeros(20, 4, 8, 8), Draws(torch.arange(20)))

    assert torch.isfinite(after).all()
    if name != "Normalize":
        assert (after == 0).all()


@pytest.mark.parametrize("name", EVERY)
def test_a_view_is_the_same_in_any_batch_and_order(name: str) -> None:
    images, keys = noise(6, 4, 16, 16), torch.arange(12).reshape(6, 2)

    together = made(EVERY[name], images, keys)

    for rows in ([5, 4, 3, 2, 1, 0], [3], [2, 0]):
        torch.testing.assert_close(made(EVERY[name], images[rows], keys[rows]), together[:, rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", INTENSITY)
def test_what_is_said_to_commute_with_flips_and_turns_does(name: str) -> None:
    views, transform = grey_levels(6, 4, 12, 12) / 255, INTENSITY[name]
    before, after = (
        change(order(views))
        for change, order in (
            (lambda given: transform.apply(given, Draws(torch.arange(6))), lambda given: torch.rot90(given, 1, (2, 3)).flip(3)),
            (lambda given: torch.rot90(transform.apply(given, Draws(torch.arange(6))), 1, (2, 3)).flip(3), lambda given: given),
        )
    )

    if transform.commutes >= Commutes.WITH_SYMMETRIES:
        torch.testing.assert_close(before, after, rtol=0, atol=1e-5)
    else:
        assert (before - after).abs().max() > 0.1


@pytest.mark.parametrize("name", [name for name, transform in INTENSITY.items() if transform.commutes is Commutes.ALWAYS])
def test_what_is_said_to_commute_with_every_resampling_is_linear_in_each_channel(name: str) -> None:
    """A channel is kept, dropped or zeroed, whatever is in it: then any weighted mean of pixels may be taken before or after."""
    transform, one, other = INTENSITY[name], noise(40, 4, 3, 3), noise(40, 4, 3, 3, seed=1)

    def change(views: torch.Tensor) -> torch.Tensor:
        return transform.apply(views, Draws(torch.arange(40)))

    torch.testing.assert_close(change(0.3 * one + 0.7 * other), 0.3 * change(one) + 0.7 * change(other))


@pytest.mark.parametrize("name", [name for name, transform in INTENSITY.items() if isinstance(transform, Gain)])
def test_gains_are_never_negative(name: str) -> None:
    """Only then is the largest value of a channel that waits for its gain the gain times its largest value."""
    transform = INTENSITY[name]
    assert isinstance(transform, Gain)

    assert transform.gains(noise(500, 4), transform.draw(Draws(torch.arange(500)), 4)).min() >= 0


@pytest.mark.parametrize("name", [name for name, transform in INTENSITY.items() if transform.pixelwise])
def test_what_is_said_to_look_at_single_pixels_does(name: str) -> None:
    views, transform = noise(10, 4, 6, 6), INTENSITY[name]
    other = views.clone()
    other[:, :, 3:] = noise(10, 4, 3, 6, seed=1)

    one, another = (transform.apply(given, Draws(torch.arange(10))) for given in (views, other))

    assert torch.equal(one[:, :, :3], another[:, :, :3])


@pytest.mark.parametrize("name", EVERY)
def test_what_is_said_not_to_be_random_is_not(name: str) -> None:
    images = noise(1, 4, 15, 11) if name not in {"rnd_dihedral", "Rotate_dihedral"} else noise(1, 4, 15, 15)

    views = made(EVERY[name], images, torch.arange(40)[None])

    assert (views != views[:1]).any() == EVERY[name].random
