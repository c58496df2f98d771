"""Packing: the files of a table's images, copied unchanged into shards (`dino4cells.data.shards`).

Every shard is one piece of work: its files are fetched, written to a tar on this machine, put to its place and read back. Then its part
of the index and a record are put beside the packed directory, into `<directory>.packing`: a shard with a record is finished, and a packing
that was interrupted goes on with the others.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence

import pyarrow.parquet as pq
from pydantic import BaseModel

import dino4cells
from dino4cells import storage
from dino4cells.artifacts import ArtifactWriter, finished_already, is_complete
from dino4cells.data.layout import Layout
from dino4cells.data.metadata import CHANNELS_FILE, METADATA_FILE, Metadata
from dino4cells.data.processes import in_processes, processes_for
from dino4cells.data.shard_writing import LISTED, PackShard, ShardRecord, part_url
from dino4cells.data.shards import CARD, INDEX, KIND, SCHEMA, PackCard
from dino4cells.data.statistics import evenly_drawn
from dino4cells.data.stored import StoredImages, whole
from dino4cells.errors import ArtifactError, DataError

SAMPLED_ROWS = 256
"""Rows whose files say how many of them make a shard."""
PLAN = "plan.json"
PARTS_AT_ONCE = 32


class Plan(BaseModel):
    """What a packing makes; an interrupted one is continued by the same plan alone."""

    data_fingerprint: str
    layout: Layout
    channels: tuple[str, ...] | None
    rows_per_shard: int
    shard_mb: int
    with_rows: bool


def pack(
    metadata: Metadata,
    names: Sequence[str] | None,
    output: str,
    *,
    shard_mb: int = 256,
    with_rows: bool = False,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    processes: int | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> PackCard:
    """Copy the images of a table into shards; goes on with what an interrupted packing has finished.

    Args:
        metadata: the table of cells.
        names: of the channels, for images that have a file for each.
        output: URL of the packed directory.
        shard_mb: size of a shard, in MiB, as far as a sample of the files tells.
        with_rows: put every row of the table into the shards too, as JSON, for other tools that read WebDataset.
        skip_unreadable: keep rows whose files cannot be read, with the reason, in place of refusing them.
        overwrite: replace another packed directory that is at `output`, or an unfinished one of something else.
        processes: that fetch and write; by the number of cores and images when None.
        progress: called with the number of rows packed since the last call.

    Raises:
        ArtifactError: `output` is finished already, or holds an unfinished packing of something else.
        DataError: files cannot be read; the first are listed, and what could be packed is kept.
        StorageError: `output` cannot be written, or not what was written is read back.
    """
    if metadata.shards is not None:
        raise DataError(f"{metadata.source}: its images are packed already; give the table of the files of their own.")
    if is_complete(output) and not overwrite:
        raise finished_already(output)
    storage.check_writable(output)
    stored = StoredImages.of(metadata, names)
    place = f"{output.rstrip('/')}.packing"
    plan = _plan(stored, metadata, place, shard_mb, with_rows, overwrite)
    frame = metadata.frame if with_rows else None
    work = PackShard(stored, metadata.urls.files, frame, storage.absolute(output), storage.absolute(place), plan.rows_per_shard)
    pieces = [range(first, min(first + plan.rows_per_shard, len(metadata))) for first in range(0, len(metadata), plan.rows_per_shard)]
    with ArtifactWriter(output, KIND) as writer:
        records = _finished(output, place, skip_unreadable)
        progress(sum(len(pieces[number]) for number in records))
        todo = [piece for number, piece in enumerate(pieces) if number not in records]
        for record in in_processes(work, todo, processes or processes_for(sum(map(len, todo)))):
            records[record.number] = record
            progress(len(pieces[record.number]))
        in_order = [records[number] for number in range(len(pieces))]
        if not skip_unreadable:
            _check_readable(in_order, metadata.source, output)
        card = _complete(writer, metadata, plan, place, in_order)
    storage.remove(place)
    return card


def _plan(stored: StoredImages, metadata: Metadata, place: str, shard_mb: int, with_rows: bool, overwrite: bool) -> Plan:
    """The plan that an interrupted packing has left, or a new one, which is left there."""
    url = storage.join(place, PLAN)
    asked = Plan(
        data_fingerprint=metadata.fingerprint,
        layout=metadata.layout,
        channels=stored.names if metadata.has_file_per_channel else None,
        rows_per_shard=1,
        shard_mb=shard_mb,
        with_rows=with_rows,
    )
    if storage.exists(url):
        found = Plan.model_validate_json(storage.read_bytes(url))
        if found == asked.model_copy(update={"rows_per_shard": found.rows_per_shard}):
            return found
        if not overwrite:
            raise ArtifactError(
                f"{place}: belongs to an unfinished packing of other data, or of other options; delete it, or pass --overwrite."
            )
    storage.remove(place)
    plan = asked.model_copy(update={"rows_per_shard": _rows_per_shard(stored, shard_mb * 2**20)})
    storage.write_text(url, plan.model_dump_json(indent=2) + "\n")
    return plan


def _rows_per_shard(stored: StoredImages, shard_bytes: int) -> int:
    """As many rows as fill a shard, by a sample of them."""
    contents = stored.contents(evenly_drawn(len(stored), SAMPLED_ROWS))
    sizes = [len(content) + tarfile.BLOCKSIZE for row in contents for content in row if isinstance(content, bytes)]
    if not sizes:
        raise DataError(f"{stored.source}: none of {len(contents)} sampled images can be read; the first says: {contents[0][0]!s}")
    per_row = sum(sizes) / len(sizes) * sum(map(len, contents)) / len(contents)
    return max(1, int(shard_bytes / per_row))


def _finished(output: str, place: str, skip_unreadable: bool) -> dict[int, ShardRecord]:
    """The shards, by number, that an interrupted packing has finished and that are still there; those with gaps are tried again."""
    urls = [storage.join(place, name) for name in storage.list_files(place) if name.startswith("shard-")]
    records = [ShardRecord.model_validate_json(content) for content in whole(storage.read_many(urls))]
    sizes = storage.list_sizes(output) if records else {}
    return {
        record.number: record
        for record in records
        if sizes.get(record.file.name) == record.file.size and (skip_unreadable or not record.failed_rows)
    }


def _check_readable(records: Sequence[ShardRecord], source: str, output: str) -> None:
    """Refuse to leave out images that nobody allowed to be left out."""
    failed, reasons = sum(record.failed_rows for record in records), [reason for record in records for reason in record.reasons][:LISTED]
    if failed:
        more = [f"and {failed - len(reasons):,} more"] if failed > len(reasons) else []
        raise DataError(
            f"{source}: the files of {failed:,} cells cannot be read; mend them or delete their rows and pack again, which goes on from "
            f"what is in {output}, or keep their rows with the reason by --skip-unreadable."
            + "".join(f"\n  {line}" for line in reasons + more)
        )


def _complete(writer: ArtifactWriter, metadata: Metadata, plan: Plan, place: str, records: Sequence[ShardRecord]) -> PackCard:
    """Put together the index, and write what else belongs to a packed directory."""
    with pq.ParquetWriter(writer.path(INDEX), SCHEMA) as index:
        for first in range(0, len(records), PARTS_AT_ONCE):
            urls = [part_url(place, record.number) for record in records[first : first + PARTS_AT_ONCE]]
            for content in whole(storage.read_many(urls)):
                index.write_table(pq.read_table(io.BytesIO(content)))
    for record in records:
        writer.adopt(record.file)
    card = PackCard(
        data=metadata.source,
        data_fingerprint=metadata.fingerprint,
        layout=metadata.layout,
        channels=plan.channels,
        rows=len(metadata),
        rows_per_shard=plan.rows_per_shard,
        shards=len(records),
        images_bytes=sum(record.images_bytes for record in records),
        failed_rows=sum(record.failed_rows for record in records),
        version=dino4cells.__version__,
    )
    writer.write_bytes(METADATA_FILE, storage.read_bytes(metadata.source))
    if metadata.channels:
        writer.write_text(CHANNELS_FILE, "".join(f"{name}\n" for name in metadata.channels))
    writer.write_text(CARD, card.model_dump_json(indent=2) + "\n")
    return card
