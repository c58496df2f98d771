"""JPEG of 8 bits, grey or in colour; its frame header is read before anything is made room for (ITU-T T.81, B.2.2)."""

from __future__ import annotations

import torch

from dino4cells.data.size import MAX_BYTES, check_size

JPEG_MAGIC = b"\xff\xd8\xff"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset((0x01, *range(0xD0, 0xD9)))
_SCAN, _END = 0xDA, 0xD9
SCANS_OF_THE_LARGEST = 16
"""Passes over all pixels of an image of the largest size; a progressive one has some ten, and an attacker's as many as it likes."""


def decode_jpeg(content: bytes) -> torch.Tensor:
    """The channels of a JPEG (C, H, W).

    Raises:
        ValueError, RuntimeError: it is damaged, too large, or made of inks.
    """
    width, height, components = _frame(content)
    if components == 4:
        raise ValueError("the JPEG is in CMYK, inks of a printer that are no intensities")
    check_size(width, height, components)
    if content.count(b"\xff\xda") * width * height * components > SCANS_OF_THE_LARGEST * MAX_BYTES:
        raise ValueError(f"the JPEG goes {content.count(bytes((0xFF, _SCAN)))} times over {width:,} × {height:,} pixels")
    from torchvision.io import ImageReadMode, decode_image  # takes longer to import than PyTorch itself

    image: torch.Tensor = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=ImageReadMode.UNCHANGED)
    return image


def _frame(content: bytes) -> tuple[int, int, int]:
    """Width, height and number of components that the frame header gives."""
    place = 2
    while (place := content.find(b"\xff", place)) >= 0 and place + 4 <= len(content):
        kind = content[place + 1]
        if kind in (0x00, 0xFF) or kind in _BARE:
            place += 1 if kind == 0xFF else 2
            continue
        if kind in _FRAMES and place + 10 <= len(content):
            height, width = (int.from_bytes(content[at : at + 2], "big") for at in (place + 5, place + 7))
            return width, height, content[place + 9]
        if kind in (_SCAN, _END):
            break
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    raise ValueError("the JPEG is truncated or damaged: it has no frame header")
