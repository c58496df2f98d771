"""Reading files that `torch.save` wrote, without running the code that a pickle can hold.

`torch.load(weights_only=True)` reads tensors, containers and plain values, and looks every other name of a file up in a list that we give
it. Nothing of numpy, pathlib or pandas is on that list: their names lead to the small readers below, which take plain values and build
numbers, text and arrays from them, so that no name of a file is ever imported.
"""

from __future__ import annotations

import argparse
import io
import pickle
import re
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dino4cells import storage
from dino4cells.errors import ArtifactError, CheckpointError, Dino4CellsError

_NUMBER_KINDS = "biuf"
_ARRAY_KINDS = "biufUS"
_TABLE_MODULES = ("pandas.", "functools.partial", "builtins.slice", "datetime.", "copyreg.", "numpy.random.")
_DAMAGE = (
    RuntimeError, EOFError, zipfile.BadZipFile, zlib.error, struct.error, LookupError, ValueError, TypeError, AttributeError,
    AssertionError, ArithmeticError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True)
class FileKind:
    """What a file is for, which decides what it may hold beside tensors, containers, text and numbers.

    Attributes:
        name: what messages call it.
        error: what is raised where it cannot be read.
        settings: `argparse.Namespace`, with paths in it, which become text.
        arrays: numpy arrays of numbers and text.
        tables: tables of pandas, each of which becomes an `Unread`.
    """

    name: str
    error: type[Dino4CellsError]
    settings: bool = False
    arrays: bool = False
    tables: bool = False


CHECKPOINT = FileKind("checkpoint", CheckpointError, settings=True)
FEATURES = FileKind("features file", ArtifactError, arrays=True, tables=True)


class Unread:
    """Stands where a file holds an object that is not built."""

    def __new__(cls, *arguments: object) -> Unread:
        return super().__new__(cls)

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _PathText(str):
    """A path of pathlib as text, which the settings alone may hold."""


class _Dtype:
    """A numpy type as a pickle describes it: a code such as `f8` and, as its state, the byte order."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def resolve(self, kinds: str) -> np.dtype[Any]:
        """The type, if it is one of plain values of these kinds."""
        code = str(self.code)
        if not re.fullmatch(rf"[{kinds}]\d+", code) or self.order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"GLOBAL numpy.dtype {code}")
        return np.dtype(("" if self.order == "|" else self.order) + code)


def _scalar(dtype: _Dtype, content: bytes) -> float | int | bool:
    value: float | int | bool = np.frombuffer(content, dtype.resolve(_NUMBER_KINDS), count=1)[0].item()
    return value


class _Array:
    """A numpy array as a pickle describes it: made empty, then given its state (version, shape, type, column order, content)."""

    shape: tuple[int, ...]
    dtype: _Dtype
    by_column: bool
    content: bytes | list[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.by_column, self.content = state

    def build(self) -> np.ndarray | list[Any]:
        """The array, or the list that an array of Python objects holds."""
        if isinstance(self.content, list):
            return self.content
        values: np.ndarray = np.frombuffer(self.content, self.dtype.resolve(_ARRAY_KINDS))
        return values.reshape(self.shape, order="F" if self.by_column else "C")


def _empty_array(kind: object, shape: object, code: object) -> _Array:
    return _Array()


def _no_bytes() -> bytes:
    """How Python 2's protocol writes the content of an array without elements."""
    return b""


def _path_text(*parts: str) -> _PathText:
    return _PathText("/".join(parts).replace("//", "/"))


def read_torch_file(url: str, kind: FileKind) -> Any:
    """The content of a file that `torch.save` wrote, on the CPU.

    Raises:
        Dino4CellsError: of the kind's class: damaged, or it holds what the kind does not allow.
        StorageError: not there, or not readable.
    """
    return load_torch_bytes(storage.read_bytes(url), url, kind)


def load_torch_bytes(content: bytes, url: str, kind: FileKind) -> Any:
    """As `read_torch_file`, of a content that was read from `url`."""
    try:
        _check_sums(content)
        with torch.serialization.safe_globals(_readers(content, kind)):
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return _built(loaded, kind)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        more = f" ({found[1].rstrip('.')})" if found else ""
        raise kind.error(
            f"{url}: holds more than tensors and settings{more}, or is damaged, and is not read; use a {kind.name} written by DINO4Cells."
        ) from error
    except _DAMAGE as error:
        raise kind.error(f"{url}: the {kind.name} is damaged or incomplete; delete it or use another one.") from error


def _check_sums(content: bytes) -> None:
    """Compare the checksums that torch.save wrote, which torch.load does not look at: a flipped bit is a wrong weight."""
    if zipfile.is_zipfile(io.BytesIO(content)):  # older files are plain pickles
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(damaged)


def _readers(content: bytes, kind: FileKind) -> list[Callable[..., object] | tuple[Callable[..., object], str]]:
    """What stands for the names that a file of this kind may hold."""
    readers: list[Callable[..., object] | tuple[Callable[..., object], str]] = [(_Dtype, "numpy.dtype")]
    for core in ("numpy.core.multiarray", "numpy._core.multiarray"):
        readers.append((_scalar, f"{core}.scalar"))
        if kind.arrays:
            readers.append((_empty_array, f"{core}._reconstruct"))
    if kind.arrays:
        readers += [(_Array, "numpy.ndarray"), (_no_bytes, "builtins.bytes")]
    if kind.settings:
        readers.append(argparse.Namespace)
        names = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
        readers += [(_path_text, f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name in names]
    if kind.tables and zipfile.is_zipfile(io.BytesIO(content)):
        names_in_file = torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(content))
        readers += [(Unread, name) for name in names_in_file if name.startswith(_TABLE_MODULES)]
    return readers


def _built(value: Any, kind: FileKind) -> Any:
    """The content with arrays in the place of their descriptions.

    Raises:
        pickle.UnpicklingError: a path is outside the settings.
    """
    if type(value) in (dict, OrderedDict):
        return type(value)((key, _built(item, kind)) for key, item in value.items())
    if type(value) in (list, tuple):
        return type(value)(_built(item, kind) for item in value)
    if isinstance(value, _Array):
        return _built(value.build(), kind) if kind.arrays else value
    if isinstance(value, _PathText):
        raise pickle.UnpicklingError("GLOBAL pathlib.Path")
    if isinstance(value, (_Dtype, type)):
        raise pickle.UnpicklingError("GLOBAL numpy.dtype")
    return value
