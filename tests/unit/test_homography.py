"""Resampling through homographies: pixels stay where they belong."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv
from transforms_plainly import noise, shown

from dino4cells.augment.homography import Lines, Look, Outside, Places, from_corners, resample, scale_and_shift

# Coordinates are float32: at a few hundred pixels they are exact to some 1e-5 of a pixel, far below a grey level.
EXACT = {"rtol": 0, "atol": 1e-4}


def crops(boxes: list[tuple[float, float, float, float]], side: tuple[int, int]) -> torch.Tensor:
    """(N, 3, 3) of crops (left, top, width, height), resized to `side`."""
    left, top, width, height = torch.tensor(boxes).unbind(1)
    return scale_and_shift(width / side[1], height / side[0], left, top)


@pytest.mark.parametrize("height_width", [(64, 64), (37, 53), (1, 7), (224, 224), (300, 200)])
def test_the_identity_returns_every_grey_level(height_width: tuple[int, int]) -> None:
    stored = (noise(2, 3, *height_width) * 255).round()
    sizes = torch.tensor([height_width] * 2)

    views = shown(stored / 255, sizes, torch.eye(3).expand(2, 1, 3, 3), height_width)

    assert torch.equal((views[:, 0] * 255).round(), stored)


def test_the_identity_is_exact_to_the_last_bit_at_sizes_of_powers_of_two() -> None:
    images = noise(2, 3, 64, 128)

    assert torch.equal(shown(images, torch.tensor([[64, 128]] * 2), torch.eye(3).expand(2, 1, 3, 3), (64, 128))[:, 0], images)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.tuples(st.integers(8, 40), st.integers(8, 40)), min_size=1, max_size=4),
    fraction=st.tuples(*[st.floats(0, 1)] * 4),
    seed=st.integers(0, 9),
)
def test_a_shrinking_crop_is_torchvisions_resized_crop_whatever_the_padding(
    sizes: list[tuple[int, int]], fraction: tuple[float, float, float, float], seed: int
) -> None:
    side = (6, 6)
    padded = torch.zeros(len(sizes), 2, max(h for h, _ in sizes) + 3, max(w for _, w in sizes) + 5)
    boxes, expected = [], []
    for target, (height, width) in zip(padded, sizes, strict=True):
        image = noise(2, height, width, seed=seed)
        target[:, :height, :width] = image
        h, w = 6 + int(fraction[0] * (height - 6)), 6 + int(fraction[1] * (width - 6))
        top, left = int(fraction[2] * (height - h)), int(fraction[3] * (width - w))
        boxes.append((left, top, w, h))
        expected.append(tv.resized_crop(image, top, left, h, w, list(side), InterpolationMode.BILINEAR, antialias=False))

    views = shown(padded, torch.tensor(sizes), crops(boxes, side)[:, None], side)

    torch.testing.assert_close(views[:, 0], torch.stack(expected), **EXACT)


def test_enlarging_a_whole_image_is_torchvisions_resize() -> None:
    image = noise(1, 3, 20, 14)
    padded = torch.nn.functional.pad(image, (0, 9, 0, 4), value=1.0)

    view = shown(padded, torch.tensor([[20, 14]]), crops([(0, 0, 14, 20)], (48, 48))[:, None], (48, 48))[:, 0]

    torch.testing.assert_close(view, tv.resize(image, [48, 48], InterpolationMode.BILINEAR, antialias=False), **EXACT)


def test_an_enlarging_crop_is_torchvisions_except_that_its_rim_sees_the_neighbours() -> None:
    """torchvision repeats the rim of the crop for half a pixel; here the image goes on there, since the crop is never cut out."""
    image, box, scale = noise(1, 3, 32, 32), (8, 4, 12, 16), 4
    side = (box[3] * scale, box[2] * scale)

    view = shown(image, torch.tensor([[32, 32]]), crops([box], side)[:, None], side)[0, 0]

    cut = tv.resized_crop(image[0], box[1], box[0], box[3], box[2], list(side), InterpolationMode.BILINEAR, antialias=False)
    rim = scale // 2
    torch.testing.assert_close(view[:, rim:-rim, rim:-rim], cut[:, rim:-rim, rim:-rim], **EXACT)
    whole = tv.resize(image[0], [128, 128], InterpolationMode.BILINEAR, antialias=False)
    torch.testing.assert_close(view, whole[:, box[1] * scale :, box[0] * scale :][:, : side[0], : side[1]], **EXACT)


def test_several_views_of_an_image_equal_one_after_another() -> None:
    images, sizes = noise(3, 2, 30, 26), torch.tensor([[30, 26], [20, 26], [30, 11]])
    views = crops([(1, 2, 9, 8), (0, 0, 11, 20), (3, 5, 7, 7)], (16, 16))[None].expand(3, -1, -1, -1)

    together = shown(images, sizes, views, (16, 16))

    for number in range(3):
        torch.testing.assert_close(together[:, number : number + 1], shown(images, sizes, views[:, number : number + 1], (16, 16)))


def test_outside_of_the_image_is_zero_even_where_the_padding_is_not() -> None:
    images = torch.ones(1, 1, 16, 16)
    shift_right_and_down = scale_and_shift(*torch.tensor([[1.0], [1.0], [-4.0], [-6.0]]))[:, None]

    view = shown(images, torch.tensor([[8, 10]]), shift_right_and_down, (16, 16))[0, 0, 0]

    expected = torch.zeros(16, 16)
    expected[6:14, 4:14] = 1
    assert torch.equal(view, expected)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), lines=st.sampled_from([Lines.UPRIGHT, Lines.PARALLEL]), outside=st.sampled_from(Outside))
def test_what_is_left_out_for_upright_and_parallel_lines_would_have_changed_nothing(seed: int, lines: Lines, outside: Outside) -> None:
    images, sizes, numbers = noise(2, 2, 30, 26, seed=seed), torch.tensor([[30, 26], [19, 24]]), noise(2, 3, 6, seed=seed) * 2 - 1
    turned = numbers[..., 2] * (lines is Lines.PARALLEL)
    maps = torch.zeros(2, 3, 3, 3)
    maps[..., 0, 0], maps[..., 0, 1], maps[..., 0, 2] = numbers[..., 0] * 2, turned, numbers[..., 3] * 20
    maps[..., 1, 0], maps[..., 1, 1], maps[..., 1, 2] = -turned, numbers[..., 1] * 2, numbers[..., 4] * 20
    maps[..., 2, 2] = 1
    axes = torch.full((2, 3, 2), 0.5) if outside is Outside.MIRRORED else None

    special, general = (
        resample(images, Places.seen([Look(maps, sizes[:, None].expand(2, 3, 2), outside, axes, kind)], (30, 26), (9, 12)))
        for kind in (lines, Lines.STRAIGHT)
    )

    torch.testing.assert_close(special, general, rtol=0, atol=1e-4)
    assert special.shape == (2, 3, 2, 9, 12)


def test_what_lies_behind_the_camera_is_zero() -> None:
    """Right of x = 4 the plane of this image is behind the observer, where the same division would show it upside down."""
    homography = torch.tensor([[1.0, 0, 0], [0, 1, 0], [-0.25, 0, 1]])

    view = shown(torch.ones(1, 1, 8, 8), torch.tensor([[8, 8]]), homography[None, None], (8, 8))[0, 0, 0]

    assert (view[0, :3] == 1).all()
    assert (view[:, 4:] == 0).all()


def test_a_homography_from_corners_takes_each_corner_to_its_place() -> None:
    output = torch.tensor([[[0.0, 0], [30, 0], [30, 20], [0, 20]], [[5.0, 3], [30, 0], [30, 20], [0, 20]]])
    image = torch.tensor([[[2.0, 1], [25, 4], [28, 19], [1, 16]], [[0.0, 0], [30, 0], [30, 20], [0, 20]]])

    mapped = torch.cat([output, torch.ones(2, 4, 1)], dim=2) @ from_corners(output, image).transpose(1, 2)

    torch.testing.assert_close(mapped[..., :2] / mapped[..., 2:], image, rtol=0, atol=1e-4)
