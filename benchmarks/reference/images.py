"""Images of cells: drawn for the benchmarks, and read one by one with scikit-image."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import tifffile
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from skimage.io import imread

SUFFIX = {"png": "png", "png16": "png", "tiff": "tif", "tiff16": "tif"}
_PNG_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}


def read_image(path: str | Path) -> NDArray[np.generic]:
    """An image (H, W, C) as scikit-image reads it: of 16-bit PNGs of several channels, through Pillow, the upper 8 bits."""
    image = imread(path)
    return image[:, :, None] if image.ndim == 2 else image


def to_tensor(image: NDArray[np.generic]) -> torch.Tensor:
    """(H, W, C) integers to (C, H, W) float32 in [0, 1]."""
    largest = np.iinfo(image.dtype).max
    return torch.from_numpy(image.astype(np.float32) / largest).permute(2, 0, 1).contiguous()


def write_images(directory: str | Path, count: int, side: int = 512, channels: int = 4, format: str = "png", seed: int = 0) -> list[Path]:
    """Draw and write images of cells, 8 bits a channel or, with `png16` and `tiff16`, 16; returns their paths in order.

    PNGs are compressed as Pillow does by default; TIFFs are not, as most microscopes write them. The second byte of 16 bits is noise.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"cell-{number:05d}.{SUFFIX[format]}" for number in range(count)]
    for number, path in enumerate(paths):
        image = draw_cell(side, channels, seed=seed + number)
        if format.endswith("16"):
            low = np.random.default_rng(seed + number).integers(0, 256, image.shape, dtype=np.uint16)
            image = image.astype(np.uint16) << 8 | low
        if format == "png16":
            path.write_bytes(encode_png16(image))
        elif format == "png" and channels in _PNG_COLOURS:
            Image.fromarray(image.squeeze()).save(path)
        else:
            tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig")
    return paths


def draw_cell(side: int, channels: int, seed: int) -> NDArray[np.uint8]:
    """A dark field with smooth structures inside a cell, and the noise of a camera: (side, side, channels)."""
    generator = torch.Generator().manual_seed(seed)
    line = torch.linspace(-1, 1, side)
    centre_x, centre_y = torch.rand(2, generator=generator) * 0.3 - 0.15
    radius = 0.5 + 0.3 * torch.rand((), generator=generator)
    cell = torch.exp(-((((line - centre_x) / radius) ** 2 + ((line[:, None] - centre_y) / radius) ** 2) ** 2))
    structures = torch.zeros(1, channels, side, side)
    for cells_across in (4, 16, 64):  # organelles, filaments, grains
        rough = torch.randn(1, channels, cells_across, cells_across, generator=generator)
        structures += F.interpolate(rough, size=(side, side), mode="bicubic", align_corners=False) / 2
    light = 12 + 110 * cell * structures[0].clamp(min=0)
    seen = light + light.sqrt() * 0.5 * torch.randn(channels, side, side, generator=generator)
    return seen.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def encode_png16(image: NDArray[np.uint16]) -> bytes:
    """A PNG of 16 bits a channel, each row as its difference from the one above."""
    height, width, channels = image.shape
    rows = image.astype(">u2").view(np.uint8).reshape(height, -1)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = np.hstack([np.full((height, 1), 2, np.uint8), rows - above])
    header = struct.pack(">IIBBBBB", width, height, 16, _PNG_COLOURS[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(filtered.tobytes())) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
