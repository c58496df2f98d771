"""PNG, by the fastest decoder that was found for its kind (`make bench ONLY=decoding`), and never one that could end the run."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from kornia_rs import io as kornia
from numpy.typing import NDArray
from PIL import Image

from dino4cells.data.size import check_size

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PALETTE, GREY_ALPHA = 3, 4
DEFLATE_RATIO = 1032
"""Times that deflate makes anything smaller, at most (zlib's technical details)."""
SPARE = 2**16
"""Bytes that compressed pixels may have beyond twice the pixels themselves; more are not theirs, and would be unpacked none the less."""
Pixels = NDArray[np.uint8] | NDArray[np.uint16]
_MODES = {0: ("mono", 1), 2: ("rgb", 3), 6: ("rgba", 4)}
"""kornia's names for the colour types that it decodes, and their channels (PNG specification, §11.2.1)."""
_SAMPLES = {0: 1, 2: 3, PALETTE: 1, GREY_ALPHA: 2, 6: 4}
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
"""Chunks that colours are made of; others can hold text and profiles that unpack to gigabytes."""


def decode_png(content: bytes) -> Pixels:
    """The channels of a PNG (C, H, W), as stored; a palette's numbers become its colours, bits black and white.

    Raises:
        ValueError: the file is truncated, damaged or too large.
    """
    content, pixel_bytes = _checked(content)
    width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))
    depth, colours = content[24], content[25]
    if colours not in _SAMPLES:
        raise ValueError("the PNG is truncated or damaged")
    samples = _SAMPLES[colours]
    # A header may promise more than any memory holds, and a failed allocation would end the run.
    raw = (width * samples * depth + 7) // 8 * height
    if raw > DEFLATE_RATIO * len(content):
        raise ValueError(f"the PNG is truncated or damaged: it cannot hold {width} × {height} pixels")
    check_size(width, height, 3 if colours == PALETTE else samples, max(1, depth // 8))
    if pixel_bytes > 2 * (raw + 8 * height) + SPARE:
        raise ValueError(f"the PNG is damaged: it holds more than its {width} × {height} pixels")
    if depth < 8 or colours == PALETTE:
        return _by_pillow(content, (width, height), colours)
    if colours == GREY_ALPHA:
        return _grey_alpha(content, (width, height), depth)
    return np.moveaxis(_by_kornia(content, (width, height), colours, depth), -1, 0)


def _by_kornia(content: bytes, size: tuple[int, int], colours: int, depth: int) -> Pixels:
    """Pixels (H, W, C) of 8 or 16 bits."""
    name, _ = _MODES[colours]
    decode = kornia.decode_image_png_u8 if depth == 8 else kornia.decode_image_png_u16
    try:
        image: Pixels = decode(content, size[::-1], name)
    except Exception as error:  # kornia raises nothing more specific
        raise ValueError(f"the PNG is truncated or damaged: {error}") from error
    return image


def _grey_alpha(content: bytes, size: tuple[int, int], depth: int) -> Pixels:
    """Grey and alpha, which kornia does not know: it is told of one channel of 16 bits, or of four of 8, whose bytes are the same."""
    colours, told = (0, 16) if depth == 8 else (6, 8)
    header = content[12:24] + bytes((told, colours)) + content[26:29]
    content = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    image = _by_kornia(content, size, colours, told)
    both = image.astype(">u2").view(np.uint8) if depth == 8 else np.ascontiguousarray(image).view(">u2").astype(np.uint16)
    return np.moveaxis(both.reshape(size[1], size[0], 2), -1, 0)


def _by_pillow(content: bytes, size: tuple[int, int], colours: int) -> NDArray[np.uint8]:
    """Palettes and fewer than 8 bits. Pillow raises where libpng, as torchvision calls it, would end the process."""
    try:
        image = Image.open(io.BytesIO(content), formats=["PNG"])
        if image.size != size:
            raise ValueError("two sizes")
        pixels = np.array(image.convert("RGB" if colours == PALETTE else "L"))
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, struct.error, zlib.error) as error:
        raise ValueError(f"the PNG is truncated or damaged: {error}") from error
    return np.moveaxis(np.atleast_3d(pixels), -1, 0)


def _checked(content: bytes) -> tuple[bytes, int]:
    """The file's chunks of colours, and how many bytes of them are compressed pixels.

    A header comes first, and every chunk up to the last agrees with its checksum (PNG specification, §5.3 and §5.6).

    Raises:
        ValueError: it is not so.
    """
    start, view, pixels, is_plain = len(PNG_MAGIC), memoryview(content), 0, True
    kept = [view[:start]]
    if not content.startswith(b"\0\0\0\rIHDR", start):
        raise ValueError("the PNG is truncated or damaged")
    while start + 12 <= len(content):
        kind, end = content[start + 4 : start + 8], start + 8 + int.from_bytes(content[start : start + 4], "big")
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            break
        is_plain = is_plain and kind in _NEEDED
        if kind in _NEEDED:
            kept.append(view[start : end + 4])
        if kind == b"IDAT":
            pixels += end - start - 8
        if kind == b"IEND":
            return content if is_plain else b"".join(kept), pixels
        start = end + 4
    raise ValueError("the PNG is truncated or damaged")
