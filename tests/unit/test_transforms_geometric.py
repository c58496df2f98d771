"""Geometric transforms of the handbook, one by one: what each does to an image, and how often."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from dino4cells.augment import geometry
from dino4cells.augment.draws import Draws
from dino4cells.augment.homography import resample

UNLIKELY = 1e-4
NEAR = {"rtol": 0, "atol": 1e-4}


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def draws(count: int) -> Draws:
    return Draws(torch.arange(count))


def sizes(count: int, height: int, width: int) -> torch.Tensor:
    return torch.tensor([[float(height), float(width)]]).expand(count, 2)


def views(transform: geometry.Geometric, image: torch.Tensor, count: int) -> torch.Tensor:
    """(count, C, h, w): an image seen through `count` draws of a transform whose outputs have one size."""
    maps, outputs = transform.homography(sizes(count, *image.shape[1:]), draws(count))
    assert len(torch.unique(outputs, dim=0)) == 1
    side = (int(outputs[0, 0]), int(outputs[0, 1]))
    return resample(image[None], torch.tensor([image.shape[1:]]), maps[None], side)[0]


def boxes(transform: geometry.Geometric, count: int, height: int, width: int, size: int) -> torch.Tensor:
    """(count, 4): left, top, width and height of the crops in pixels."""
    maps, outputs = transform.homography(sizes(count, height, width), draws(count))
    assert (outputs == size).all()
    return torch.stack([maps[:, 0, 2], maps[:, 1, 2], maps[:, 0, 0] * size, maps[:, 1, 1] * size], dim=1)


# RandomResizedCrop


@pytest.mark.parametrize("height_width", [(200, 200), (160, 240)])
def test_crops_have_the_areas_and_ratios_that_were_asked_for(height_width: tuple[int, int]) -> None:
    height, width = height_width
    _, _, w, h = boxes(geometry.RandomResizedCrop(48, (0.1, 0.4)), 8000, height, width, 48).unbind(1)

    area, ratio = w * h / (height * width), w / h
    assert area.min() > 0.1 * 0.97
    assert area.max() < 0.4 * 1.03
    assert ratio.min() > 0.75 * 0.97
    assert ratio.max() < 4 / 3 * 1.03
    assert stats.kstest(area.numpy(), stats.uniform(0.1, 0.3).cdf).statistic < 0.02
    log_ratio = stats.uniform(math.log(3 / 4), math.log(16 / 9))
    assert stats.kstest(ratio.log().numpy(), log_ratio.cdf).statistic < 0.03


def test_crops_lie_inside_and_reach_every_corner() -> None:
    left, top, w, h = boxes(geometry.RandomResizedCrop(32, (0.3, 0.6)), 4000, 60, 90, 32).unbind(1)

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
    found = boxes(geometry.RandomResizedCrop(32, (0.9999, 1.0), ratio), 50, height, width, 32)

    torch.testing.assert_close(found, torch.tensor(box, dtype=torch.float32).expand(50, 4), **NEAR)


def test_each_sample_of_a_batch_is_cropped_by_its_own_size() -> None:
    mixed = torch.tensor([[40.0, 40], [400, 100], [90, 300]]).repeat(500, 1)
    maps, _ = geometry.RandomResizedCrop(32, (0.2, 0.9)).homography(mixed, draws(1500))

    corner = maps @ torch.tensor([32.0, 32, 1])
    assert (corner[:, 0] <= mixed[:, 1] + 1e-3).all()
    assert (corner[:, 1] <= mixed[:, 0] + 1e-3).all()
    area = maps[:, 0, 0] * maps[:, 1, 1] * 32**2 / mixed.prod(dim=1)
    assert area.min() > 0.15
    assert area.max() < 0.95


# RandomResizedCenterCrop


def test_centre_crops_are_squares_around_the_centre() -> None:
    left, top, w, h = boxes(geometry.RandomResizedCenterCrop(48, (0.4, 0.6), s=5.0), 4000, 200, 300, 48).unbind(1)

    torch.testing.assert_close(w, h)
    assert stats.kstest((w / 200).numpy(), stats.uniform(0.4, 0.2).cdf).statistic < 0.03
    for centre, middle in ((left + w / 2, 150), (top + h / 2, 100)):
        assert float(centre.mean()) == pytest.approx(middle, abs=0.5)
        assert float(centre.std()) == pytest.approx(5.0, rel=0.05)


def test_centre_crops_never_leave_the_image() -> None:
    left, top, w, _ = boxes(geometry.RandomResizedCenterCrop(48, (0.4, 1.0), s=50.0), 2000, 60, 80, 48).unbind(1)

    assert min(left.min(), top.min()) >= 0
    assert (left + w).max() <= 80 + 1e-3
    assert (top + w).max() <= 60 + 1e-3


# Flips, quarter turns, rotations


@pytest.mark.parametrize(
    ("transform", "dimension"), [(geometry.RandomHorizontalFlip, 2), (geometry.RandomVerticalFlip, 1)], ids=["left-right", "top-bottom"]
)
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_flips_mirror_every_pixel_as_often_as_announced(transform: type, dimension: int, p: float) -> None:
    image = (noise(2, 20, 33) * 255).round()

    seen = views(transform(p), image / 255, 400).mul(255).round()

    mirrored = (seen == image.flip(dimension)).flatten(1).all(dim=1)
    assert (mirrored | (seen == image).flatten(1).all(dim=1)).all()
    assert float(mirrored.double().mean()) == pytest.approx(p, abs=0.1)


def test_the_eight_symmetries_of_a_square_are_drawn_equally_and_to_the_pixel() -> None:
    image = (noise(1, 21, 21) * 255).round()
    symmetries = [torch.rot90(mirrored, turns, (1, 2)) for mirrored in (image, image.flip(2)) for turns in range(4)]

    seen = views(geometry.RandomDihedral(), image / 255, 1600).mul(255).round()

    found = torch.stack([(seen == symmetry).flatten(1).all(dim=1) for symmetry in symmetries], dim=1)
    assert (found.sum(dim=1) == 1).all()
    assert stats.chisquare(found.sum(dim=0).numpy()).pvalue > UNLIKELY


def test_quarter_turns_of_an_oblong_image_swap_its_sides_and_lose_no_pixel() -> None:
    image = (noise(1, 12, 20) * 255).round()
    maps, outputs = geometry.RandomDihedral().homography(sizes(64, 12, 20), draws(64))

    for place in range(64):
        side = (int(outputs[place, 0]), int(outputs[place, 1]))
        seen = resample(image[None] / 255, torch.tensor([[12, 20]]), maps[None, place : place + 1], side)[0, 0].mul(255).round()
        assert seen.flatten().sort().values.equal(image.flatten().sort().values)
    assert {(12, 20), (20, 12)} == {tuple(map(int, output)) for output in outputs}


@pytest.mark.parametrize("angle", [-75.0, 30.0, 90.0, 180.0])
def test_rotation_is_torchvisions_away_from_the_border(angle: float) -> None:
    image = noise(1, 64, 64)

    seen = views(geometry.RandomRotation((angle, angle)), image, 1)[0]

    expected = tv.rotate(image, angle, InterpolationMode.BILINEAR)
    y, x = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(64) - 31.5, indexing="ij")
    inner = (x**2 + y**2).sqrt() < 30
    torch.testing.assert_close(seen[:, inner], expected[:, inner], rtol=0, atol=2e-3)
    if angle % 90:
        assert float(seen[0, 0, 0]) == float(seen[0, -1, -1]) == 0


def test_rotation_angles_are_uniform_between_the_bounds() -> None:
    maps, _ = geometry.RandomRotation(40.0).homography(sizes(4000, 50, 50), draws(4000))

    angles = torch.rad2deg(torch.atan2(maps[:, 1, 0], maps[:, 0, 0]))
    assert stats.kstest(angles.numpy(), stats.uniform(-40, 80).cdf).pvalue > UNLIKELY


# Warp_cell


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 100), (33, 31), (3, 3)])
def test_a_warp_moves_one_corner_inwards_by_less_than_a_quarter(height: int, width: int) -> None:
    maps, outputs = geometry.WarpCell().homography(sizes(800, height, width), draws(800))
    corners = torch.tensor([[0.0, 0], [width, 0], [width, height], [0, height]])

    inverse = torch.linalg.inv(maps.double())
    moved = torch.cat([corners, torch.ones(4, 1)], dim=1).double() @ inverse.transpose(1, 2)
    inwards = (moved[..., :2] / moved[..., 2:] - corners) * torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])

    assert torch.equal(outputs, sizes(800, height, width))
    shifts = inwards.round()
    torch.testing.assert_close(inwards, shifts.double(), rtol=0, atol=1e-3)
    assert shifts.min() >= 0
    assert shifts.max() < max(min(height, width) / 4, 1)
    moving = (shifts > 0).any(dim=2)
    assert (moving.sum(dim=1) <= 1).all()
    if min(height, width) >= 16:
        assert stats.chisquare(moving.sum(dim=0).numpy()).pvalue > UNLIKELY
        amounts = shifts.sum(dim=1).flatten().to(torch.int64)
        assert set(amounts.tolist()) == set(range(min(height, width) // 4))


def test_a_warp_leaves_zeros_outside_and_the_far_corner_in_place() -> None:
    seen = views(geometry.WarpCell(), torch.ones(1, 40, 40), 200)[:, 0]

    zeros = (seen == 0).flatten(1).sum(dim=1)
    assert float((zeros > 0).double().mean()) > 0.9
    corners = torch.stack([seen[:, 0, 0], seen[:, 0, -1], seen[:, -1, -1], seen[:, -1, 0]], dim=1)
    assert ((corners == 0).sum(dim=1) <= 1).all()
    assert ((corners == 1) | (corners == 0)).all()


# Fitting a cell into a square


def test_a_small_cell_is_centred_on_zeros_and_not_resampled() -> None:
    image = (noise(2, 10, 21) * 255).round()

    seen = views(geometry.FitCentered(32), image / 255, 1)[0].mul(255).round()

    assert torch.equal(seen[:, 11:21, 6:27], image)
    assert float(seen.sum()) == float(image.sum())


def test_a_large_cell_is_shrunk_until_its_longer_side_fits() -> None:
    seen = views(geometry.FitCentered(32), torch.ones(1, 40, 64), 1)[0, 0]

    rows, columns = seen.any(dim=1).nonzero().flatten(), seen.any(dim=0).nonzero().flatten()
    assert (int(columns.min()), int(columns.max())) == (0, 31)
    assert (int(rows.min()), int(rows.max())) == (6, 25)


def test_resizing_stretches_both_sides_to_the_square() -> None:
    image = noise(3, 40, 90)

    seen = views(geometry.Resize(32), image, 1)[0]

    torch.testing.assert_close(seen, tv.resize(image, [32, 32], InterpolationMode.BILINEAR, antialias=False), **NEAR)


# Composition


def test_a_crop_and_a_flip_in_one_resampling_equal_one_after_the_other() -> None:
    image, count = noise(2, 50, 70), 16
    crop, flip = geometry.RandomResizedCrop(24, (0.5, 0.9)), geometry.RandomVerticalFlip(1.0)
    random = draws(count)
    first, square = crop.homography(sizes(count, 50, 70), random)
    second, _ = flip.homography(square, random)

    at_once = resample(image[None], torch.tensor([[50, 70]]), (first @ second)[None], (24, 24))[0]

    torch.testing.assert_close(at_once, views(crop, image, count).flip(2), **NEAR)


def test_a_warp_and_a_crop_in_one_resampling_resemble_one_after_the_other() -> None:
    y, x = np.mgrid[0:64, 0:64]
    smooth = torch.from_numpy((np.sin(x / 9) * np.cos(y / 7) + 1) / 2)[None].float()
    random = draws(8)
    warp, square = geometry.WarpCell().homography(sizes(8, 64, 64), random)
    crop, _ = geometry.RandomResizedCrop(32, (0.3, 0.6)).homography(square, random)
    size = torch.tensor([[64, 64]])

    at_once = resample(smooth[None], size, (warp @ crop)[None], (32, 32))[0]

    warped = resample(smooth[None], size, warp[None], (64, 64))[0]
    in_turn = resample(warped, size.expand(8, 2), crop[:, None], (32, 32))[:, 0]
    difference = (at_once - in_turn).abs()
    assert float(difference.median()) < 2e-3
    assert float((difference > 0.02).double().mean()) < 0.05  # the edge of the warp is cut instead of blended


@pytest.mark.parametrize(
    "transform",
    [
        geometry.RandomResizedCrop(16), geometry.RandomResizedCenterCrop(16),
        geometry.RandomHorizontalFlip(), geometry.RandomVerticalFlip(),
        geometry.RandomRotation(), geometry.RandomDihedral(), geometry.WarpCell(), geometry.FitCentered(16), geometry.Resize(16),
    ],
    ids=lambda transform: type(transform).__name__,
)  # fmt: skip
def test_no_geometric_transform_changes_its_arguments_or_fails_on_one_pixel(transform: geometry.Geometric) -> None:
    given = torch.tensor([[1.0, 1.0], [1.0, 9.0], [30.0, 2.0], [16.0, 16.0]])
    before = given.clone()

    maps, outputs = transform.homography(given, draws(4))

    assert torch.equal(given, before)
    assert torch.isfinite(maps).all()
    assert (outputs > 0).all()
