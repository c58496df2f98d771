"""What other programs read of an image: Pillow, tifffile and numpy, by their own decoders."""

from __future__ import annotations

import io
import warnings

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.generic]


def agrees(pixels: torch.Tensor, content: bytes, kind: str) -> bool | None:
    """Whether a decoded image is what another reader makes of the file; None where that reader does not read it.

    Args:
        pixels: (C, H, W).
        content: of the file.
        kind: `PNG`, `JPEG`, `TIFF` or `NPY`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind in ("PNG", "JPEG"):
                return _as_pillow(pixels, content, kind)
            other = tifffile.imread(io.BytesIO(content)) if kind == "TIFF" else np.load(io.BytesIO(content), allow_pickle=False)
    except Exception:
        return None
    return _same_numbers(pixels, other)


def _as_pillow(pixels: torch.Tensor, content: bytes, kind: str) -> bool | None:
    if b"acTL" in content:
        return None  # Pillow cuts the first frame of an animation to a place that its metadata give
    image = Image.open(io.BytesIO(content))
    if image.mode == "P":
        image = image.convert("RGB")
    other = np.moveaxis(np.asarray(image, np.int64).reshape(image.height, image.width, -1), -1, 0)
    if image.mode == "1":
        other = other * 255
    ours = pixels.numpy().astype(np.int64)
    if pixels.dtype == torch.uint16 and len(ours) == 2 and len(other) == 4:
        other = other[2:]  # grey and alpha of 16 bits are RGBA of 8 to Pillow
    if pixels.dtype == torch.uint16 and not image.mode.startswith("I"):
        ours = ours // 256  # Pillow keeps 8 bits of a coloured image of 16
    if kind == "JPEG":
        return ours.shape == other.shape and bool((np.abs(ours - other) <= 1).all())
    return np.array_equal(ours, other)


def _same_numbers(pixels: torch.Tensor, other: Array) -> bool | None:
    """Whether the same numbers are there, wherever the axes are; where the channels are is shown by whole files."""
    ours = pixels.numpy()
    if other.dtype.kind == "b":
        other = other.astype(np.uint8) * np.uint8(255)
    if ours.size != other.size:
        return None  # pages that tifffile takes for several images
    one, two = np.sort(ours, axis=None).astype(np.float64), np.sort(other, axis=None).astype(np.float64)
    turned = np.sort(np.iinfo(ours.dtype).max - ours, axis=None).astype(np.float64) if ours.dtype.kind == "u" else one
    # Where small numbers mean bright, they are turned round.
    return np.allclose(one, two.astype(np.float32), rtol=0, atol=0) or np.array_equal(turned, two)
