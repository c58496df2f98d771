"""NumPy's `.npy`: an array of channels, read without ever unpickling (NEP 1)."""

from __future__ import annotations

import io
import math
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dino4cells.data.size import check_size
from dino4cells.data.tiff import MAX_CHANNELS

NPY_MAGIC = b"\x93NUMPY"


def decode_npy(content: bytes) -> NDArray[np.generic]:
    """The channels of an array file (C, H, W), as stored.

    An array of two dimensions is one channel. Of three, the first is the channels where it has at most 12 entries, else the last.

    Raises:
        ValueError: why the array is no image of channels.
    """
    stream = io.BytesIO(content)
    # Version 3 differs from 2 in the names of fields alone (NEP 1), which no image has.
    version: tuple[int, int] = npy.read_magic(stream)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, fortran_order, dtype = read_header(stream)
    except (SyntaxError, TokenError, MemoryError, RecursionError, TypeError) as error:  # Python's parser reads the header
        raise ValueError("the NPY is damaged: its header cannot be read") from error
    if dtype.hasobject or dtype.fields:
        raise ValueError(f"NPY of type {dtype}, which holds no numbers alone; save an array of uint8, uint16 or float32")
    if len(shape) not in (2, 3) or not all(type(side) is int and side > 0 for side in shape):
        raise ValueError(f"NPY of shape {shape}; channels × height × width is expected")
    count = math.prod(shape)
    if len(content) - stream.tell() < count * dtype.itemsize:
        raise ValueError("the NPY is truncated")
    check_size(shape[-1], shape[-2], math.prod(shape[:-2]), dtype.itemsize)
    array: NDArray[np.generic] = np.frombuffer(content, dtype, count, stream.tell()).reshape(shape, order="F" if fortran_order else "C")
    if array.ndim == 2:
        array = array[None]
    if array.shape[-1] <= MAX_CHANNELS < array.shape[0]:
        array = np.moveaxis(array, -1, 0)
    if len(array) > MAX_CHANNELS:
        raise ValueError(f"NPY of shape {shape} has more than {MAX_CHANNELS} channels")
    return array
