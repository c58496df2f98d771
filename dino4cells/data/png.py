"""PNG, by the fastest decoder that was found for its kind (`make bench ONLY=decoding`), and never one that could end the run."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from kornia_rs import io as kornia
from numpy.typing import NDArray
from torchvision.io import ImageReadMode, decode_image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PALETTE = 3
DEFLATE_RATIO = 1032
"""Times that deflate makes anything smaller, at most (zlib's technical details)."""
_MODES = {0: ("mono", 1), 2: ("rgb", 3), 6: ("rgba", 4)}
"""kornia's names for the colour types that it decodes, and their channels (PNG specification, §11.2.1)."""


def decode_png(content: bytes) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The channels of a PNG (C, H, W), as stored; a palette's numbers become its colours, bits black and white.

    Raises:
        ValueError: the file is truncated or damaged.
    """
    # torchvision dies of a segmentation fault, and the run with it, where libpng finds damage; so it is looked for first.
    if not _is_whole(content):
        raise ValueError("the PNG is truncated or damaged")
    width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))
    depth, colours = content[24], content[25]
    if depth < 8 or colours not in _MODES:
        # Unchanged, a palette would come back as the numbers of its colours.
        mode = ImageReadMode.RGB if colours == PALETTE else ImageReadMode.UNCHANGED
        pixels: NDArray[np.uint8] = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=mode).numpy()
        return pixels
    # A header may promise more than any memory holds, and a failed allocation would end the run.
    (name, channels), decode = _MODES[colours], kornia.decode_image_png_u8 if depth == 8 else kornia.decode_image_png_u16
    if width * height * channels * depth // 8 > DEFLATE_RATIO * len(content):
        raise ValueError(f"the PNG is truncated or damaged: it cannot hold {width} × {height} pixels")
    try:
        image: NDArray[np.uint8] | NDArray[np.uint16] = decode(content, (height, width), name)
    except Exception as error:  # kornia raises nothing more specific
        raise ValueError(f"the PNG is truncated or damaged: {error}") from error
    return np.moveaxis(image, -1, 0)


def _is_whole(content: bytes) -> bool:
    """Whether a header comes first and every chunk up to the last agrees with its checksum (PNG specification, §5.3 and §5.6)."""
    start, view = len(PNG_MAGIC), memoryview(content)
    if not content.startswith(b"\0\0\0\rIHDR", start):
        return False
    while start + 12 <= len(content):
        kind, end = content[start + 4 : start + 8], start + 8 + int.from_bytes(content[start : start + 4], "big")
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            return False
        if kind == b"IEND":
            return True
        start = end + 4
    return False
