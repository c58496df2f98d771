"""Projective maps of the image plane and the one resampling that applies them.

A homography maps a point of the output image to the point of the input image it shows. Coordinates are in pixels with the origin at
the upper left corner of the image, so that the centre of the first pixel is (0.5, 0.5); points are columns (x, y, 1). A view that is
first warped by A and then cropped by B is the input seen through A @ B.

Dimensions: B images, V views of each, N = B·V, C channels. Coordinates of all pixels of a view, x and y apart, are (B, V, height, width),
or broadcast to it: where columns of a view are columns of the image, x is (B, V, 1, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from functools import reduce

import torch
import torch.nn.functional as F


class Outside(Enum):
    """What a geometric transform shows of the plane outside its input."""

    NEVER_SEEN = "it looks at the input alone"
    ZEROS = "zeros"
    MIRRORED = "the input's mirror"


class Lines(IntEnum):
    """What a homography leaves of lines; the more it leaves, the fewer numbers there are to work out for each pixel."""

    UPRIGHT = 0
    """A column of the output is one of the input, a row is a row: crops, resizes, flips."""
    PARALLEL = 1
    """Affine maps: turns too."""
    STRAIGHT = 2
    """Any homography."""


@dataclass(frozen=True)
class Look:
    """A look at an image, and at what is beyond its border.

    Attributes:
        homographies_BV33: output pixels to pixels of the image that is looked at.
        sizes_BV2: height and width of that image.
        outside: what is beyond its border.
        axes_BV2: where it is mirrored, how far inside the border (in y and x) the lines lie about which it is.
        lines: what all the homographies leave of lines.
    """

    homographies_BV33: torch.Tensor
    sizes_BV2: torch.Tensor
    outside: Outside = Outside.ZEROS
    axes_BV2: torch.Tensor | None = None
    lines: Lines = Lines.STRAIGHT

    def then(self, homographies_BV33: torch.Tensor, lines: Lines) -> Look:
        """The same look, through the given homographies."""
        return replace(self, homographies_BV33=self.homographies_BV33 @ homographies_BV33, lines=max(self.lines, lines))

    def of_images(self, rows: slice) -> Look:
        """The look at some of the images."""
        axes_BV2 = None if self.axes_BV2 is None else self.axes_BV2[rows]
        return replace(self, homographies_BV33=self.homographies_BV33[rows], sizes_BV2=self.sizes_BV2[rows], axes_BV2=axes_BV2)


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
    # Corners of a quadrilateral always have a solution; to check that, a GPU would be waited for.
    solution, _ = torch.linalg.solve_ex(torch.cat([rows_u, rows_v], dim=1), torch.cat([u, v], dim=1))
    return torch.cat([solution, torch.ones_like(solution[:, :1])], dim=1).reshape(-1, 3, 3).to(torch.float32)


@dataclass(frozen=True)
class Places:
    """Where the pixels of views lie in their images.

    Attributes:
        x, y: within the image, as grid_sample counts: from -1, the border of the padded tensor, to 1.
        beyond: by how much the pixels are beyond the borders of what is looked at; nothing is seen where one of the numbers is above 0.
    """

    x: torch.Tensor
    y: torch.Tensor
    beyond: tuple[torch.Tensor, ...] = ()

    @classmethod
    def seen(cls, looks: Sequence[Look], padded: tuple[int, int], side: tuple[int, int]) -> Places:
        """Those of views of a height and width.

        Args:
            looks: the first at the images, each of the others at what the one before it shows: what it sees beyond the border of that
                stays zero, though the image would go on there.
            padded: height and width of the tensor of the images.
            side: height and width of the views.
        """
        device = looks[0].homographies_BV33.device
        x, y = torch.arange(side[1], device=device) + 0.5, torch.arange(side[0], device=device)[:, None] + 0.5
        beyond: list[torch.Tensor] = []
        for look in reversed(looks):
            x, y = _looked(look, x, y, beyond)
        lengths = looks[0].sizes_BV2.to(x.dtype)[..., None, None].unbind(2)
        for places, length, whole in zip((y, x), lengths, padded, strict=True):
            # Within half a pixel of the border the border's value holds, as in torchvision's crop and resize.
            torch.minimum(places.clamp_(min=0.5), length - 0.5, out=places).mul_(2 / whole).sub_(1)
        return cls(x, y, tuple(beyond))

    def of_images(self, rows: slice) -> Places:
        """Those in some of the images."""
        return Places(self.x[rows], self.y[rows], tuple(numbers[rows] for numbers in self.beyond))


def _looked(look: Look, x: torch.Tensor, y: torch.Tensor, beyond: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Where points lie in the image that is looked at; adds to `beyond`."""
    xx, xy, x0, yx, yy, y0, zx, zy, z0 = look.homographies_BV33[..., None, None].flatten(2, 3).unbind(2)
    if look.lines is Lines.UPRIGHT:
        x, y = xx * x + x0, yy * y + y0
    elif look.lines is Lines.PARALLEL:
        x, y = xx * x + (xy * y + x0), yx * x + (yy * y + y0)
    else:
        # Points behind the camera come to lie far out.
        depth = (zx * x + (zy * y + z0)).clamp_(min=1e-8)
        x, y = (xx * x + (xy * y + x0)).div_(depth), (yx * x + (yy * y + y0)).div_(depth)
    height, width = look.sizes_BV2.to(x.dtype)[..., None, None].unbind(2)
    if look.outside is Outside.ZEROS:
        beyond += [(places - length / 2).abs_().sub_(length / 2) for places, length in ((x, width), (y, height))]
    if look.axes_BV2 is not None:
        axis_y, axis_x = look.axes_BV2[..., None, None].unbind(2)
        x, y = _mirrored(x, width, axis_x), _mirrored(y, height, axis_y)
    return x, y


def _mirrored(places: torch.Tensor, length: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
    reach = (length - 2 * axis).clamp(min=0)
    return axis + reach - ((places - axis).remainder((2 * reach).clamp(min=1e-6)) - reach).abs()


def resample(images_BCHW: torch.Tensor, places: Places) -> torch.Tensor:
    """Show every image at the places of V views, bilinear, without antialiasing.

    Args:
        images_BCHW: float images, padded at the right and bottom.
        places: of the views.

    Returns:
        (B, V, C, height, width).
    """
    (batch, channels), (x, y) = images_BCHW.shape[:2], (places.x, places.y)
    views, rows, columns = x.shape[1], y.shape[2], x.shape[3]
    # A complex number is a pair of coordinates, which makes the grid in one pass. The views of an image are stacked in height: one call,
    # and the image is not copied once a view.
    grid = torch.view_as_real(torch.complex(x, y) if x.shape == y.shape else x + y * 1j).reshape(batch, views * rows, columns, 2)
    sampled = F.grid_sample(images_BCHW, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if places.beyond:
        furthest = reduce(torch.maximum, places.beyond).expand(batch, views, rows, columns)
        # As float: a product with bool takes three times as long.
        seen = torch.le(furthest, 0, out=torch.empty(furthest.shape, device=furthest.device))
        sampled.mul_(seen.reshape(batch, 1, views * rows, columns))
    return sampled.reshape(batch, channels, views, rows, columns).transpose(1, 2)
