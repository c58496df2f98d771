"""Projective maps of the image plane and the one resampling that applies them.

A homography maps a point of the output image to the point of the input image it shows. Coordinates are in pixels with the origin at
the upper left corner of the image, so that the centre of the first pixel is (0.5, 0.5); points are columns (x, y, 1). A view that is
first warped by A and then cropped by B is the input seen through A @ B.

Dimensions: B images, V views of each, N = B·V, C channels, S side of the view in pixels, P = pixels of a view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Look:
    """A look at an image that may reach beyond its border: zeros are there, or the image mirrored.

    Attributes:
        homographies_BV33: output pixels to pixels of the image that is looked at.
        sizes_BV2: height and width of that image.
        axes_BV2: how far inside the border (in y and x) lie the lines about which the image is mirrored beyond them; None: zeros there.
    """

    homographies_BV33: torch.Tensor
    sizes_BV2: torch.Tensor
    axes_BV2: torch.Tensor | None = None


def affine(xx: torch.Tensor, xy: torch.Tensor, x0: torch.Tensor, yx: torch.Tensor, yy: torch.Tensor, y0: torch.Tensor) -> torch.Tensor:
    """(N, 3, 3): x ← xx·x + xy·y + x0, y ← yx·x + yy·y + y0; every argument (N,)."""
    zero, one = torch.zeros_like(xx), torch.ones_like(xx)
    return torch.stack([xx, xy, x0, yx, yy, y0, zero, zero, one], dim=-1).reshape(-1, 3, 3)


def scale_and_shift(x_scale: torch.Tensor, y_scale: torch.Tensor, x0: torch.Tensor, y0: torch.Tensor) -> torch.Tensor:
    """(N, 3, 3) of a crop or resize: the output's origin shows (x0, y0), one output pixel covers x_scale × y_scale input pixels."""
    zero = torch.zeros_like(x_scale)
    return affine(x_scale, zero, x0, zero, y_scale, y0)


def from_corners(output_N42: torch.Tensor, input_N42: torch.Tensor) -> torch.Tensor:
    """(N, 3, 3) float32: the homography that takes four output points to four input points (Hartley and Zisserman 2004, §4.1)."""
    x, y = output_N42.to(torch.float64).unbind(-1)
    u, v = input_N42.to(torch.float64).unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=-1)
    rows_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=-1)
    solution = torch.linalg.solve(torch.cat([rows_u, rows_v], dim=1), torch.cat([u, v], dim=1))
    return torch.cat([solution, torch.ones_like(solution[:, :1])], dim=1).reshape(-1, 3, 3).to(torch.float32)


def resample(
    images_BCHW: torch.Tensor,
    sizes_B2: torch.Tensor,
    homographies_BV33: torch.Tensor,
    side: tuple[int, int],
    *,
    axes_BV2: torch.Tensor | None = None,
    later: Sequence[Look] = (),
) -> torch.Tensor:
    """Show every image through its V homographies, bilinear, without antialiasing, zeros outside the image.

    Within half a pixel of the border the border's value holds, as in torchvision's crop and resize.

    Args:
        images_BCHW: float images, padded at the right and bottom.
        sizes_B2: true height and width of each.
        homographies_BV33: output pixels to input pixels; with `later` looks, pixels of what the first of them looks at.
        side: height and width of the views.
        axes_BV2: where the image is mirrored beyond its border (`Look`), instead of zeros.
        later: looks at what the homographies show, in the order in which they follow: what one of them sees beyond the border of the
            image before it stays zero, though the homographies would show more of the stored image there.

    Returns:
        (B, V, C, side[0], side[1]).
    """
    batch, channels, height, width = images_BCHW.shape
    views = homographies_BV33.shape[1]
    rows, columns = side
    y, x = torch.meshgrid(
        torch.arange(rows, device=images_BCHW.device) + 0.5, torch.arange(columns, device=images_BCHW.device) + 0.5, indexing="ij"
    )
    points = torch.stack([x.reshape(-1), y.reshape(-1), torch.ones(rows * columns, device=images_BCHW.device)])
    whole = Look(homographies_BV33, sizes_B2[:, None], axes_BV2)
    xy, seen = _look(whole if not later else later[-1], points)
    for look in [*later[-2::-1], whole] if later else []:
        xy, inside = _look(look, torch.cat([xy, torch.ones_like(xy[:, :, :1])], dim=2))
        seen = seen & inside
    limits = sizes_B2.flip(-1).to(xy.dtype)[:, None, :, None]  # width, height
    xy = torch.minimum(xy.clamp(min=0.5), limits - 0.5)
    grid = xy * (2 / torch.tensor([width, height], device=xy.device, dtype=xy.dtype)[:, None]) - 1
    # The views of an image are stacked in height: one call, and the image is not copied once a view.
    grid = grid.transpose(2, 3).reshape(batch, views * rows, columns, 2)
    sampled = F.grid_sample(images_BCHW, grid, mode="bilinear", padding_mode="border", align_corners=False)
    shown = seen.reshape(batch, 1, views * rows, columns)
    return (sampled * shown).reshape(batch, channels, views, rows, columns).transpose(1, 2)


def _look(look: Look, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where points (3, P) or (B, V, 3, P) lie in the image that is looked at, (B, V, 2, P), and whether something is there, (B, V, P)."""
    mapped = look.homographies_BV33.to(points.dtype) @ points
    depth = mapped[:, :, 2:]
    xy = mapped[:, :, :2] / torch.where(depth.abs() < 1e-8, torch.full_like(depth, 1e-8), depth)
    ahead = depth[:, :, 0] > 0
    limits = look.sizes_BV2.flip(-1).to(xy.dtype)[..., None]  # width, height
    if look.axes_BV2 is None:
        return xy, ((xy >= 0) & (xy <= limits)).all(dim=2) & ahead
    axes = look.axes_BV2.flip(-1)[..., None]
    reach = (limits - 2 * axes).clamp(min=0)
    return axes + reach - ((xy - axes).remainder((2 * reach).clamp(min=1e-6)) - reach).abs(), ahead
