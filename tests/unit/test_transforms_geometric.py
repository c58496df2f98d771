"""Flips, turns, rotation and warp, one by one: what each does to an image, and how often; and several in one resampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv
from transforms_plainly import NEAR, UNLIKELY, draws, grey_levels, noise, shown, sizes, views

from dino4cells.augment import crops, fitting, geometry

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


def test_the_symmetry_that_the_original_never_draws_is_drawn() -> None:
    """Its index stops before 7, the mirror image about the anti-diagonal."""
    image = grey_levels(1, 9, 9)

    seen = views(geometry.RandomDihedral(), image / 255, 400).mul(255).round()

    mirrored_about_the_antidiagonal = image.flip(1, 2).transpose(1, 2)
    share = float((seen == mirrored_about_the_antidiagonal).flatten(1).all(dim=1).double().mean())
    assert share == pytest.approx(1 / 8, abs=0.05)


def test_quarter_turns_of_an_oblong_image_swap_its_sides_and_lose_no_pixel() -> None:
    image = (noise(1, 12, 20) * 255).round()
    maps, outputs = geometry.RandomDihedral().homography(sizes(64, 12, 20), draws(64))

    for place in range(64):
        side = (int(outputs[place, 0]), int(outputs[place, 1]))
        seen = shown(image[None] / 255, torch.tensor([[12, 20]]), maps[None, place : place + 1], side)[0, 0].mul(255).round()
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


@pytest.mark.parametrize("angle", [90.0, 33.0, -120.0])
def test_an_expanding_rotation_shows_all_of_the_image(angle: float) -> None:
    image = torch.ones(1, 30, 50)

    seen = views(geometry.RandomRotation((angle, angle), expand=True), image, 1)[0]

    expected = tv.rotate(image, angle, InterpolationMode.BILINEAR, expand=True)
    assert max(abs(seen.shape[1] - expected.shape[1]), abs(seen.shape[2] - expected.shape[2])) <= 1
    assert float(seen.sum()) == pytest.approx(1500, rel=0.03)
    for rim in (seen[0, 0], seen[0, -1], seen[0, :, 0], seen[0, :, -1]):
        assert rim.sum() <= max(seen.shape) + 1
    if angle == 90:
        assert seen.shape == (1, 50, 30)
        assert (seen == 1).all()


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


# Composition


def test_a_crop_and_a_flip_in_one_resampling_equal_one_after_the_other() -> None:
    image, count = noise(2, 50, 70), 16
    crop, flip = crops.RandomResizedCrop(24, (0.5, 0.9)), geometry.RandomVerticalFlip(1.0)
    random = draws(count)
    first, square = crop.homography(sizes(count, 50, 70), random)
    second, _ = flip.homography(square, random)

    at_once = shown(image[None], torch.tensor([[50, 70]]), (first @ second)[None], (24, 24))[0]

    torch.testing.assert_close(at_once, views(crop, image, count).flip(2), **NEAR)


def test_a_warp_and_a_crop_in_one_resampling_resemble_one_after_the_other() -> None:
    y, x = np.mgrid[0:64, 0:64]
    smooth = torch.from_numpy((np.sin(x / 9) * np.cos(y / 7) + 1) / 2)[None].float()
    random = draws(8)
    warp, square = geometry.WarpCell().homography(sizes(8, 64, 64), random)
    crop, _ = crops.RandomResizedCrop(32, (0.3, 0.6)).homography(square, random)
    size = torch.tensor([[64, 64]])

    at_once = shown(smooth[None], size, (warp @ crop)[None], (32, 32))[0]

    warped = shown(smooth[None], size, warp[None], (64, 64))[0]
    in_turn = shown(warped, size.expand(8, 2), crop[:, None], (32, 32))[:, 0]
    difference = (at_once - in_turn).abs()
    assert float(difference.median()) < 2e-3
    assert float((difference > 0.02).double().mean()) < 0.05  # the edge of the warp is cut instead of blended


@pytest.mark.parametrize(
    "transform",
    [
        crops.RandomResizedCrop(16), crops.RandomResizedCenterCrop(16),
        geometry.RandomHorizontalFlip(), geometry.RandomVerticalFlip(),
        geometry.RandomRotation(), geometry.RandomDihedral(), geometry.WarpCell(), geometry.RandomRotation(expand=True),
        fitting.FitCentered(16), fitting.FitMirrored(16), fitting.FitKeepingAspectRatio(16), fitting.FitAtRandomSize(16),
        fitting.Resize(16),
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
