"""The order of a view's transforms: as if each were done alone, one after the other; and in one resampling where the order allows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transforms_plainly import noise, one_after_the_other

from dino4cells.augment import brightness, channels, crops, fitting, geometry, plan, scaling, tiles
from dino4cells.augment.draws import sample_keys
from dino4cells.augment.homography import Places
from dino4cells.augment.intensity import ToTensor
from dino4cells.augment.stages import Transform, stages
from dino4cells.augment.views import MultiCrop, ViewKind
from dino4cells.config import load_config, parse_config

SIZES = [(40, 40), (25, 33), (38, 21)]
FLIP, MIRROR, CROP = geometry.RandomHorizontalFlip(1.0), fitting.FitMirrored(44), crops.RandomResizedCrop(20, (0.4, 1.0))
CONTRAST, BLUR, DROP = brightness.ChangeContrast(0.5), brightness.GaussianBlur(1.0, 1.5, 1.5), channels.RemoveChannel(0.7)
POOL: list[Transform] = [
    geometry.RandomHorizontalFlip(), geometry.RandomVerticalFlip(), geometry.RandomDihedral(),
    geometry.RandomRotation((20, 60)), geometry.WarpCell(), CROP, crops.RandomResizedCenterCrop(24, (0.5, 0.9)),
    fitting.FitCentered(44), MIRROR, fitting.Resize(28), fitting.FitKeepingAspectRatio(36), fitting.FitAtRandomSize(40),
    brightness.ChangeBrightness(0.3), CONTRAST, brightness.Solarization(0.5), BLUR, DROP,
    channels.RescaleProtein(0.8), channels.RandomGrayscale(0.4), tiles.Jigsaw(0.5), scaling.Normalize((0.4,), (0.8,)), ToTensor(),
]  # fmt: skip


def image(number: int) -> torch.Tensor:
    """A smooth image of 4 channels, so that one interpolation more or less does not show."""
    height, width = SIZES[number]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [torch.sin((number + 2) * x / 20 + channel) * torch.cos((channel + 1) * y / 25) for channel in range(4)]
    return (torch.stack(waves) + 1.2) / 2.3


def padded_batch(garbage: float) -> torch.Tensor:
    padded = torch.full((3, 4, 43, 44), garbage)
    for number, (height, width) in enumerate(SIZES):
        padded[number, :, :height, :width] = image(number)
    return padded


def keys(views: int) -> torch.Tensor:
    return sample_keys(0, torch.zeros(3, 1, dtype=torch.int64), torch.arange(3)[:, None], torch.arange(views)[None])


def resemble(seen: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether all pixels agree but those at edges and the rim, which the plain form blends at every step and a composed view cuts once."""
    ranges = F.max_pool2d(expected, 5, 1, 2) + F.max_pool2d(-expected, 5, 1, 2)
    smooth = ranges.amax(dim=0) < 0.3
    difference = (seen - expected).abs().amax(dim=0)
    return float(difference.median()) < 0.02 and float(((difference > 0.1) & smooth)[2:-2, 2:-2].double().mean()) < 0.02


# As one after the other


@settings(max_examples=120, deadline=None, derandomize=True)
@given(transforms=st.lists(st.sampled_from(POOL), max_size=6))
def test_views_of_images_of_many_sizes_are_those_of_each_image_alone_one_transform_after_the_other(transforms: list[Transform]) -> None:
    kind = ViewKind(tuple(transforms))
    assume(kind.side is not None or not any(isinstance(transform, geometry.RandomDihedral) for transform in transforms))

    views = kind.make(padded_batch(garbage=0.7), torch.tensor(SIZES), keys(2))

    for number in range(3):
        for view in range(2):
            expected = one_after_the_other(transforms, image(number), keys(2)[number, view])
            seen = views[view, number, :, : expected.shape[1], : expected.shape[2]]
            assert resemble(seen, expected)


EXACT: list[list[Transform]] = [
    [FLIP, CONTRAST, geometry.RandomDihedral(), MIRROR],
    [MIRROR, CONTRAST, FLIP, scaling.SelfNormalize()],
    [CONTRAST, CROP],
    [BLUR, CROP],
    [tiles.Jigsaw(1.0), CROP],
    [scaling.SelfNormalize(), CROP],
    [channels.RescaleProtein(1.0), CROP],
    [DROP, channels.RescaleProtein(1.0), CROP, CONTRAST],
    [fitting.Resize(30), DROP, channels.RescaleProtein(1.0), CROP, FLIP, CONTRAST, scaling.SelfNormalize()],
    [CROP, channels.RescaleProtein(1.0), FLIP],
    [brightness.ChangeBrightness(0.5), CROP],
    [scaling.SelfNormalizeWithoutBlackPixels(), geometry.RandomRotation((30, 60))],
    [channels.GetSpecificChannel(1), CONTRAST, FLIP, CROP],
    [CROP, tiles.Jigsaw(1.0), FLIP, BLUR],
]


@pytest.mark.parametrize("transforms", EXACT, ids=lambda transforms: " ".join(type(transform).__name__ for transform in transforms))
@pytest.mark.parametrize("garbage", [0.0, 1.0])
def test_the_order_of_the_handbook_is_kept_where_it_matters(transforms: list[Transform], garbage: float) -> None:
    views = ViewKind(tuple(transforms)).make(padded_batch(garbage), torch.tensor(SIZES), keys(3))

    for number in range(3):
        for view in range(3):
            expected = one_after_the_other(transforms, image(number), keys(3)[number, view])
            seen = views[view, number, :, : expected.shape[1], : expected.shape[2]]
            torch.testing.assert_close(seen, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("transforms", [[CONTRAST, CROP], [tiles.Jigsaw(1.0), CROP], [scaling.SelfNormalize(), CROP]])
def test_another_order_would_have_given_another_view(transforms: list[Transform]) -> None:
    """So that the test above can fail."""
    first, second = (one_after_the_other(order, image(0), keys(1)[0, 0]) for order in (transforms, transforms[::-1]))

    assert (first - second).abs().max() > 0.05


def test_what_a_crop_left_out_is_not_turned_in_again() -> None:
    """After a crop, the corners of a turned view are zero, though the image goes on there."""
    bright = torch.ones(1, 1, 60, 60)
    turn = geometry.RandomRotation((45, 45))

    turned = ViewKind((crops.RandomResizedCenterCrop(20, (0.3, 0.3), s=0), turn)).make(
        bright, torch.tensor([[60, 60]]), torch.zeros(1, 1).long()
    )

    alone = ViewKind((turn,)).make(torch.ones(1, 1, 20, 20), torch.tensor([[20, 20]]), torch.zeros(1, 1).long())
    assert float(alone[0, 0, 0, 0, 0]) == 0
    torch.testing.assert_close(turned, alone)


def test_a_crop_of_a_mirrored_cell_shows_its_mirror() -> None:
    cell = noise(1, 1, 20, 20)
    kind = ViewKind((MIRROR, crops.RandomResizedCenterCrop(44, (1.0, 1.0)), FLIP))

    view = kind.make(cell, torch.tensor([[20, 20]]), torch.zeros(1, 1).long())[0, 0]

    expected = F.pad(cell, (12, 12, 12, 12), mode="reflect")
    torch.testing.assert_close(view.flip(2), expected[0], rtol=0, atol=1e-4)


# In as few resamplings as that takes


def names(transforms: Sequence[tuple[int, Transform]]) -> list[str]:
    return [type(transform).__name__ for _, transform in transforms]


@pytest.mark.parametrize("preset", ["handbook", "small", "small-fluorescence"])
def test_every_view_of_the_presets_is_one_resampling(preset: str) -> None:
    config = load_config(preset=preset)
    if preset == "small":  # the numbers that come with the data
        config = parse_config(config.to_yaml().replace("mean: data, std: data", "mean: 0.1, std: 0.1"))
    views = MultiCrop.from_config(config)

    for kind in (views.first, views.second, views.local):
        [stage] = kind.stages
        assert "RandomResizedCrop" in names(stage.geometric)
        assert len(stage.geometric) + len(stage.intensity) == len(kind.transforms)
    assert names(MultiCrop.from_config(load_config(preset="handbook")).first.stages[0].geometric) == [
        "WarpCell", "RandomResizedCrop", "RandomHorizontalFlip", "RandomVerticalFlip"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        ([DROP, CROP, ToTensor()], [(["RandomResizedCrop"], ["RemoveChannel", "ToTensor"])]),
        ([CONTRAST, FLIP], [(["RandomHorizontalFlip"], ["ChangeContrast"])]),
        ([CONTRAST, FLIP, CROP], [(["RandomHorizontalFlip"], ["ChangeContrast"]), (["RandomResizedCrop"], [])]),
        ([BLUR, geometry.RandomDihedral()], [(["RandomDihedral"], ["GaussianBlur"])]),
        ([BLUR, geometry.RandomRotation()], [([], ["GaussianBlur"]), (["RandomRotation"], [])]),
        ([CROP, tiles.Jigsaw(), FLIP], [(["RandomResizedCrop"], ["Jigsaw"]), (["RandomHorizontalFlip"], [])]),
        ([CROP, CONTRAST, DROP, CROP, BLUR], [
            (["RandomResizedCrop"], ["ChangeContrast", "RemoveChannel"]), (["RandomResizedCrop"], ["GaussianBlur"])
        ]),
        ([geometry.WarpCell(), fitting.Resize(30)], [(["WarpCell"], []), (["Resize"], [])]),  # it may have to average first
        ([CROP, fitting.Resize(30)], [(["RandomResizedCrop", "Resize"], [])]),  # 20 px are never averaged
    ],
)  # fmt: skip
def test_transforms_become_stages(transforms: list[Transform], expected: list[tuple[list[str], list[str]]]) -> None:
    found = [(names(stage.geometric), names(stage.intensity)) for stage in stages(transforms)]

    assert found == expected


def test_what_the_views_of_an_image_share_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Cell Painting configuration: each image is resized once, and only the crops are resampled for each of ten views."""
    shapes: list[tuple[int, ...]] = []
    plain = plan.resample

    def counted(images: torch.Tensor, places: Places) -> torch.Tensor:
        shapes.append((*images.shape, places.x.shape[1]))
        return plain(images, places)

    monkeypatch.setattr(plan, "resample", counted)
    kind = ViewKind((fitting.Resize(30), DROP, channels.RescaleProtein(), CROP, FLIP, CONTRAST, scaling.SelfNormalize()))

    kind.make(padded_batch(0.0), torch.tensor(SIZES), keys(10))

    assert shapes == [(3, 4, 43, 44, 1), (3, 4, 30, 30, 10)]


def test_what_a_transform_draws_does_not_depend_on_the_others() -> None:
    """The crop is the same whether or not another transform draws before it."""
    without, without_drop = ViewKind((ToTensor(), CROP)), ViewKind((DROP, CROP))

    one, other = (kind.make(padded_batch(0.0), torch.tensor(SIZES), keys(2)) for kind in (without, without_drop))

    assert torch.equal(one[:, :, 1], other[:, :, 1])
