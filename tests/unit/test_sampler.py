"""The order of samples: every one once per epoch, whatever the number of processes and wherever a run is resumed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dino4cells.data.sampler import EpochAndIndex, SampleOrder, SampleStream
from dino4cells.errors import ConfigError

# (length, epochs, share of a process, processes, seed)
RUNS = st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3)).filter(
    lambda run: run[2] * run[3] <= run[0]
)
quick = settings(max_examples=60, deadline=None, derandomize=True)


def flat(batches: list[list[EpochAndIndex]]) -> list[EpochAndIndex]:
    return [pair for batch in batches for pair in batch]


def whole_run(length: int, epochs: int, batch: int, seed: int, start: int = 0, world_size: int = 1) -> list[list[EpochAndIndex]]:
    """Batches over all processes, put together from what each process sees."""
    ranks = [list(SampleStream(SampleOrder.of_rows(length), epochs, batch, seed, start, rank, world_size)) for rank in range(world_size)]
    return [flat(list(step)) for step in zip(*ranks, strict=True)]


@quick
@given(RUNS)
def test_every_sample_is_seen_once_per_epoch(run: tuple[int, int, int, int, int]) -> None:
    length, epochs, share, world_size, seed = run
    seen = flat(whole_run(length, epochs, share * world_size, seed, world_size=world_size))

    left_out = length * epochs - len(seen)
    assert 0 <= left_out < share * world_size  # less than one step
    assert max(Counter(seen).values(), default=1) == 1
    whole_epochs = [index for epoch, index in seen if epoch < epochs - 1]
    assert Counter(whole_epochs) == Counter({index: epochs - 1 for index in range(length)} if epochs > 1 else {})
    assert [epoch for epoch, _ in seen] == sorted(epoch for epoch, _ in seen)


@quick
@given(RUNS)
def test_the_stream_does_not_depend_on_the_number_of_processes(run: tuple[int, int, int, int, int]) -> None:
    length, epochs, share, world_size, seed = run

    assert whole_run(length, epochs, share * world_size, seed, world_size=world_size) == whole_run(length, epochs, share * world_size, seed)


@quick
@given(RUNS)
def test_every_process_takes_an_equal_share_of_each_batch(run: tuple[int, int, int, int, int]) -> None:
    length, epochs, share, world_size, seed = run

    for rank in range(world_size):
        stream = SampleStream(SampleOrder.of_rows(length), epochs, share * world_size, seed, 0, rank, world_size)
        assert [len(batch) for batch in stream] == [share] * len(stream)


@quick
@given(RUNS, st.data())
def test_a_run_resumed_after_any_step_goes_on_as_if_it_had_not_stopped(run: tuple[int, int, int, int, int], data: st.DataObject) -> None:
    length, epochs, share, world_size, seed = run
    batch = share * world_size
    uninterrupted = whole_run(length, epochs, batch, seed)
    steps = data.draw(st.integers(0, len(uninterrupted)))
    processes = data.draw(st.sampled_from([count for count in range(1, 5) if batch % count == 0]))

    assert whole_run(length, epochs, batch, seed, steps * batch, processes) == uninterrupted[steps:]


@quick
@given(RUNS, st.data())
def test_a_run_resumed_with_another_batch_size_misses_and_repeats_nothing(run: tuple[int, int, int, int, int], data: st.DataObject) -> None:
    length, epochs, share, world_size, seed = run
    before = whole_run(length, epochs, share * world_size, seed)
    steps, other = data.draw(st.integers(0, len(before))), data.draw(st.integers(1, length))
    after = whole_run(length, epochs, other, seed, steps * share * world_size)

    seen = flat(before[:steps]) + flat(after)
    assert seen == flat(whole_run(length, epochs, 1, seed))[: len(seen)]
    assert length * epochs - len(seen) < other


def test_the_announced_total_is_what_is_seen() -> None:
    stream = SampleStream(SampleOrder.of_rows(10), epochs=3, batch_size=4, start=8)

    assert len(stream) == len(list(stream)) == 5
    assert stream.total == 28


def test_a_finished_run_has_nothing_left() -> None:
    assert list(SampleStream(SampleOrder.of_rows(10), epochs=2, batch_size=5, start=20)) == []
    assert list(SampleStream(SampleOrder.of_rows(10), epochs=2, batch_size=5, start=30)) == []


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first, second = whole_run(length=30, epochs=2, batch=30, seed=0)
    (other,) = whole_run(length=30, epochs=1, batch=30, seed=1)
    orders = [[index for _, index in batch] for batch in (first, second, other)]

    assert len({tuple(order) for order in orders}) == 3
    assert all(order != sorted(order) for order in orders)


def test_a_stream_can_be_read_twice() -> None:
    stream = SampleStream(SampleOrder.of_rows(12), epochs=2, batch_size=4)

    assert list(stream) == list(stream)


def test_a_batch_larger_than_the_data_is_an_error_that_gives_the_largest_one() -> None:
    with pytest.raises(ConfigError, match=r"a batch of 64 images \(over 2 processes\) is larger than the data \(50 images\)"):
        SampleStream(SampleOrder.of_rows(50), epochs=1, batch_size=64, world_size=2)


def test_a_batch_that_the_processes_cannot_share_is_an_error() -> None:
    with pytest.raises(ConfigError, match="a batch of 10 images cannot be divided over 4 processes; use a multiple of 4"):
        SampleStream(SampleOrder.of_rows(50), epochs=1, batch_size=10, world_size=4)
