"""The order of packed images: every row once, few blocks at a time, the same by any number of processes and wherever a run is resumed."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dino4cells import storage
from dino4cells.data import shards as shard_format
from dino4cells.data.block_buffer import BlockBuffer
from dino4cells.data.block_order import BlockOrder
from dino4cells.data.sampler import EpochAndIndex, Order, SampleStream
from dino4cells.data.shards import PackedImages, Shards

quick = settings(max_examples=60, deadline=None, derandomize=True)
IMAGE_BYTES = 10


def packed(sizes: list[int], rows: list[int] | None = None, channels: int = 1) -> PackedImages:
    """A table whose images lie in blocks of so many rows, two blocks a shard; `rows` says which packed rows the table has (−1: none)."""
    count = sum(sizes)
    block = np.repeat(np.arange(len(sizes)), sizes)
    # Blocks are told from each other by their place in the shard; all images of one lie at its beginning.
    offset = (block % 2) * shard_format.BLOCK_BYTES + (np.arange(count) - (np.cumsum(sizes) - sizes)[block]) * IMAGE_BYTES * channels
    member_offset = np.repeat(offset, channels) + np.tile(np.arange(channels) * IMAGE_BYTES, count)
    index = Shards(
        url="memory://test-shard-order",
        channels=tuple(f"c{number}" for number in range(channels)) if channels > 1 else None,
        files_P=pa.array([f"{row}_{{channel}}.png" if channels > 1 else f"{row}.png" for row in range(count)], pa.large_string()),
        first_P=np.arange(count) * channels if channels > 1 else None,
        shard_M=np.repeat(block // 2, channels).astype(np.int32),
        offset_M=member_offset,
        size_M=np.full(count * channels, IMAGE_BYTES, np.int32),
        crc_M=np.zeros(count * channels, np.uint32),
        errors={},
    )
    row_N = np.arange(count) if rows is None else np.array(rows, np.int64)
    return PackedImages(index, pa.array([f"{row}" for row in row_N], pa.large_string()), row_N, index)


@st.composite
def orders(draw: st.DrawFn) -> BlockOrder:
    """Orders of up to 12 blocks, of a whole table, of one in another order, or of a part of it."""
    sizes = draw(st.lists(st.integers(1, 7), min_size=1, max_size=12))
    rows = list(range(sum(sizes)))
    if draw(st.booleans()):
        rows = draw(st.permutations(rows))[: draw(st.integers(1, len(rows)))] + [-1] * draw(st.integers(0, 2))
    return BlockOrder.of(packed(sizes, rows), draw(st.sampled_from([1, 2, 3, 4, 6, 8, 12, 384])))


def flat(batches: list[list[EpochAndIndex]]) -> list[EpochAndIndex]:
    return [pair for batch in batches for pair in batch]


def whole_run(order: Order, epochs: int, batch: int, start: int = 0, world_size: int = 1) -> list[set[EpochAndIndex]]:
    """What all processes see together in each step; checks that no two of them see the same sample."""
    ranks = [list(SampleStream(order, epochs, batch, 3, start, rank, world_size)) for rank in range(world_size)]
    steps = [flat(list(step)) for step in zip(*ranks, strict=True)]
    assert all(len(set(step)) == len(step) == batch for step in steps)
    return [set(step) for step in steps]


# Exactness


@quick
@given(orders(), st.integers(0, 3))
def test_an_epoch_draws_every_row_once(order: BlockOrder, epoch: int) -> None:
    rows, before = order.draw(seed=1, epoch=epoch)

    assert sorted(rows[place] for place in range(len(order))) == list(range(len(order)))
    assert all(before[place] == 0 for place in range(len(order)))
    with pytest.raises(IndexError):
        before[len(order)]


@quick
@given(orders(), st.integers(1, 3), st.integers(1, 8), st.integers(1, 4))
def test_any_number_of_processes_sees_the_same_batches(order: BlockOrder, epochs: int, world_size: int, share: int) -> None:
    batch = share * world_size
    if batch > len(order):
        return

    assert whole_run(order, epochs, batch, world_size=world_size) == whole_run(order, epochs, batch)


@quick
@given(orders(), st.data())
def test_a_run_resumed_after_any_step_goes_on_as_if_it_had_not_stopped(order: BlockOrder, data: st.DataObject) -> None:
    batch = data.draw(st.integers(1, len(order)))
    uninterrupted = list(SampleStream(order, 3, batch, 3))
    steps = data.draw(st.integers(0, len(uninterrupted)))

    assert list(SampleStream(order, 3, batch, 3, start=steps * batch)) == uninterrupted[steps:]
    for world_size in (count for count in range(2, 9) if batch % count == 0):
        assert whole_run(order, 3, batch, steps * batch, world_size) == [set(step) for step in uninterrupted[steps:]]


@quick
@given(orders(), st.data())
def test_a_run_resumed_with_another_batch_size_misses_and_repeats_nothing(order: BlockOrder, data: st.DataObject) -> None:
    batch, other = data.draw(st.integers(1, len(order))), data.draw(st.integers(1, len(order)))
    before = list(SampleStream(order, 3, batch, 3))
    steps = data.draw(st.integers(0, len(before)))
    seen = flat(before[:steps]) + flat(list(SampleStream(order, 3, other, 3, start=steps * batch)))

    assert seen == flat(list(SampleStream(order, 3, 1, 3)))[: len(seen)]
    assert len(order) * 3 - len(seen) < other


# Few blocks at a time


class Counted:
    """What a store was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ranges: list[storage.Range] = []
        monkeypatch.setattr(storage, "read_ranges", self.read)

    def read(self, ranges: list[storage.Range], cache: object = None) -> list[bytes]:
        self.ranges += ranges
        return [bytes(stop - start) for _, start, stop in ranges]  # type: ignore[operator]


@pytest.mark.parametrize(("world_size", "share"), [(1, 1), (1, 24), (1, 100), (2, 6), (4, 3), (6, 4), (8, 5), (5, 4)])
def test_a_process_reads_its_part_of_the_blocks_once_and_keeps_few(world_size: int, share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = packed([20] * 96)
    order, lanes, epochs = BlockOrder.of(images, 24), 24, 2
    assert order.lanes == lanes
    read = []
    for rank in range(world_size):
        counted = Counted(monkeypatch)
        monkeypatch.setattr(Shards, "member", lambda shards, number, content, begins: content)
        buffer = BlockBuffer(images.shards, order.open_blocks(world_size))
        for batch in SampleStream(order, epochs, share * world_size, 0, rank=rank, world_size=world_size):
            buffer.read([row for _, row in batch])
            assert len(buffer._kept) <= order.open_blocks(world_size)
        assert buffer.fetched == len(counted.ranges)
        read.append(Counter(counted.ranges))

    sharers = world_size * order.open_blocks(world_size) // lanes  # processes that have a lane in common, where R does not divide the lanes
    assert order.open_blocks(world_size) == lanes // np.gcd(lanes, world_size)
    # Every lane reads its blocks, and those that it shares with its neighbours; never one twice.
    assert max(max(blocks.values()) for blocks in read) <= epochs * 2
    assert sum(sum(blocks.values()) for blocks in read) <= epochs * sharers * (96 + lanes)


def test_without_lanes_that_are_cut_within_blocks_every_block_is_read_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    images, counted = packed([8] * 48), Counted(monkeypatch)
    monkeypatch.setattr(Shards, "member", lambda shards, number, content, begins: content)
    buffer = BlockBuffer(images.shards, 6)
    for batch in SampleStream(BlockOrder.of(images, 12), 1, 16, rank=1, world_size=2):
        buffer.read([row for _, row in batch])

    assert len(counted.ranges) == len(set(counted.ranges)) == 24


def test_a_block_that_could_not_be_read_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    images, asked = packed([4, 4]), []

    def read(ranges: list[storage.Range], cache: object = None) -> list[bytes | storage.StorageError]:
        asked.append(ranges)
        return [storage.StorageError("gone")] * len(ranges) if len(asked) == 1 else [bytes(40)] * len(ranges)

    monkeypatch.setattr(storage, "read_ranges", read)
    buffer = BlockBuffer(replace(images.shards, crc_M=np.full(8, zlib.crc32(bytes(IMAGE_BYTES)), np.uint32)), 2)
    assert [str(content) for content in buffer.read([1])] == ["1.png in gone"]
    assert buffer.read([1]) == [bytes(10)]
    assert buffer.read([2]) == [bytes(10)]
    assert len(asked) == 3
    assert asked[2] == []


def test_members_of_a_row_are_in_one_block() -> None:
    images = packed([3, 2, 4], channels=3)
    blocks = images.shards.blocks_of(np.arange(27)).reshape(9, 3)

    assert blocks.tolist() == [[0] * 3] * 3 + [[1] * 3] * 2 + [[2] * 3] * 4
    assert images.blocks().tolist() == blocks[:, 0].tolist()


# Randomness


def test_a_batch_holds_images_of_as_many_blocks_as_there_are_lanes() -> None:
    images = packed([50] * 60)
    order = BlockOrder.of(images, 30)
    for batch in list(SampleStream(order, 1, 30))[:40]:
        assert len({int(images.blocks()[row]) for _, row in batch}) >= 29  # the one before its end and its successor may be the same


def test_every_row_comes_equally_often_at_every_place() -> None:
    order = BlockOrder.of(packed([3] * 8), 4)
    assert order.lanes == 4
    first = Counter(order.draw(0, epoch)[0][0] for epoch in range(4000))
    tenth = Counter(order.draw(0, epoch)[0][10] for epoch in range(4000))

    for drawn in (first, tenth):
        assert stats.chisquare([drawn[row] for row in range(24)]).pvalue > 0.01


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    order = BlockOrder.of(packed([5] * 6), 3)
    drawn = {tuple(order.draw(seed, epoch)[0][place] for place in range(30)) for seed in range(3) for epoch in range(3)}
    assert len(drawn) == 9


# What decides the order


def test_the_lanes_are_a_divisor_of_what_is_asked_for() -> None:
    assert [BlockOrder.of(packed([1] * blocks), 384).lanes for blocks in (1, 2, 5, 70, 384, 500)] == [1, 2, 4, 64, 384, 384]
    assert BlockOrder.of(packed([1] * 40), 15).lanes == 15


def test_the_fingerprint_tells_orders_apart_that_a_run_must_not_go_on_with() -> None:
    one = BlockOrder.of(packed([4] * 6), 3)
    other_lanes, other_blocks = BlockOrder.of(packed([4] * 6), 6), BlockOrder.of(packed([8] * 3), 3)
    other_rows = BlockOrder.of(packed([4] * 6, list(range(24))[::-1]), 3)

    assert BlockOrder.of(packed([4] * 6), 3).fingerprint == one.fingerprint
    assert len({order.fingerprint for order in (one, other_lanes, other_blocks, other_rows)}) == 4
