"""Images that a caller holds in memory, made into batches as extraction reads them from files.

Dimensions: N images, B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dino4cells.data.channels import Names, are_numbered
from dino4cells.data.dataset import Batch, padded
from dino4cells.data.images import to_unit_range
from dino4cells.errors import DataError

Image = NDArray[Any] | torch.Tensor
Images = Image | Sequence[Image]
"""An array (N, C, H, W), one image (C, H, W), or a list of images of any sizes."""

AS_STORED = (torch.uint8, torch.uint16)
WHITE = {torch.bool: 1, torch.int16: 32767}
"""The grey value that means 1 in types that are no 8 or 16 bits of a camera."""


def images_of(images: Images, white: float | None) -> list[torch.Tensor]:
    """Each image (C, H, W), uint8, uint16, or float32 in [0, 1].

    Args:
        images: integers mean 1 where they are the largest of their type (255 of uint8, 65535 of uint16, 32767 of int16); floating point
            numbers lie in [0, 1].
        white: the value that means 1 instead; needed for integers of 32 and 64 bits, of which nobody uses the whole range.

    Raises:
        DataError: another shape, or values outside of the range.
    """
    if isinstance(images, (np.ndarray, torch.Tensor)):
        whole = _tensor(images, "images")
        if whole.ndim not in (3, 4):
            raise DataError(f"images: an array of shape {_shape(whole)} is given; give images × channels × height × width, or one image.")
        return list(_in_range(whole if whole.ndim == 4 else whole[None], "images", white))
    tensors = [_tensor(image, f"image {number}") for number, image in enumerate(images)]
    for number, image in enumerate(tensors):
        if image.ndim != 3:
            raise DataError(f"image {number}: has the shape {_shape(image)}; each image of a list is channels × height × width.")
    return [_in_range(image, f"image {number}", white) for number, image in enumerate(tensors)]


def positions(given: Sequence[str] | None, wanted: Names) -> tuple[int, ...] | None:
    """Where the model's channels are among those of the images, which are called `given`; None: they are the model's, in its order.

    Raises:
        DataError: the model's channels have no names, or one of them is not given; says both lists.
    """
    if given is None:
        return None
    lists = f"channels: the images have {', '.join(given)} and the model takes {', '.join(wanted)}"
    if are_numbered(wanted):
        raise DataError(f"{lists}, which are no names; leave channels out, and give them in the order of the training images.")
    missing = [name for name in wanted if name not in given]
    if missing:
        raise DataError(f"{lists}, so that there is no {' and no '.join(missing)}; name the images' channels as the model does.")
    return tuple(list(given).index(name) for name in wanted)


def chosen(image_CHW: torch.Tensor, places: Sequence[int] | None, names: Sequence[str] | None, wanted: Names, where: str) -> torch.Tensor:
    """The model's channels of an image, in its order.

    Args:
        places: from `positions`.
        names: of the image's channels, where they are given.
        wanted: the model's.
        where: what messages call the image.

    Raises:
        DataError: the image has another number of channels; says both.
    """
    expected = wanted if names is None else tuple(names)
    if image_CHW.shape[0] != len(expected):
        hint = " (is the channel the last dimension?)" if image_CHW.shape[-1] == len(expected) else ""
        raise DataError(
            f"{where}: has {image_CHW.shape[0]} channels of {image_CHW.shape[1]}×{image_CHW.shape[2]} px where "
            f"{len(expected)} are expected ({', '.join(expected)}); give these, in this order{hint}."
        )
    return image_CHW if places is None else image_CHW[list(places)]


def batch_of(images: Sequence[torch.Tensor], first: int, channels: int) -> Batch:
    """A batch of images, the first of which has the number `first`."""
    return padded(list(images), [(0, first + number) for number in range(len(images))], (), channels)


def _tensor(image: object, where: str) -> torch.Tensor:
    if isinstance(image, torch.Tensor):
        return image.detach().cpu()
    array = np.asarray(image)
    if array.dtype.kind not in "buif":
        raise DataError(f"{where}: is of type {array.dtype}; give an array of integers or floating point numbers.")
    native = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))
    return torch.from_numpy(native if native.flags.writeable else native.copy())


def _in_range(images: torch.Tensor, where: str, white: float | None) -> torch.Tensor:
    if images.numel() == 0:
        return images.to(torch.uint8)
    if white is None and images.dtype in AS_STORED:
        return images
    whole = not images.dtype.is_floating_point
    largest = white if white is not None else WHITE.get(images.dtype) if whole else 1
    if largest is None:
        raise DataError(
            f"{where}: integers of type {str(images.dtype).removeprefix('torch.')} do not say which value means 1; "
            "give white=255, white=4095 or another, or convert to uint8 or uint16."
        )
    if largest <= 0:
        raise DataError(f"white: must be above 0, not {largest:g}.")
    scaled = (images.double() / largest).float() if whole else images.float() / largest
    low, high = float(scaled.amin()) * largest, float(scaled.amax()) * largest
    if not (low >= 0 and high <= largest):  # also where one is not a number
        kind = "integers" if whole else "floating point numbers"
        mend = "divide them by one number, or say by white= which value means 1" if white is None else "correct white="
        raise DataError(f"{where}: {kind} from {low:.5g} to {high:.5g}, which must lie in [0, {largest:g}]; {mend}.")
    return to_unit_range(scaled)


def _shape(image: torch.Tensor) -> str:
    return "×".join(str(length) for length in image.shape)
