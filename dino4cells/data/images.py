"""Decoding: encoded bytes to a tensor of channels.

A decoded image is C×H×W: uint8 as stored, or float32 in [0, 1] when the file holds more than eight bits.
"""

from __future__ import annotations

import io

import numpy as np
import tifffile
import torch
from torchvision.io import ImageReadMode, decode_image

from dino4cells.errors import DataError

TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
MAX_CHANNELS = 12


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
        image = _decode_tiff(content) if content.startswith(TIFF_MAGIC) else _decode_compressed(content)
    except (RuntimeError, ValueError, KeyError, IndexError, tifffile.TiffFileError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"{where}: not an image that can be read ({reason}); export it again as PNG or TIFF, or delete its row.") from error
    if image.dtype == torch.uint8:
        return image
    return image.to(torch.float32) / 65535


def _decode_compressed(content: bytes) -> torch.Tensor:
    buffer = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    image: torch.Tensor = decode_image(buffer, mode=ImageReadMode.UNCHANGED)
    return image


def _decode_tiff(content: bytes) -> torch.Tensor:
    array = np.squeeze(tifffile.imread(io.BytesIO(content)))
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"TIFF of type {array.dtype}; 8 and 16 bit are supported")
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise ValueError(f"TIFF of shape {array.shape}; channels × height × width is expected")
    if array.shape[-1] <= MAX_CHANNELS < array.shape[0]:
        array = np.moveaxis(array, -1, 0)
    if array.shape[0] > MAX_CHANNELS:
        raise ValueError(f"TIFF of shape {array.shape} has more than {MAX_CHANNELS} channels")
    return torch.from_numpy(np.ascontiguousarray(array.astype(np.int32 if array.dtype == np.uint16 else np.uint8)))
