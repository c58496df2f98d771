"""The order of samples: what an epoch draws, the same whatever the number of processes and wherever a run is resumed."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dino4cells.data.sampler import DRAWS_AGAIN, EpochAndIndex, SampleOrder, SampleStream
from dino4cells.errors import ConfigError

quick = settings(max_examples=60, deadline=None, derandomize=True)
KINDS = ("rows", "groups", "balanced", "balanced groups")


@st.composite
def orders(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> SampleOrder:
    """An order of each kind over up to 30 rows."""
    kind, count = draw(st.sampled_from(kinds)), draw(st.integers(1, 30))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    groups = np.unique(random.integers(0, count, count), return_inverse=True)[1]
    if kind == "rows":
        return SampleOrder.of_rows(count)
    if kind == "groups":
        return SampleOrder.of_groups(groups)
    members = random.random((count, draw(st.integers(1, 5)))) < 0.4
    members[0, 0] = True
    return SampleOrder.balanced(*np.nonzero(members), groups_N=groups if kind == "balanced groups" else None)


@st.composite
def runs(draw: st.DrawFn) -> tuple[SampleOrder, int, int, int, int]:
    """(order, epochs, share of a process, processes, seed)"""
    order = draw(orders())
    share = draw(st.integers(1, min(4, len(order))))
    return order, draw(st.integers(1, 5)), share, draw(st.integers(1, min(4, len(order) // share))), draw(st.integers(0, 3))


Run = tuple[SampleOrder, int, int, int, int]


def flat(batches: list[list[EpochAndIndex]]) -> list[EpochAndIndex]:
    return [pair for batch in batches for pair in batch]


def whole_run(order: SampleOrder, epochs: int, batch: int, seed: int, start: int = 0, world_size: int = 1) -> list[list[EpochAndIndex]]:
    """Batches over all processes, put together from what each process sees."""
    ranks = [list(SampleStream(order, epochs, batch, seed, start, rank, world_size)) for rank in range(world_size)]
    return [flat(list(step)) for step in zip(*ranks, strict=True)]


# What an epoch draws


@quick
@given(st.integers(1, 40), st.integers(0, 3))
def test_by_default_an_epoch_is_a_permutation_of_the_rows(count: int, seed: int) -> None:
    order = SampleOrder.of_rows(count)
    rows, before = order.draw(seed, epoch=2)

    assert len(order) == count
    assert sorted(rows) == list(range(count))
    assert not before.any()


@quick
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 3))
def test_an_epoch_draws_one_row_of_each_group(labels: list[int], seed: int) -> None:
    groups = np.unique(labels, return_inverse=True)[1]
    order = SampleOrder.of_groups(groups)
    for epoch in range(3):
        rows, before = order.draw(seed, epoch)
        assert len(rows) == len(order) == groups.max() + 1
        assert sorted(groups[rows]) == list(range(len(order)))
        assert not before.any()


def test_every_row_of_a_group_is_drawn_equally_often() -> None:
    sizes = [1, 2, 3, 10]
    order = SampleOrder.of_groups(np.repeat(np.arange(4), sizes))
    epochs = 3000
    drawn = np.bincount(np.concatenate([order.draw(0, epoch)[0] for epoch in range(epochs)]), minlength=16)

    for rows in np.split(drawn, np.cumsum(sizes)[:-1]):
        assert rows.sum() == epochs
        assert len(rows) == 1 or stats.chisquare(rows).pvalue > 0.01


def test_groups_come_in_a_random_order_of_their_own_in_every_epoch() -> None:
    groups = np.arange(60) // 2
    order = SampleOrder.of_groups(groups)
    first = Counter(int(groups[order.draw(0, epoch)[0][0]]) for epoch in range(3000))

    assert stats.chisquare([first[group] for group in range(30)]).pvalue > 0.01


@quick
@given(st.data())
def test_an_epoch_draws_every_class_equally_often_and_its_rows_evenly(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 12), min_size=2, max_size=6))
    classes = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(np.repeat(np.arange(len(sizes)), sizes))
    order = SampleOrder.balanced(np.arange(len(classes)), classes)
    rows, _ = order.draw(data.draw(st.integers(0, 3)), epoch=1)

    assert len(rows) == len(order) == sum(sizes) // len(sizes) * len(sizes)
    assert len(set(np.bincount(classes[rows], minlength=len(sizes)))) == 1
    for number in range(len(sizes)):
        times = np.bincount(rows, minlength=len(classes))[classes == number]
        assert times.max() - times.min() <= 1


def test_rows_of_a_class_are_drawn_equally_often_over_epochs_and_classes_do_not_take_turns() -> None:
    classes = np.array([0] * 70 + [1] * 9 + [2] * 2)
    order = SampleOrder.balanced(np.arange(81), classes)
    drawn = np.stack([order.draw(7, epoch)[0] for epoch in range(2000)])

    assert drawn.shape == (2000, 81)
    for number in range(3):
        assert stats.chisquare(np.bincount(drawn.ravel(), minlength=81)[classes == number]).pvalue > 0.01
    pairs = np.unique(classes[drawn[:, 40]] * 3 + classes[drawn[:, 41]], return_counts=True)[1]
    # Two neighbours are drawn without putting back: 27 × 26 ways for the same class, 27 × 27 for another.
    expected = np.where(np.eye(3).ravel() == 1, 27 * 26, 27 * 27)
    assert stats.chisquare(pairs, 2000 * expected / expected.sum()).pvalue > 0.01


def test_a_row_of_several_classes_is_drawn_for_each_of_them() -> None:
    members = np.zeros((12, 3), dtype=bool)
    members[:8, 0], members[6:10, 1], members[11, 2] = True, True, True
    order = SampleOrder.balanced(*np.nonzero(members))
    times = np.bincount(np.concatenate([order.draw(0, epoch)[0] for epoch in range(1000)]), minlength=12) / 1000

    assert (len(order), order.rows) == (12, 11)  # 13 memberships, 4 draws for each class
    # 4 draws over 8 rows, over 4 rows, and 4 of the only row of the last class; row 10 has no class.
    assert times == pytest.approx([0.5] * 6 + [1.5] * 2 + [1] * 2 + [0, 4], abs=0.05)


def test_a_class_that_no_row_belongs_to_is_not_drawn() -> None:
    rows, _ = SampleOrder.balanced(np.array([0, 1, 2]), np.array([0, 4, 4])).draw(0, 0)

    assert len(rows) == 2
    assert np.count_nonzero(rows == 0) == 1


@quick
@given(st.data())
def test_classes_and_groups_together_draw_groups_evenly_within_a_class(data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    classes, groups = np.unique(random.integers(0, 4, 40), return_inverse=True)[1], random.permutation(np.arange(40) // 4)
    order = SampleOrder.balanced(np.arange(40), classes, groups)
    rows, _ = order.draw(3, epoch=0)
    units = [len(set(groups[classes == number])) for number in range(classes.max() + 1)]

    assert len(order) == len(rows) == sum(units) // len(units) * len(units)
    assert set(np.bincount(classes[rows])) == {sum(units) // len(units)}
    for number, count in enumerate(units):
        drawn = np.bincount(groups[rows[classes[rows] == number]], minlength=10)
        assert drawn.max() - drawn[drawn > 0].min() <= 1
        assert np.count_nonzero(drawn) == min(count, sum(units) // len(units))


@quick
@given(orders(), st.integers(0, 3))
def test_a_row_that_an_epoch_draws_again_has_another_draw(order: SampleOrder, seed: int) -> None:
    rows, before = order.draw(seed, epoch=1)
    seen: Counter[int] = Counter()
    for row, count in zip(rows, before, strict=True):
        assert count == seen[row]
        seen[row] += 1
    pairs = flat(whole_run(order, 3, 1, seed))
    assert len(set(pairs)) == len(pairs)
    assert all(draw % DRAWS_AGAIN == place // len(order) for place, (draw, _) in enumerate(pairs))


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_of_a_million_rows_is_drawn_in_seconds(kind: str) -> None:
    count = 1_000_000
    random = np.random.default_rng(0)
    groups, classes = np.arange(count) // 20, random.integers(0, 19, count)
    started = time.process_time()
    order = {
        "rows": lambda: SampleOrder.of_rows(count),
        "groups": lambda: SampleOrder.of_groups(groups),
        "balanced": lambda: SampleOrder.balanced(np.arange(count), classes),
        "balanced groups": lambda: SampleOrder.balanced(np.arange(count), classes, groups),
    }[kind]()
    rows, _ = order.draw(0, 0)

    assert time.process_time() - started < 3
    assert len(rows) == len(order) > count // 25


# The stream


@quick
@given(runs())
def test_every_epoch_is_seen_whole_and_one_after_another(run: Run) -> None:
    order, epochs, share, world_size, seed = run
    seen = flat(whole_run(order, epochs, share * world_size, seed, world_size=world_size))

    left_out = len(order) * epochs - len(seen)
    assert 0 <= left_out < share * world_size  # less than one step
    for epoch in range(epochs - 1):
        part = [row for _, row in seen[epoch * len(order) : (epoch + 1) * len(order)]]
        assert part == order.draw(seed, epoch)[0].tolist()


@quick
@given(runs())
def test_the_stream_does_not_depend_on_the_number_of_processes(run: Run) -> None:
    order, epochs, share, world_size, seed = run

    assert whole_run(order, epochs, share * world_size, seed, world_size=world_size) == whole_run(order, epochs, share * world_size, seed)


@quick
@given(runs())
def test_every_process_takes_an_equal_share_of_each_batch(run: Run) -> None:
    order, epochs, share, world_size, seed = run

    for rank in range(world_size):
        stream = SampleStream(order, epochs, share * world_size, seed, 0, rank, world_size)
        assert [len(batch) for batch in stream] == [share] * len(stream)


@quick
@given(runs(), st.data())
def test_a_run_resumed_after_any_step_goes_on_as_if_it_had_not_stopped(run: Run, data: st.DataObject) -> None:
    order, epochs, share, world_size, seed = run
    batch = share * world_size
    uninterrupted = whole_run(order, epochs, batch, seed)
    steps = data.draw(st.integers(0, len(uninterrupted)))
    processes = data.draw(st.sampled_from([count for count in range(1, 5) if batch % count == 0]))

    assert whole_run(order, epochs, batch, seed, steps * batch, processes) == uninterrupted[steps:]


@quick
@given(runs(), st.data())
def test_a_run_resumed_with_another_batch_size_misses_and_repeats_nothing(run: Run, data: st.DataObject) -> None:
    order, epochs, share, world_size, seed = run
    before = whole_run(order, epochs, share * world_size, seed)
    steps, other = data.draw(st.integers(0, len(before))), data.draw(st.integers(1, len(order)))
    after = whole_run(order, epochs, other, seed, steps * share * world_size)

    seen = flat(before[:steps]) + flat(after)
    assert seen == flat(whole_run(order, epochs, 1, seed))[: len(seen)]
    assert len(order) * epochs - len(seen) < other


def test_the_announced_total_is_what_is_seen() -> None:
    stream = SampleStream(SampleOrder.of_rows(10), epochs=3, batch_size=4, start=8)

    assert len(stream) == len(list(stream)) == 5
    assert stream.total == 28


def test_a_finished_run_has_nothing_left() -> None:
    assert list(SampleStream(SampleOrder.of_rows(10), epochs=2, batch_size=5, start=20)) == []
    assert list(SampleStream(SampleOrder.of_rows(10), epochs=2, batch_size=5, start=30)) == []


@quick
@given(orders())
def test_epochs_and_seeds_have_orders_of_their_own(order: SampleOrder) -> None:
    drawn = {tuple(order.draw(seed, epoch)[0]) for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0))}

    assert len(drawn) > 1 or order.rows < 4


def test_a_stream_can_be_read_twice() -> None:
    stream = SampleStream(SampleOrder.of_rows(12), epochs=2, batch_size=4)

    assert list(stream) == list(stream)


def test_a_batch_larger_than_the_data_is_an_error_that_gives_the_largest_one() -> None:
    with pytest.raises(ConfigError, match=r"a batch of 64 images \(over 2 processes\) is larger than the data \(50 images\)"):
        SampleStream(SampleOrder.of_rows(50), epochs=1, batch_size=64, world_size=2)


def test_a_batch_larger_than_an_epoch_of_groups_is_an_error_that_counts_the_groups() -> None:
    with pytest.raises(ConfigError, match=r"a batch of 12 images .* is larger than an epoch \(10 images\); use a batch of at most 10"):
        SampleStream(SampleOrder.of_groups(np.arange(50) // 5), epochs=1, batch_size=12)


def test_a_batch_that_the_processes_cannot_share_is_an_error() -> None:
    with pytest.raises(ConfigError, match="a batch of 10 images cannot be divided over 4 processes; use a multiple of 4"):
        SampleStream(SampleOrder.of_rows(50), epochs=1, batch_size=10, world_size=4)
