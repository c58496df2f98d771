"""Packed images: a directory in which a few large files hold the images of millions of cells, and an index says where each of them is.

| file | what it is |
| --- | --- |
| `shards/cells-000000.tar`, … | the files of consecutive rows, unchanged, in the order of the table, named as WebDataset has it |
| `index.parquet` | of each of those files the row, the shard, where it begins, its size and its CRC-32 |
| `metadata.csv`, `channels.txt` | the table and the names of the channels, unchanged |
| `shards.json` | what was packed |
| `manifest.json` | sizes and SHA-256 of all that; last, so that the directory is complete when it is there |

Rows are found by their names of files: the table may get other columns, another order or fewer rows after it was packed.

Dimensions: M members (files in the shards), P packed rows, N rows of the table at hand, K blocks.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from dino4cells import storage
from dino4cells.artifacts import is_complete
from dino4cells.cache import Cache
from dino4cells.data.layout import CHANNEL, Layout
from dino4cells.errors import ArtifactError, MissingFileError, StorageError

KIND = "shards"
CARD, INDEX = "shards.json", "index.parquet"

BLOCK_BYTES = 2 * 2**20
"""A block: so much of a shard is read by one request, which is then worth its round trip, and is kept while its images are drawn."""
GAP_BYTES = 64 * 2**10
"""Bytes that nobody asked for, and that are read rather than asked around."""

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("file", pa.string()),  # as the table has it; with {channel} in it, the row has a member for each channel
        ("channel", pa.string()),
        ("member", pa.string()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("size", pa.int32()),
        ("crc32", pa.uint32()),
        ("error", pa.string()),  # why the file could not be packed; then it takes no place
    ]
)
"""Columns of the index, a line for each member in the order of the shards."""

Numbers = NDArray[np.int64]
Content = bytes | StorageError


class PackCard(BaseModel):
    """`shards.json`: what was packed."""

    data: str = Field(description="URL of the table.")
    data_fingerprint: str
    layout: Layout = Field(description="Which columns named the files.")
    channels: tuple[str, ...] | None = Field(description="The channels that have a file each; null where a file holds all.")
    rows: int
    rows_per_shard: int
    shards: int
    images_bytes: int = Field(description="Of all members.")
    failed_rows: int = Field(description="Rows whose files could not be read; the index gives the reasons.")
    version: str


class Reader(Protocol):
    """Reads members by their numbers."""

    def read(self, members: Sequence[int]) -> list[Content]: ...


@dataclass(frozen=True, eq=False)
class Shards:
    """The members of a packed directory, in columns: 20 bytes each, and the names of the files.

    Attributes:
        url: of the directory.
        channels: names of the channels that have a member each, in order; None where a member holds all.
        files_P: names of the rows' files, as the table has them.
        first_P: first member of each packed row; None where every row has one.
        shard_M, offset_M, size_M, crc_M: where a member is, and the CRC-32 of its content.
        errors: why some members are not there, by number.
        cache: keeps blocks that come from a store.
    """

    url: str
    channels: tuple[str, ...] | None
    files_P: pa.Array
    first_P: Numbers | None
    shard_M: NDArray[np.int32]
    offset_M: Numbers
    size_M: NDArray[np.int32]
    crc_M: NDArray[np.uint32]
    errors: dict[int, str]
    cache: Cache | None = None

    @classmethod
    def read_index(cls, url: str, cache: Cache | None = None) -> Shards:
        """The index of a packed directory.

        Raises:
            ArtifactError: the directory is not complete, or the card or the index cannot be read.
        """
        if not is_complete(url):
            raise ArtifactError(f"{url}: its images are not all packed; wait until they are, or run the same `data pack` again.")
        try:
            card = PackCard.model_validate_json(storage.read_bytes(storage.join(url, CARD)))
            columns = ["row", "file", "shard", "offset", "size", "crc32", "error"]
            index = pq.read_table(io.BytesIO(storage.read_bytes(storage.join(url, INDEX))), columns=columns).combine_chunks()
            _check_index(index)
        except (ValidationError, MissingFileError, pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise ArtifactError(f"{url}: its {CARD} or {INDEX} is missing or cannot be read; pack the images again.") from error
        pa.default_memory_pool().release_unused()  # the file, and what it was unpacked into
        row_M = _numbers(index["row"])
        first_P = np.flatnonzero(np.r_[True, row_M[1:] != row_M[:-1]]) if len(row_M) else np.empty(0, np.int64)
        files_M = _strings(index["file"])
        is_plain = len(first_P) == len(row_M)
        failed = np.flatnonzero(index["error"].is_valid().to_numpy())
        return cls(
            url=url,
            channels=card.channels,
            files_P=files_M if is_plain else files_M.take(pa.array(first_P)),
            first_P=None if is_plain else first_P,
            shard_M=_numbers(index["shard"]),
            offset_M=_numbers(index["offset"]),
            size_M=_numbers(index["size"]),
            crc_M=_numbers(index["crc32"]),
            errors=dict(zip(failed.tolist(), index["error"].take(pa.array(failed)).to_pylist(), strict=True)),
            cache=cache,
        )

    def shard_url(self, number: int) -> str:
        """URL of a shard."""
        return storage.join(self.url, shard_name(number))

    def rows_of(self, files_N: pa.Array) -> Numbers:
        """(N,) packed row of each name of a file; −1 where none has it."""
        if files_N.equals(self.files_P):
            return np.arange(len(files_N))
        found: Numbers = pc.fill_null(pc.index_in(files_N, value_set=self.files_P), -1).to_numpy(zero_copy_only=False).astype(np.int64)
        return found

    def first_members(self, rows: Numbers) -> Numbers:
        """The first member of each of these packed rows."""
        return rows if self.first_P is None else self.first_P[rows]

    @cached_property
    def block_starts_K(self) -> Numbers:
        """(K,) first member of each block; the members of a row are in one block."""
        first = self.first_members(np.arange(len(self.files_P)))
        shard, place = self.shard_M[first], self.offset_M[first] // BLOCK_BYTES
        return first[np.flatnonzero(np.r_[True, (shard[1:] != shard[:-1]) | (place[1:] != place[:-1])])] if len(first) else first

    def blocks_of(self, members: Numbers) -> Numbers:
        """The block that each member is in."""
        return np.searchsorted(self.block_starts_K, members, side="right") - 1

    def block_range(self, block: int) -> storage.Range:
        """Where a block is."""
        starts = self.block_starts_K
        first, last = int(starts[block]), int(starts[block + 1] if block + 1 < len(starts) else len(self.shard_M)) - 1
        url = self.shard_url(int(self.shard_M[first]))
        return url, int(self.offset_M[first]), int(self.offset_M[last] + self.size_M[last])

    def read(self, members: Sequence[int]) -> list[Content]:
        """The contents of members; those that are side by side are asked for together, and all at once."""
        given = np.asarray(members, np.int64)
        order = np.argsort(given, kind="stable")
        wanted = given[order]
        blocks, starts = self.blocks_of(wanted), self.offset_M[wanted]
        stops = starts + self.size_M[wanted]
        is_new = np.r_[True, (blocks[1:] != blocks[:-1]) | (starts[1:] - stops[:-1] > GAP_BYTES)][: len(wanted)]
        begins = np.flatnonzero(is_new)
        ends = np.maximum.reduceat(stops, begins) if len(begins) else stops
        ranges = [
            (self.shard_url(int(self.shard_M[wanted[begin]])), int(starts[begin]), int(end))
            for begin, end in zip(begins, ends, strict=True)
        ]
        read = storage.read_ranges(ranges)
        contents: list[Content] = [b""] * len(members)
        for place, member, run in zip(order.tolist(), wanted.tolist(), (np.cumsum(is_new) - 1).tolist(), strict=True):
            contents[place] = self.member(member, read[run], ranges[run][1])
        return contents

    def member(self, number: int, content: Content, begins: int) -> Content:
        """A member out of a piece of its shard, or what is wrong with it.

        Args:
            number: of the member.
            content: the piece, or why it could not be read.
            begins: the byte of the shard that it begins with.
        """
        if number in self.errors:
            return StorageError(f"{self.errors[number]} It was so when the images were packed.")
        if not isinstance(content, bytes):
            return type(content)(f"{self._file_of(number)} in {content}")
        start = int(self.offset_M[number]) - begins
        data = content[start : start + int(self.size_M[number])]
        if len(data) != self.size_M[number] or zlib.crc32(data) != self.crc_M[number]:
            shard = self.shard_url(int(self.shard_M[number]))
            place = f"{self._file_of(number)} in {shard}, byte {self.offset_M[number]}"
            return StorageError(f"{place}: is not what was packed (CRC-32 differs); pack the images again.")
        return data

    def _file_of(self, member: int) -> str:
        row = member if self.first_P is None else int(np.searchsorted(self.first_P, member, side="right")) - 1
        name: str = self.files_P[row].as_py()
        return name.replace(CHANNEL, self.channels[member - int(self.first_P[row])]) if self.first_P is not None and self.channels else name


@dataclass(frozen=True, eq=False)
class PackedImages:
    """Where the images of a table are in the shards.

    Attributes:
        shards: of the packed directory.
        files_N: names of the rows' files, as the table has them.
        row_N: packed row of each; −1 where there is none.
        reader: what reads members: the shards themselves, or a buffer of blocks.
    """

    shards: Shards
    files_N: pa.Array
    row_N: Numbers
    reader: Reader

    @classmethod
    def of(cls, shards: Shards, files_N: pa.Array) -> PackedImages:
        """The images of the rows that have these files."""
        return cls(shards, files_N, shards.rows_of(files_N), shards)

    def contents(self, rows: Sequence[int], channels: Sequence[str] | None) -> list[list[Content]]:
        """Of each row the contents of its files: of these channels where each has a file, else of the only one."""
        places: list[list[int | StorageError]] = [self._members(row, channels) for row in rows]
        wanted = [place for row in places for place in row if isinstance(place, int)]
        read = iter(self.reader.read(wanted))
        return [[next(read) if isinstance(place, int) else place for place in row] for row in places]

    def blocks(self) -> Numbers:
        """(N,) block of each row; rows that are not in the shards share one of their own."""
        found = self.shards.blocks_of(self.shards.first_members(np.maximum(self.row_N, 0)))
        return np.where(self.row_N < 0, len(self.shards.block_starts_K), found)

    def _members(self, row: int, channels: Sequence[str] | None) -> list[int | StorageError]:
        packed, file = int(self.row_N[row]), ""
        if packed >= 0:
            first = packed if self.shards.first_P is None else int(self.shards.first_P[packed])
            file = self.files_N[row].as_py()
            if CHANNEL not in file:
                return [first]
            there = self.shards.channels or ()
            return [first + there.index(name) if name in there else self._missing(file.replace(CHANNEL, name)) for name in channels or ()]
        return [self._missing(self.files_N[row].as_py())]

    def _missing(self, file: str) -> StorageError:
        return MissingFileError(f"{file}: no such file among those packed in {self.shards.url}; check the name, or pack the images again.")


def _check_index(index: pa.Table) -> None:
    """Refuse an index of other types, or one that leads before the beginning of a shard, or behind what a shard can hold.

    Raises:
        ValueError: it does.
    """
    if any(not index.schema.field(name).type.equals(SCHEMA.field(name).type) for name in index.column_names):
        raise ValueError("other types of columns")
    for name in ("row", "shard", "offset", "size"):
        column = index[name]
        if column.null_count or (len(column) and pc.min(column).as_py() < 0):
            raise ValueError(f"a {name} is missing or negative")
    if index["file"].null_count or index["crc32"].null_count:
        raise ValueError("a name or a checksum is missing")


def shard_name(number: int) -> str:
    """Name of a shard in its directory."""
    return f"shards/cells-{number:06d}.tar"


def _numbers(column: Any) -> Any:
    return column.combine_chunks().to_numpy()


def _strings(column: Any) -> Any:
    return pc.cast(column, pa.large_string()).combine_chunks()
