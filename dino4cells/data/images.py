"""Decoding: encoded bytes to a tensor of channels.

A decoded image is C×H×W, as stored: uint8, uint16, or floating point numbers in [0, 1] as float32. Where a network or a person wants
integers in [0, 1], they are divided by the largest of their type: 65535 for 16 bits, whatever part of them the camera uses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dino4cells.data.jpeg import JPEG_MAGIC, decode_jpeg
from dino4cells.data.npy import NPY_MAGIC, decode_npy
from dino4cells.data.png import PNG_MAGIC, decode_png
from dino4cells.data.tiff import MAX_CHANNELS, decode_tiff
from dino4cells.errors import DataError
from dino4cells.printable import printable

__all__ = ["MAX_CHANNELS", "Picture", "decode", "decode_picture", "to_unit_range"]

TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

LARGEST = {torch.uint8: 255, torch.uint16: 65535}
"""The grey value that means 1."""

REASON = 300
"""Characters of a decoder's reason, which may quote the file."""

_PLACE_IN_TORCHVISION = re.compile(r"^.*\.cpp:\d+, ")


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        pixels: (C, H, W), uint8, uint16, or float32 in [0, 1].
        kind: what the file is, such as `16-bit TIFF`.
        channels: names of the channels, where the file gives them.
    """

    pixels: torch.Tensor
    kind: str
    channels: tuple[str, ...] | None = None


def decode(content: bytes, where: str) -> torch.Tensor:
    """The pixels of `decode_picture`: (C, H, W) uint8, uint16, or float32 in [0, 1]."""
    return decode_picture(content, where).pixels


def decode_picture(content: bytes, where: str) -> Picture:
    """Decode a PNG, JPEG, TIFF or NPY image.

    Args:
        content: the file's bytes.
        where: its URL, for the message.

    Raises:
        DataError: the bytes are no image that can be read.
    """
    if not content:
        raise DataError(f"{where}: the file is empty; export the image again or delete its row.")
    names = None
    try:
        if content.startswith(TIFF_MAGIC):
            array, names = decode_tiff(content)
            pixels, depth, kind = *_in_range(array, "TIFF"), "TIFF"
        elif content.startswith(NPY_MAGIC):
            pixels, depth, kind = *_in_range(decode_npy(content), "NPY"), "NPY"
        elif content.startswith(PNG_MAGIC):
            pixels, depth, kind = *_in_range(decode_png(content), "PNG"), "PNG"
        elif content.startswith(JPEG_MAGIC):
            pixels, depth, kind = decode_jpeg(content), "8-bit", "JPEG"
        else:
            raise ValueError("it does not begin as a PNG, JPEG, TIFF or NPY does")
        if 0 in pixels.shape:
            raise ValueError(f"it has {pixels.shape[2]} × {pixels.shape[1]} pixels")
    except (RuntimeError, ValueError) as error:
        reason = printable(_PLACE_IN_TORCHVISION.sub("", str(error).partition("\n")[0]).rstrip("."), REASON)
        raise DataError(f"{where}: not an image that can be read ({reason}); export it again as PNG or TIFF, or delete its row.") from error
    return Picture(pixels, f"{depth} {kind}", names)


def _in_range(array: NDArray[np.generic], kind: str) -> tuple[torch.Tensor, str]:
    """Pixels of an array in uint8, uint16 or in [0, 1], and what they were."""
    if array.dtype.kind == "b":
        return torch.from_numpy(array.astype(np.uint8) * np.uint8(255)), "1-bit"
    if array.dtype.kind == "f":
        real = torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
        low, high = float(real.min()), float(real.max())
        if not (low >= 0 and high <= 1):  # also where one is not a number
            raise ValueError(
                f"{kind} of floating point numbers from {low:.5g} to {high:.5g}, which must lie in [0, 1]; divide all images by one number"
            )
        return real, f"{array.dtype.name}"
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise ValueError(f"{kind} of type {array.dtype}; uint8, uint16 and floating point numbers in [0, 1] are supported")
    native = array.astype(array.dtype.newbyteorder("="), copy=not array.flags.writeable)
    return torch.from_numpy(native), f"{8 * array.dtype.itemsize}-bit"


def to_unit_range(images: torch.Tensor) -> torch.Tensor:
    """Grey values of 8 or 16 bits to float32 in [0, 1]; floating point images are returned as they are."""
    largest = LARGEST.get(images.dtype)
    return images if largest is None else images.to(torch.float32) / largest
