"""TIFF and OME-TIFF: channels in pages, planes or samples, by the axes that the file itself declares.

Axes as tifffile names them: C channel, S sample, Z depth, T time, Y and X; Q and I, pages whose meaning the file does not say, are taken
for channels.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from dino4cells.data.size import check_size
from dino4cells.data.tiff_promises import TooManyPages, check_inflated, check_ome, check_pages

MAX_CHANNELS = 12
CHANNEL_AXES = "CSQI"
_MEANING = {"Z": "planes along Z", "T": "points in time", "P": "positions", "R": "positions", "H": "lifetimes", "E": "wavelengths"}

_STUMBLES = (
    RuntimeError,
    ValueError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    AssertionError,
    SyntaxError,
    OSError,
    struct.error,
    zlib.error,
    MemoryError,
    Image.DecompressionBombError,
)
"""Damage comes to light wherever tifffile happens to stumble over it."""


def decode_tiff(content: bytes) -> tuple[NDArray[np.generic], tuple[str, ...] | None]:
    """The channels of a TIFF (C, H, W), as stored, and their names where OME metadata give them.

    Raises:
        ValueError: why the file is no image of channels.
    """
    try:
        check_pages(content)
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            if file.is_ome and file.ome_metadata:
                check_ome(file.ome_metadata)
            names = _ome_names(file)
            arrays, axes, inverted = _series(file, content)
    except (NotAnImage, TooManyPages):
        raise
    except _STUMBLES as error:
        raise ValueError(f"the TIFF is damaged or of a kind that is not supported: {error}") from error
    array = _channels_first(arrays, axes)
    if inverted:
        array = np.asarray(array == 0 if array.dtype.kind == "b" else 2 ** (8 * array.itemsize) - 1 - array)
    return array, names if names and len(names) == len(array) else None


class NotAnImage(ValueError):
    """A whole file that says itself that it is no image of channels; not a stumble over damage."""


def _series(file: tifffile.TiffFile, content: bytes) -> tuple[NDArray[np.generic], str, bool]:
    """Pixels, axes, and whether small numbers mean bright."""
    first, page = file.series[0], file.pages.first
    photometric = int(page.photometric)
    if photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise NotAnImage("the TIFF has a palette, whose numbers are no intensities")
    if file.is_ome and any(part is None for part in first.pages):
        raise NotAnImage("the OME-TIFF is one of several files that belong together; export it as one file, or give a file per channel")
    inverted = photometric == tifffile.PHOTOMETRIC.MINISWHITE and first.dtype.kind in "bu"
    alike = [other for other in file.series if (other.shape, other.dtype, other.axes) == (first.shape, first.dtype, first.axes)]
    if len(alike) > 1 and file.is_ome:
        raise NotAnImage(f"the OME-TIFF holds {len(alike)} images; export each as a file of its own")
    _check_size(first, len(alike))
    try:
        if len(alike) > 1 and first.axes == "YX":  # pages that were written one at a time
            return np.stack([_pixels(other, content) for other in alike]), "IYX", inverted
        return _pixels(first, content), first.axes, inverted
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
    # tifffile alone knows few compressions; Pillow knows LZW and JPEG, and inverts by itself.
    pages: list[NDArray[np.generic]] = []
    for frame in ImageSequence.Iterator(Image.open(io.BytesIO(content), formats=["TIFF"])):
        check_size(frame.width, frame.height, len(frame.getbands()) * (len(pages) + 1), 4)
        pages.append(np.asarray(frame))
    whole = np.stack(pages) if len(pages) > 1 else pages[0]
    if whole.size != first.size:
        name = tifffile.COMPRESSION(page.compression).name
        raise NotAnImage(f"the TIFF is compressed by {name}; save it uncompressed or with deflate, or install dino4cells[tiff]")
    return whole.reshape(first.shape), first.axes, inverted and whole.dtype == np.uint16


def _pixels(series: tifffile.TiffPageSeries, content: bytes) -> NDArray[np.generic]:
    """The pixels of a series; where they are stored in pieces, all of them must be there."""
    pages = [page for page in series.pages if page is not None]
    if series.dataoffset is not None or series.keyframe.is_contiguous:
        whole: NDArray[np.generic] = series.asarray()
        return whole
    return np.stack([_put_together(page, series.keyframe, memoryview(content)) for page in pages]).reshape(series.shape)


def _put_together(page: tifffile.TiffPage | tifffile.TiffFrame, whole: tifffile.TiffPage, content: memoryview) -> NDArray[np.generic]:
    """A page, of which `whole` has the sizes, of its strips or tiles; tifffile would leave what was in memory in place of missing ones."""
    if len(page.dataoffsets) != math.prod(whole.chunked):
        raise ValueError(f"it has {len(page.dataoffsets):,} strips or tiles where {math.prod(whole.chunked):,} are needed")
    rows, across = whole.chunks[0], math.prod(whole.chunks[1:])
    for start, length in zip(page.dataoffsets, page.databytecounts, strict=False):
        check_inflated(
            content[start : start + length], whole.compression, rows * -(-across * whole.bitspersample // 8), whole.bitspersample
        )
    result, found = np.zeros(whole.shaped, whole.dtype), 0
    for piece, (sample, depth, row, column, _), shape in page.segments(maxworkers=1):
        place = result[sample, depth : depth + shape[0], row : row + shape[1], column : column + shape[2]]
        if piece is None:  # a piece that is said to be empty
            place[...] = whole.nodata
        else:
            piece = piece[: whole.imagedepth - depth, : whole.imagelength - row, : whole.imagewidth - column]
            if piece.shape != place.shape:
                raise ValueError("a strip or a tile of it has another size than it should")
            place[...] = piece
        found += place.size
    if found != result.size:
        raise ValueError("strips or tiles of it are missing")
    return result


def _check_size(series: tifffile.TiffPageSeries, count: int) -> None:
    """Refuse what no image of channels is, before memory is taken for it: too large, or of numbers that are refused afterwards."""
    sizes = dict(zip(series.axes, series.shape, strict=True))
    height, width = sizes.get("Y", 1), sizes.get("X", 1)
    others = count * series.size // (height * width) if height * width else 0
    try:
        check_size(width, height, others, series.dtype.itemsize)
    except ValueError as error:
        raise NotAnImage(f"{error}") from error


def _channels_first(array: NDArray[np.generic], axes: str) -> NDArray[np.generic]:
    places = [place for place, axis in enumerate(axes) if array.shape[place] > 1 or axis in "YX"]
    axes = "".join(axes[place] for place in places)
    array = array.reshape([array.shape[place] for place in places])
    for axis, size in zip(axes, array.shape, strict=True):
        if axis not in CHANNEL_AXES + "YX":
            meaning = _MEANING.get(axis, f"planes along {axis}")
            raise ValueError(f"the TIFF has {size} {meaning} and one is expected: choose one, or project them")
    among = [axis for axis in axes if axis in CHANNEL_AXES]
    if len(among) > 1 or sorted(axes.replace("".join(among), "")) != ["X", "Y"]:
        raise ValueError(f"the TIFF has the axes {axes} of sizes {array.shape}, and channels × height × width are expected")
    channels = axes.index(among[0]) if among else None
    order = [*([] if channels is None else [channels]), axes.index("Y"), axes.index("X")]
    array = array.transpose(order) if channels is not None else array.transpose(order)[None]
    # Pages without meaning: a stack of rows of pixels would be one, when a program took the last axis for the width.
    if among and among[0] in "QI" and array.shape[-1] <= MAX_CHANNELS < array.shape[0]:
        array = np.moveaxis(array, -1, 0)
    if len(array) > MAX_CHANNELS:
        raise ValueError(f"TIFF of shape {array.shape} has more than {MAX_CHANNELS} channels")
    return array


def _ome_names(file: tifffile.TiffFile) -> tuple[str, ...] | None:
    """Names of the channels of the first image, when the OME metadata name each differently."""
    if not file.is_ome or not file.ome_metadata:
        return None
    try:
        root = ElementTree.fromstring(file.ome_metadata)
    except ElementTree.ParseError:
        return None
    image = next((element for element in root.iter() if element.tag.endswith("}Image")), None)
    channels = [] if image is None else [element for element in image.iter() if element.tag.endswith("}Channel")]
    names = tuple((channel.get("Name") or "").strip() for channel in channels)
    return names if names and all(names) and len(set(names)) == len(names) else None
