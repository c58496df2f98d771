"""A cell of any shape in a square: centred, mirrored, stretched; each held to a plain form for one image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv
from transforms_plainly import NEAR, UNLIKELY, draws, grey_levels, noise, sizes, views

from dino4cells.augment import fitting
from dino4cells.augment.draws import sample_keys
from dino4cells.augment.views import ViewKind

shapes = st.tuples(st.integers(2, 40), st.integers(2, 40))


def plainly_resized(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return tv.resize(image, [height, width], InterpolationMode.BILINEAR, antialias=False)


def plainly_shrunk(image: torch.Tensor, size: int) -> torch.Tensor:
    """The image with its longer side at `size`, the other in whole pixels; itself where it is not larger."""
    height, width = image.shape[1:]
    longest = max(height, width)
    return image if longest <= size else plainly_resized(image, max(height * size // longest, 1), max(width * size // longest, 1))


# Single_cell_centered, Single_cell_Mirror


@settings(max_examples=40, deadline=None, derandomize=True)
@given(shape=shapes)
def test_a_cell_is_shrunk_if_larger_and_centred_on_zeros(shape: tuple[int, int]) -> None:
    image = noise(2, *shape) * 0.5 + 0.5

    seen = views(fitting.FitCentered(24), image, 1)[0]

    fitted = plainly_shrunk(image, 24)
    top, left = (24 - fitted.shape[1]) // 2, (24 - fitted.shape[2]) // 2
    expected = F.pad(fitted, (left, 24 - fitted.shape[2] - left, top, 24 - fitted.shape[1] - top))
    torch.testing.assert_close(seen, expected, **NEAR)
    assert torch.equal(seen == 0, expected == 0)


def test_a_small_cell_is_not_resampled() -> None:
    image = grey_levels(2, 10, 21)

    seen = views(fitting.FitCentered(32), image / 255, 1)[0].mul(255).round()

    assert torch.equal(seen[:, 11:21, 5:26], image)
    assert float(seen.sum()) == float(image.sum())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(shape=shapes)
def test_a_mirrored_cell_goes_on_as_numpys_reflection(shape: tuple[int, int]) -> None:
    image = grey_levels(1, *shape) / 255

    seen = views(fitting.FitMirrored(32), image, 1)[0]

    fitted = plainly_shrunk(image, 32)
    top, left = (32 - fitted.shape[1]) // 2, (32 - fitted.shape[2]) // 2
    around = ((0, 0), (top, 32 - fitted.shape[1] - top), (left, 32 - fitted.shape[2] - left))
    np.testing.assert_allclose(seen.numpy(), np.pad(fitted.numpy(), around, mode="reflect"), atol=1e-4)


def test_a_single_pixel_is_mirrored_to_all_of_the_square() -> None:
    assert torch.equal(views(fitting.FitMirrored(8), torch.full((1, 1, 1), 0.5), 1)[0], torch.full((1, 8, 8), 0.5))


# Single_cell_Resize_keep_aspect_ratio, Single_cell_random_resize


@settings(max_examples=40, deadline=None, derandomize=True)
@given(shape=shapes)
def test_a_cell_keeps_its_aspect_ratio_and_fills_the_longer_side(shape: tuple[int, int]) -> None:
    image, longest = noise(1, *shape) * 0.5 + 0.5, max(shape)

    seen = views(fitting.FitKeepingAspectRatio(28), image, 1)[0]

    height, width = max(shape[0] * 28 // longest, 1), max(shape[1] * 28 // longest, 1)
    bottom, right = (28 - height) // 2, (28 - width) // 2
    around = (28 - width - right, right, 28 - height - bottom, bottom)
    torch.testing.assert_close(seen, F.pad(plainly_resized(image, height, width), around), **NEAR)


def test_a_square_larger_than_224_px_is_filled_too() -> None:
    """The original cuts every such square to 224 px."""
    assert views(fitting.FitKeepingAspectRatio(240), torch.ones(1, 10, 10), 1).min() > 0.999


def test_random_sizes_lie_between_180_and_223_of_224_px_alone_for_height_and_width() -> None:
    maps, _ = fitting.FitAtRandomSize().homography(sizes(4000, 100, 100), draws(4000))

    heights, widths = 100 / maps[:, 1, 1], 100 / maps[:, 0, 0]
    for lengths in (heights, widths):
        counts = torch.bincount(lengths.round().long(), minlength=224)
        assert len(counts) == 224
        assert counts[:180].sum() == 0
        assert stats.chisquare(counts[180:].numpy()).pvalue > UNLIKELY
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.1


def test_a_cell_of_random_size_is_the_resized_cell_in_the_middle() -> None:
    image = noise(2, 20, 33) * 0.5 + 0.5

    for seen in views(fitting.FitAtRandomSize(28), image, 20):
        rows, columns = seen[0].any(dim=1).nonzero().flatten(), seen[0].any(dim=0).nonzero().flatten()
        height, width = len(rows), len(columns)
        inner = seen[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        torch.testing.assert_close(inner, plainly_resized(image, height, width), **NEAR)
        assert (int(rows[0]), int(columns[0])) == (-((height - 28) // 2), -((width - 28) // 2))


def test_small_squares_have_their_share_of_the_random_sizes() -> None:
    _, outputs = fitting.FitAtRandomSize(1).homography(sizes(5, 9, 9), draws(5))

    assert (outputs == 1).all()


# Single_cell_Resize, FA_resize


@settings(max_examples=40, deadline=None, derandomize=True)
@given(shape=st.tuples(st.integers(1, 32), st.integers(1, 90)))
def test_resizing_stretches_corner_pixels_to_corner_pixels(shape: tuple[int, int]) -> None:
    image = noise(3, *shape)

    seen = views(fitting.Resize(16), image, 1)[0]

    torch.testing.assert_close(seen, F.interpolate(image[None], size=(16, 16), mode="bilinear", align_corners=True)[0], **NEAR)


@pytest.mark.parametrize("shape", [(33, 40), (64, 64), (50, 120), (37, 200)])
def test_an_image_more_than_twice_as_large_is_averaged_down_first(shape: tuple[int, int]) -> None:
    image = noise(2, *shape)

    seen = views(fitting.Resize(16), image, 1)[0]

    by = min(shape) / 32
    averaged = F.interpolate(image[None], scale_factor=1 / by, mode="area", recompute_scale_factor=True)
    assert min(averaged.shape[2:]) == 32
    torch.testing.assert_close(seen, F.interpolate(averaged, size=(16, 16), mode="bilinear", align_corners=True)[0], **NEAR)


def test_large_and_small_images_of_one_batch_are_resized_as_alone() -> None:
    shapes = [(70, 40), (12, 20), (40, 70), (33, 34), (90, 90)]
    kind = ViewKind((fitting.Resize(16),))
    keys = sample_keys(0, *(torch.zeros(5, 1, dtype=torch.int64),) * 3)
    padded = torch.full((5, 2, 95, 95), 0.7)
    images = [noise(2, *shape, seed=number) for number, shape in enumerate(shapes)]
    for target, image in zip(padded, images, strict=True):
        target[:, : image.shape[1], : image.shape[2]] = image

    together = kind.make(padded, torch.tensor(shapes), keys)[0]

    for number, image in enumerate(images):
        alone = kind.make(image[None], torch.tensor([shapes[number]]), keys[:1])[0, 0]
        torch.testing.assert_close(together[number], alone, rtol=0, atol=2e-4)
