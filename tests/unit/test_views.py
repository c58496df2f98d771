"""The views of a batch: what they depend on, what they look like, and the order of their transforms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dino4cells.augment import views as views_module
from dino4cells.augment.brightness import Solarization
from dino4cells.augment.crops import RandomResizedCrop
from dino4cells.augment.draws import sample_keys
from dino4cells.augment.geometry import Geometric, RandomDihedral, RandomHorizontalFlip, RandomRotation
from dino4cells.augment.views import MultiCrop, ViewKind
from dino4cells.config import Config, parse_config
from dino4cells.data.dataset import Batch
from dino4cells.errors import ConfigError

# Padding changes the last bits of the coordinates, by less than a thousandth of a pixel.
SAME = {"rtol": 0, "atol": 2e-3}
SIZES = [(40, 40), (33, 47), (47, 25), (20, 20), (40, 31), (28, 44)]


def section(**transforms: object) -> dict[str, object]:
    return {name: [True, parameters] for name, parameters in transforms.items()}


def config(local: int = 3, seed: int = 0, **changes: object) -> Config:
    sections: dict[str, object] = {
        "global_transfo1": section(Warp_cell=None, RandomResizedCrop={"size": 32, "scale": [0.4, 1]}),
        "global_transfo2": section(remove_channel={"p": 0.2}, RandomResizedCrop={"size": 32, "scale": [0.4, 1]}),
        "local_transfo": section(RandomResizedCrop={"size": 16, "scale": [0.05, 0.4]}),
        "flip_and_color_jitter_transforms": section(RandomHorizontalFlip=None, rnd_dihedral=None, Change_brightness={"p": 0.5}),
    }
    return Config.model_validate({"model": {"seed": seed}, "local_crops_number": local, **sections, **changes})


def image(row: int) -> torch.Tensor:
    """A smooth uint8 image of 4 channels, so that a thousandth of a pixel does not show."""
    height, width = SIZES[row]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [torch.sin((row + 2) * x / 30 + channel) * torch.cos((channel + 1) * y / 25) for channel in range(4)]
    return ((torch.stack(waves) + 1.2) * 100).to(torch.uint8)


def batch(rows: list[int], epoch: int = 0, margin: int = 0) -> Batch:
    images = [image(row) for row in rows]
    sizes = torch.tensor([picture.shape[1:] for picture in images], dtype=torch.int64).reshape(-1, 2)
    height, width = (sizes.amax(0) + margin).tolist() if rows else (1, 1)
    padded = torch.full((len(rows), 4, height, width), 0 if not margin else 255, dtype=torch.uint8)
    for target, picture in zip(padded, images, strict=True):
        target[:, : picture.shape[1], : picture.shape[2]] = picture
    return Batch(padded, sizes, torch.tensor(rows, dtype=torch.int64), torch.full((len(rows),), epoch))


def test_views_have_the_sizes_of_the_configuration() -> None:
    big, small = MultiCrop.from_config(config())(batch([0, 1, 2, 3, 4]))

    assert big.shape == (2, 5, 4, 32, 32)
    assert small.shape == (3, 5, 4, 16, 16)
    assert big.dtype == small.dtype == torch.float32


def test_a_sample_has_the_same_views_in_another_batch_and_another_order() -> None:
    views = MultiCrop.from_config(config())
    big, small = views(batch([0, 1, 2, 3, 4, 5]))

    for rows in ([5, 4, 3, 2, 1, 0], [3], [2, 5, 0]):
        other_big, other_small = views(batch(rows))
        torch.testing.assert_close(other_big, big[:, rows], **SAME)
        torch.testing.assert_close(other_small, small[:, rows], **SAME)


def test_padding_never_shows_in_a_view() -> None:
    views = MultiCrop.from_config(config())

    for plain, padded in zip(views(batch([0, 1, 2])), views(batch([0, 1, 2], margin=13)), strict=True):
        torch.testing.assert_close(padded, plain, **SAME)


def test_the_same_batch_gives_the_same_views_to_the_last_bit() -> None:
    first, second = (MultiCrop.from_config(config())(batch([0, 1, 2])) for _ in range(2))

    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_another_epoch_gives_other_views() -> None:
    views = MultiCrop.from_config(config())

    for now, later in zip(views(batch([0, 1, 2])), views(batch([0, 1, 2], epoch=1)), strict=True):
        assert ((now - later).abs().flatten(2).amax(dim=2) > 0.02).all()


def test_epoch_one_of_a_seed_is_not_epoch_zero_of_the_next_seed() -> None:
    _, later = MultiCrop.from_config(config(seed=0))(batch([0, 1, 2], epoch=1))
    _, other = MultiCrop.from_config(config(seed=1))(batch([0, 1, 2], epoch=0))

    assert ((later - other).abs().flatten(2).amax(dim=2) > 0.02).all()


def test_all_views_of_an_image_differ() -> None:
    crop = section(RandomResizedCrop={"size": 32, "scale": [0.4, 1]})
    big, small = MultiCrop.from_config(config(local=4, global_transfo1=crop, global_transfo2=crop, local_transfo=crop))(batch([0, 1]))

    views = torch.cat([big, small])
    for place in range(len(views)):
        for other in range(place):
            assert ((views[place] - views[other]).abs().flatten(1).amax(dim=1) > 0.02).all()


def test_two_samples_with_one_image_have_different_views() -> None:
    twice = batch([0, 0])
    big, _ = MultiCrop.from_config(config())(Batch(twice.images_BCHW, twice.sizes_B2, torch.tensor([0, 1]), twice.epoch_B))

    assert (big[:, 0] - big[:, 1]).abs().max() > 0.02


def test_an_image_of_sixteen_bits_has_the_views_of_its_eight_bit_copy() -> None:
    stored = batch([0, 1])
    precise = Batch(stored.images_BCHW / 255, stored.sizes_B2, stored.index_B, stored.epoch_B)
    views = MultiCrop.from_config(config())

    for a, b in zip(views(stored), views(precise), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("first", ["Single_cell_Resize", "Change_contrast", "ToTensor"])
@pytest.mark.parametrize("stored", [True, False])
def test_a_batch_is_not_changed_by_making_its_views(first: str, stored: bool) -> None:
    """Neither grey values nor numbers, whether the first transform is shared by the views, is random or does nothing."""
    given = batch([0, 0, 0])
    given = given if stored else replace(given, images_BCHW=given.images_BCHW / 255)
    before = given.images_BCHW.clone()
    crop = section(**{first: None}, RandomResizedCrop={"size": 32})

    MultiCrop.from_config(config(global_transfo1=crop, local_transfo=crop, normalization=section(self_normalize=None)))(given)

    assert torch.equal(given.images_BCHW, before)


@pytest.mark.parametrize("at_once", [1, 2])
def test_views_do_not_depend_on_how_many_images_are_changed_at_once(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = section(Single_cell_Resize={"size": 40}, rescale_protein={"p": 0.7}, RandomResizedCrop={"size": 32})
    multi_crop = MultiCrop.from_config(config(global_transfo2=shared, local_transfo=shared, normalization=section(self_normalize=None)))
    together = multi_crop(batch([0, 1, 2, 3, 4]))
    monkeypatch.setattr(views_module, "CACHED_FLOATS", at_once * 3 * 4 * 32 * 32)

    for a, b in zip(multi_crop(batch([0, 1, 2, 3, 4])), together, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_views_in_bfloat16_are_those_in_float32_rounded_once() -> None:
    multi_crop = MultiCrop.from_config(config(normalization=section(self_normalize=None)))

    for rounded, precise in zip(multi_crop(batch([0, 1, 2]), torch.bfloat16), multi_crop(batch([0, 1, 2])), strict=True):
        assert rounded.dtype == torch.bfloat16
        assert torch.equal(rounded, precise.to(torch.bfloat16))


def test_kinds_with_the_same_transforms_are_made_as_each_alone() -> None:
    crop, given = section(RandomResizedCrop={"size": 32, "scale": [0.4, 1]}), batch([0, 1, 2])
    multi_crop = MultiCrop.from_config(config(global_transfo1=crop, global_transfo2=crop))
    assert multi_crop.first == multi_crop.second

    big, _ = multi_crop(given)

    for number, kind in enumerate((multi_crop.first, multi_crop.second)):
        keys = sample_keys(0, given.epoch_B[:, None], given.index_B[:, None], torch.tensor([[number]]))
        torch.testing.assert_close(big[number], kind.make(given.images_BCHW, given.sizes_B2, keys)[0])


# Order


def test_normalization_is_the_last_transform_of_every_view() -> None:
    """Whatever comes before, a normalized view has mean 0 and deviation 1 in each channel."""
    noisy = section(GaussianBlur={"p": 1.0}, Change_contrast={"p": 0.5})
    views = MultiCrop.from_config(config(global_aug1=noisy, global_aug2=noisy, local_aug=noisy, normalization=section(self_normalize=None)))

    for kind in views(batch([0, 1, 2, 4])):
        torch.testing.assert_close(kind.mean(dim=(3, 4)), torch.zeros(kind.shape[:3]), rtol=0, atol=1e-4)
        deviation = kind.std(dim=(3, 4), correction=0)
        assert ((deviation - 1).abs().lt(1e-3) | deviation.lt(1e-3)).all()  # a removed channel is black


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (("global_transfo1", "flip_and_color_jitter_transforms", "global_aug1", "normalization"), [0.9, 0.1, 0.2, 0.3]),
        (("local_transfo", "local_aug", "flip_and_color_jitter_transforms", "normalization"), [0.8, 0.4, 0.1, 0.3]),
    ],
)
def test_the_sections_of_a_view_follow_the_order_of_the_handbook(sections: tuple[str, ...], expected: list[float]) -> None:
    marked = config(
        global_transfo1=section(Solarization={"p": 0.9}, RandomResizedCrop={"size": 32}),
        global_transfo2=section(RandomResizedCrop={"size": 32}),
        local_transfo=section(Solarization={"p": 0.8}, RandomResizedCrop={"size": 16}),
        flip_and_color_jitter_transforms=section(Solarization={"p": 0.1}),
        global_aug1=section(Solarization={"p": 0.2}),
        local_aug=section(Solarization={"p": 0.4}),
        normalization=section(Solarization={"p": 0.3}),
    )

    kind = ViewKind.from_sections(marked, sections)

    assert [transform.p for transform in kind.transforms if isinstance(transform, Solarization)] == expected
    views = MultiCrop.from_config(marked)
    assert kind in (views.first, views.local)


def test_transforms_that_are_switched_off_do_nothing() -> None:
    off = {"RandomHorizontalFlip": [False, {"p": 1.0}], "Change_brightness": [False, None]}

    assert ViewKind.from_sections(config(flip_and_color_jitter_transforms=off), ("flip_and_color_jitter_transforms",)) == ViewKind(())


def test_a_flip_that_follows_a_crop_mirrors_the_crop() -> None:
    given = batch([0, 1, 2])
    keys = sample_keys(0, given.epoch_B[:, None], given.index_B[:, None], torch.arange(2)[None])
    crop, flip = RandomResizedCrop(16, (0.1, 0.4)), RandomHorizontalFlip(1.0)

    cropped, flipped = (ViewKind(steps).make(given.images_BCHW / 255, given.sizes_B2, keys) for steps in ((crop,), (crop, flip)))

    torch.testing.assert_close(flipped, cropped.flip(-1), **SAME)
    assert (cropped[0] - cropped[1]).abs().max() > 0.02


# Extraction: transforms that keep the size


def test_a_view_without_transforms_is_the_image() -> None:
    given = batch([0])

    view = ViewKind(()).make(given.images_BCHW / 255, given.sizes_B2, torch.zeros(1, 1, dtype=torch.int64))

    assert torch.equal(view[0], given.images_BCHW / 255)


def test_a_view_kind_without_a_size_keeps_the_size_of_the_images() -> None:
    kind = ViewKind.from_sections(config(testing_transfo=section(RandomHorizontalFlip={"p": 1.0}, ToTensor=None)), ("testing_transfo",))
    given = batch([1])

    assert kind.side is None
    view = kind.make(given.images_BCHW / 255, given.sizes_B2, torch.zeros(1, 1, dtype=torch.int64))[0]
    assert torch.equal((view * 255).round(), given.images_BCHW.flip(3).float())


# Channels


def test_views_have_the_channels_of_the_images_unless_one_is_kept() -> None:
    keep = section(Get_specific_channel={"c": 2}, ToTensor=None)

    assert MultiCrop.from_config(config()).channels_after(4) == 4
    views = MultiCrop.from_config(config(normalization=keep))
    assert views.channels_after(4) == 1
    big, small = views(batch([0, 1]))
    assert big.shape == (2, 2, 1, 32, 32)
    assert small.shape == (3, 2, 1, 16, 16)
    assert views(batch([]))[0].shape == (2, 0, 1, 32, 32)


def test_a_transform_that_cannot_take_the_channels_is_told_with_its_line() -> None:
    given = parse_config("normalization:\n  ToTensor: [True]\n  Normalize: [True, {mean: [0.1, 0.2], std: 1}]\n")
    views = MultiCrop.from_config(given)

    with pytest.raises(ConfigError, match=r"^config.yaml, line 3: normalization.Normalize: mean has 2 numbers and the images"):
        views.channels_after(4)
    with pytest.raises(ConfigError, match=r"^config.yaml, line 3: normalization.Normalize: mean has 2 numbers"):
        views(batch([0]))


def test_views_that_differ_in_their_channels_are_an_error() -> None:
    crop, keep = section(RandomResizedCrop={"size": 32}), section(Get_specific_channel={"c": 0}, RandomResizedCrop={"size": 32})

    with pytest.raises(ConfigError, match="the first global view 4, the second 1, the local ones 4; use Get_specific_channel in all"):
        MultiCrop.from_config(config(global_transfo1=crop, global_transfo2=keep)).channels_after(4)
    with pytest.raises(ConfigError, match="the first global view 1, the second 1, the local ones 4"):
        MultiCrop.from_config(config(global_transfo1=keep, global_transfo2=keep)).channels_after(4)
    assert MultiCrop.from_config(config(local=0, global_transfo1=keep, global_transfo2=keep)).channels_after(4) == 1


# Nothing to do, and mistakes


def test_no_local_views_are_made_where_none_are_asked_for() -> None:
    jitter = section(GaussianBlur=None)
    big, small = MultiCrop.from_config(config(local=0, local_transfo={}, flip_and_color_jitter_transforms=jitter))(batch([0, 1]))

    assert big.shape == (2, 2, 4, 32, 32)
    assert len(small) == 0


def test_a_batch_in_which_no_image_could_be_read_has_no_views() -> None:
    big, small = MultiCrop.from_config(config(flip_and_color_jitter_transforms=section(GaussianBlur=None)))(batch([]))

    assert big.shape == (2, 0, 4, 32, 32)
    assert small.shape == (3, 0, 4, 16, 16)


@pytest.mark.parametrize("name", ["global_transfo1", "global_transfo2", "local_transfo"])
def test_a_view_that_nothing_fits_to_a_size_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: no active transform fits the images to one size; add RandomResizedCrop"):
        MultiCrop.from_config(config(**{name: section(RandomHorizontalFlip=None)}))


def test_global_views_of_two_sizes_are_an_error() -> None:
    with pytest.raises(ConfigError, match="global_transfo2: its views have 48 px and those of global_transfo1 32"):
        MultiCrop.from_config(config(global_transfo2=section(RandomResizedCrop={"size": 48})))


@pytest.mark.parametrize("transform", [RandomDihedral(), RandomRotation(20.0, expand=True)])
def test_oblong_images_that_are_turned_and_never_fitted_are_an_error(transform: Geometric) -> None:
    given, keys = batch([1]), torch.zeros(1, 1, dtype=torch.int64)

    with pytest.raises(ConfigError, match=f"{type(transform).__name__}: images of one size come out in several; fit them to"):
        ViewKind((transform,)).make(given.images_BCHW / 255, given.sizes_B2, keys)
    assert ViewKind((transform, RandomResizedCrop(16))).make(given.images_BCHW / 255, given.sizes_B2, keys).shape == (1, 1, 4, 16, 16)


def test_squares_are_turned_as_they_are() -> None:
    given, keys = batch([0, 3]), torch.zeros(2, 1, dtype=torch.int64)

    views = ViewKind((RandomDihedral(),)).make(given.images_BCHW / 255, given.sizes_B2, keys)

    assert torch.equal((views[0, 1, :, :20, :20] * 255).round().sum(dim=(1, 2)), given.images_BCHW[1].float().sum(dim=(1, 2)))
