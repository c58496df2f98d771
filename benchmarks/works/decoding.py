"""Decoding images of 512 px and four channels: from bytes to pixels, in one thread, and a batch of files as the loader reads it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tifffile
import torch

from benchmarks.measuring import Machine, Row, alternate
from benchmarks.reference.images import read_image, to_tensor, write_images
from dino4cells.data.dataset import CellImages
from dino4cells.data.images import decode
from dino4cells.data.source import plain_source

IMAGES, BATCH, SIDE, CHANNELS = 8, 24, 512, 4
KINDS = {"png": "PNG of 8 bits", "png16": "PNG of 16 bits", "tiff": "TIFF of 8 bits", "tiff16": "TIFF of 16 bits"}


def measure(machine: Machine) -> list[Row]:
    """Each kind against scikit-image, each byte of the other kinds against one of an 8-bit PNG, and batches of files."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as directory:
            return _rows(Path(directory), machine)
    finally:
        torch.set_num_threads(threads)


def _rows(directory: Path, machine: Machine) -> list[Row]:
    files = {name: write_images(directory / kind, IMAGES, SIDE, CHANNELS, kind) for kind, name in KINDS.items()}
    for kind in ("TIFF of 8 bits", "TIFF of 16 bits"):
        files[f"{kind}, deflate"] = [_deflated(path) for path in files[kind]]
    rows, nanoseconds = [], {}
    for kind, paths in files.items():
        seconds = _each(paths)
        pixels = np.prod(decode(paths[0].read_bytes(), "").shape) * (2 if "16" in kind else 1)
        compressed = "PNG" in kind or "deflate" in kind
        # Of compressed pixels each bit must be looked at; of others each byte must be copied.
        nanoseconds[kind] = 1e9 * seconds["ours"] / (sum(path.stat().st_size for path in paths) / IMAGES if compressed else pixels)
        rows.append(
            Row(
                f"decoding: {kind}, {SIDE} px, {CHANNELS} channels",
                1e3 * seconds["reference"],
                1e3 * seconds["ours"],
                "ms",
                seconds["reference"] / seconds["ours"],
                share_of_peak=None if compressed else 2 * pixels / seconds["ours"] / machine.copied_bytes,
                target=2.5 if kind == "PNG of 8 bits" else None,
                note=f"{pixels / seconds['ours'] / 1e6:,.0f} MB/s of pixels, one thread",
            )
        )
    rows += [
        Row(
            f"decoding: a byte of {kind}",
            nanoseconds["PNG of 8 bits"],
            value,
            "ns",
            nanoseconds["PNG of 8 bits"] / value,
            target=1,
            note="in place of the reference: a byte of a PNG of 8 bits; bytes as stored",
        )
        for kind, value in nanoseconds.items()
        if kind != "PNG of 8 bits"
    ]
    return rows + [_batch(directory, kind) for kind in KINDS]


def _each(paths: list[Path]) -> dict[str, float]:
    """Seconds an image: the reference's pixels as NumPy has them, ours as a batch takes them."""
    seconds = alternate(
        {
            "reference": lambda: [read_image(path) for path in paths],
            "ours": lambda: [decode(path.read_bytes(), str(path)) for path in paths],
        }
    )
    return {side: value / len(paths) for side, value in seconds.items()}


def _deflated(path: Path) -> Path:
    deflated = path.with_name(f"{path.stem}-deflate.tif")
    tifffile.imwrite(deflated, tifffile.imread(path), photometric="minisblack", planarconfig="contig", compression="zlib")
    return deflated


def _batch(directory: Path, kind: str) -> Row:
    """A batch from files: read, decoded and put into one tensor; the reference makes floating point numbers of it already here."""
    paths = write_images(directory / f"batch-{kind}", BATCH, SIDE, CHANNELS, kind)
    images = CellImages(plain_source([str(path) for path in paths], CHANNELS), cache_bytes=0)
    keys = [(0, row) for row in range(BATCH)]
    seconds = alternate(
        {
            "reference": lambda: torch.stack([to_tensor(read_image(path)) for path in paths]),
            "ours": lambda: images.__getitems__(keys),
        },
        rounds=4,
    )
    return Row(
        f"decoding: a batch of {BATCH} files, {KINDS[kind]}",
        1e3 * seconds["reference"],
        1e3 * seconds["ours"],
        "ms",
        seconds["reference"] / seconds["ours"],
        note=f"{BATCH / seconds['ours']:,.0f} images/s on one thread",
    )
