"""One shard: the files of consecutive rows fetched, written to a tar, put to its place and read back.

A member is called by the number of its row, `000000123.png`, or `000000123.0.tif` where each channel has a file: WebDataset takes what is
before the first point for the sample, and what is behind the last for the kind of its content.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from dino4cells import storage
from dino4cells.artifacts import ArtifactWriter
from dino4cells.data.shards import KIND, SCHEMA, shard_name
from dino4cells.data.stored import StoredImages
from dino4cells.errors import StorageError
from dino4cells.manifest import FileEntry, sha256_of

FETCHED_ROWS = 32
"""Rows whose files are asked for at once."""
LARGEST_FILE = 2**31 - 1
LISTED = 5

_ENDING = re.compile(r"\.([A-Za-z0-9]{1,8})$")


class ShardRecord(BaseModel):
    """A shard that is finished.

    Attributes:
        number: of the shard.
        file: the shard as it was written.
        images_bytes: of all its members.
        failed_rows: rows of which a file could not be read.
        reasons: why, the first few.
    """

    number: int
    file: FileEntry
    images_bytes: int
    failed_rows: int
    reasons: list[str]


@dataclass(frozen=True)
class PackShard:
    """Packs the rows of one shard, for a process of its own."""

    stored: StoredImages
    files: pa.Array
    frame: pd.DataFrame | None
    url: str
    progress: str
    rows_per_shard: int

    def __call__(self, rows: Sequence[int]) -> ShardRecord:
        """Writes the shard, its part of the index, and the record that it is finished."""
        number = rows[0] // self.rows_per_shard
        name = shard_name(number)
        with ArtifactWriter(self.url, KIND, with_manifest=False) as writer:
            with tarfile.open(writer.path(name), "w", format=tarfile.USTAR_FORMAT) as tar:
                members = [member for row in rows[::FETCHED_ROWS] for member in self._pack(tar, number, row, rows[-1] + 1)]
            entry = writer.publish(name)
        if sha256_of(storage.join(self.url, name)) != entry.sha256:
            place = storage.join(self.url, name)
            raise StorageError(f"{place}: what is read back is not what was written (SHA-256 differs); check the disk or the store.")
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(members, SCHEMA), buffer)
        storage.write_bytes(part_url(self.progress, number), buffer.getvalue())
        reasons = {member["row"]: member["error"] for member in members if member["error"]}
        record = ShardRecord(
            number=number,
            file=entry,
            images_bytes=sum(member["size"] for member in members),
            failed_rows=len(reasons),
            reasons=list(reasons.values())[:LISTED],
        )
        storage.write_text(record_url(self.progress, number), record.model_dump_json())
        return record

    def _pack(self, tar: tarfile.TarFile, shard: int, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Adds up to `FETCHED_ROWS` rows to the tar, and gives the lines of the index."""
        rows = range(start, min(start + FETCHED_ROWS, stop))
        for row, contents in zip(rows, self.stored.contents(rows), strict=True):
            urls, is_split = self.stored.files(row), self.stored.has_file_per_channel(row)
            names = self.stored.names if is_split and self.stored.names else (None,)
            for channel, (name, url, content) in enumerate(zip(names, urls, contents, strict=True)):
                data = content if isinstance(content, bytes) else b""
                error = None if isinstance(content, bytes) else str(content)
                if len(data) > LARGEST_FILE:
                    data, error = b"", f"{url}: is larger than 2 GiB, which no shard takes; save it smaller."
                member = f"{row:09d}{f'.{channel}' if is_split else ''}.{_ending(url)}"
                yield {
                    **{"row": row, "file": self.files[row].as_py(), "channel": name, "member": member, "shard": shard},
                    "offset": tar.offset if error else _add(tar, member, data),
                    **{"size": len(data), "crc32": zlib.crc32(data), "error": error},
                }
            if self.frame is not None:
                _add(tar, f"{row:09d}.json", json.dumps(json.loads(self.frame.iloc[row].to_json()), ensure_ascii=False).encode())


def part_url(place: str, number: int) -> str:
    """URL of a shard's part of the index while the others are packed."""
    return storage.join(place, f"index-{number:06d}.parquet")


def record_url(place: str, number: int) -> str:
    """URL of what says that a shard is finished."""
    return storage.join(place, f"shard-{number:06d}.json")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Adds a member, the same whoever packs it and when; returns where its content begins."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    offset = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(info, io.BytesIO(data))
    return offset


def _ending(url: str) -> str:
    found = _ENDING.search(url)
    return found[1].lower() if found else "bin"
