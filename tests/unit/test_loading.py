"""Reading ahead: the same batches in the same order whoever reads, no more of them than are about to be used, and an end when told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dino4cells import storage
from dino4cells.data.dataset import CellImages
from dino4cells.data.loading import AHEAD, load_batches
from dino4cells.data.sampler import SampleOrder, SampleStream
from dino4cells.data.source import plain_source
from dino4cells.errors import Dino4CellsError

STREAM = SampleStream(SampleOrder.of_rows(6), epochs=8, batch_size=4)
DEADLINE = 30


class Drawn(CellImages):
    """Images whose every pixel is their row; `before` is called with the rows of each batch, by whoever reads it."""

    def __init__(self, before: Callable[[Sequence[int]], object] = lambda rows: None) -> None:
        super().__init__(plain_source(["none.png"] * 6, 1))
        self.before, self.batches_read = before, 0

    def read(self, indices: Sequence[int]) -> list[torch.Tensor | Dino4CellsError]:
        self.before(indices)
        self.batches_read += 1
        return [torch.full((1, 2, 2), index, dtype=torch.uint8) for index in indices]


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("workers", [0, 1])
def test_whoever_reads_the_batches_are_those_that_the_sampler_asks_for_in_its_order(workers: int, tmp_path: Path) -> None:
    urls = [str(tmp_path / f"{row}.png") for row in range(6)]
    for row, url in enumerate(urls):
        Image.fromarray(np.full((3 + row, 9 - row), row + 1, np.uint8)).save(url)
    storage.write_bytes(urls[4], b"no image")
    images = CellImages(plain_source(urls, 1))
    loader = load_batches(images, STREAM, workers)

    for _ in range(2):  # passes
        with iter(loader) as batches:
            for keys, batch in zip(STREAM, batches, strict=True):
                expected = images.__getitems__(keys)
                assert batch.failures == expected.failures
                for name in ("images_BCHW", "sizes_B2", "index_B", "epoch_B"):
                    assert torch.equal(getattr(batch, name), getattr(expected, name))
    assert any(images.__getitems__(keys).failures for keys in STREAM)


def test_the_next_batches_are_read_while_one_is_used_and_no_more_than_promised() -> None:
    images = Drawn()
    with iter(load_batches(images, STREAM, 0)) as batches:
        for taken, _ in enumerate(batches, start=1):
            wait_until(lambda taken=taken: images.batches_read == min(taken + AHEAD, len(STREAM)))  # type: ignore[misc]
        assert taken == images.batches_read == len(STREAM)


def test_what_goes_wrong_in_reading_is_raised_where_its_batch_is_asked_for() -> None:
    keys_of_third = list(STREAM)[2]

    def fail_at_the_third(rows: Sequence[int]) -> None:
        if images.batches_read == 2:
            raise ZeroDivisionError(f"in rows {rows}")

    images = Drawn(fail_at_the_third)
    batches = iter(load_batches(images, STREAM, 0))
    assert [len(next(batches)) for _ in range(2)] == [4, 4]

    with pytest.raises(ZeroDivisionError, match=str([row for _, row in keys_of_third]).replace("[", r"\[")):
        next(batches)

    assert not reading_threads()
    with pytest.raises(StopIteration):
        next(batches)


def test_a_pass_that_is_left_early_ends_its_thread_and_reads_no_further() -> None:
    images = Drawn()

    def use_one_batch() -> None:
        with iter(load_batches(images, STREAM, 0)) as batches:
            next(batches)
            assert len(reading_threads()) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use_one_batch()

    assert not reading_threads()
    assert images.batches_read <= 1 + AHEAD < len(STREAM)


def test_a_pass_that_is_forgotten_ends_its_thread_too() -> None:
    batches = iter(load_batches(Drawn(), STREAM, 0))
    next(batches)
    assert len(reading_threads()) == 1

    del batches

    assert not reading_threads()


def test_what_the_consumer_waited_for_data_is_counted_and_what_it_computed_is_not() -> None:
    images = Drawn(lambda rows: time.sleep(0.02) if images.batches_read == 0 else None)
    with iter(load_batches(images, STREAM, 0)) as batches:
        assert batches.waited_seconds == 0
        next(batches)
        for_the_first = batches.waited_seconds
        assert for_the_first >= 0.02
        wait_until(lambda: images.batches_read == 1 + AHEAD)
        assert batches.waited_seconds == for_the_first
        next(batches)
        assert batches.waited_seconds > for_the_first
