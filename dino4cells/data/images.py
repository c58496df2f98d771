"""Decoding: encoded bytes to a tensor of channels.

A decoded image is C×H×W: uint8 as stored, or float32 in [0, 1] when the file holds more than eight bits.
"""

from __future__ import annotations

import io
import re
import struct
import zlib

import numpy as np
import tifffile
import torch
from torchvision.io import ImageReadMode, decode_image

from dino4cells.errors import DataError

TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_COLOUR_TYPE, PNG_PALETTE = 25, 3  # byte of the header, and its value
MAX_CHANNELS = 12

_PLACE_IN_TORCHVISION = re.compile(r"^.*\.cpp:\d+, ")


def decode(content: bytes, where: str) -> torch.Tensor:
    """Decode a PNG, JPEG or TIFF image.

    Args:
        content: the file's bytes.
        where: its URL, for the message.

    Returns:
        (C, H, W) tensor: uint8, or float32 in [0, 1] for 16-bit files.

    Raises:
        DataError: the bytes are no image that can be read.
    """
    if not content:
        raise DataError(f"{where}: the file is empty; export the image again or delete its row.")
    try:
        if content.startswith(TIFF_MAGIC):
            image = _decode_tiff(content)
        elif content.startswith(PNG_MAGIC):
            image = _decode_png(content)
        elif content.startswith(JPEG_MAGIC):
            image = _decode_compressed(content, ImageReadMode.UNCHANGED)
        else:
            raise ValueError("it does not begin as a PNG, JPEG or TIFF does")
    except (RuntimeError, ValueError) as error:
        reason = _PLACE_IN_TORCHVISION.sub("", str(error).partition("\n")[0]).rstrip(".")
        raise DataError(f"{where}: not an image that can be read ({reason}); export it again as PNG or TIFF, or delete its row.") from error
    if image.dtype == torch.uint8:
        return image
    return image.to(torch.float32) / 65535


def _decode_compressed(content: bytes, mode: ImageReadMode) -> torch.Tensor:
    buffer = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    image: torch.Tensor = decode_image(buffer, mode=mode)
    return image


def _decode_png(content: bytes) -> torch.Tensor:
    # torchvision dies of a segmentation fault, and the run with it, where libpng finds damage; so it is looked for first.
    if not _png_is_whole(content):
        raise ValueError("the PNG is truncated or damaged")
    # Unchanged, a palette would come back as the numbers of its colours.
    palette = content[PNG_COLOUR_TYPE] == PNG_PALETTE
    return _decode_compressed(content, ImageReadMode.RGB if palette else ImageReadMode.UNCHANGED)


def _png_is_whole(content: bytes) -> bool:
    """Whether every chunk up to the last agrees with its checksum (PNG specification, §5.3)."""
    start, view = len(PNG_MAGIC), memoryview(content)
    while start + 12 <= len(content):
        kind, end = content[start + 4 : start + 8], start + 8 + int.from_bytes(content[start : start + 4], "big")
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            return False
        if kind == b"IEND":
            return True
        start = end + 4
    return False


def _decode_tiff(content: bytes) -> torch.Tensor:
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            series = file.series[0]
            array, axes = series.asarray(), series.axes
    except (RuntimeError, ValueError, LookupError, ArithmeticError, TypeError, OSError, struct.error, zlib.error) as error:
        # Damage comes to light wherever tifffile happens to stumble over it.
        raise ValueError(f"the TIFF is damaged or of a kind that is not supported: {error}") from error
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"TIFF of type {array.dtype}; 8 and 16 bit are supported")
    array = array.squeeze(tuple(place for place, axis in enumerate(axes) if array.shape[place] == 1 and axis not in "YX"))
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise ValueError(f"TIFF of shape {array.shape}; channels × height × width is expected")
    if axes.endswith("S") or array.shape[-1] <= MAX_CHANNELS < array.shape[0]:
        array = np.moveaxis(array, -1, 0)
    if array.shape[0] > MAX_CHANNELS:
        raise ValueError(f"TIFF of shape {array.shape} has more than {MAX_CHANNELS} channels")
    return torch.from_numpy(np.ascontiguousarray(array.astype(np.int32 if array.dtype == np.uint16 else np.uint8)))
