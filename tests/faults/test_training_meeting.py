"""Processes of a job that is started again and again on one store, and signs of life: who finds whom, and who is named."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
import torch.distributed as dist

from dino4cells.training.meeting import meet
from dino4cells.training.presence import Limits, Note, Presence, Sighting, verdict
from tests.tally import Tally

NOW = datetime(2026, 1, 2, 3, 4, 5)
LIMITS = Limits()


@pytest.fixture
def store() -> dist.TCPStore:
    """A store over TCP, as torchrun keeps one."""
    return dist.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=20), wait_for_workers=False)


def test_processes_of_a_job_that_is_started_again_never_meet_those_of_an_earlier_start(store: dist.TCPStore, tally: Tally) -> None:
    tally.what = "a job started again on torchrun's store, after starts of which some processes never came"
    dice, names = random.Random(0), set[str]()
    for _ in range(12):
        world_size = dice.randrange(2, 5)
        ranks = list(range(world_size))
        if dice.random() < 0.5:  # some are killed before all have met
            came = dice.sample(ranks, dice.randrange(1, world_size))
            with ThreadPoolExecutor(world_size) as threads:
                lost = [threads.submit(meet, store.clone(), rank, world_size, timedelta(seconds=0.05)) for rank in came]
            names |= {one.result() for one in lost if one.exception() is None}
        dice.shuffle(ranks)
        with ThreadPoolExecutor(world_size) as threads:
            met = [threads.submit(meet, store.clone(), rank, world_size, timedelta(seconds=20)) for rank in ranks]
            found = {one.result() for one in met}
        tally.count(len(found) == 1 and not found & names)
        names |= found


def test_a_process_that_does_not_come_is_named(store: dist.TCPStore) -> None:
    with pytest.raises(TimeoutError, match="rank 1, 2 of 3 has not joined the job for 0 seconds"):
        meet(store, 0, 3, timedelta(seconds=0.05))


def working(seconds: float = 0.0, count: int = 4, doing: str = "reading images after 8", process: int = 7) -> Note:
    return Note("node-1", process, doing, count, seconds)


def test_a_process_without_a_sign_of_life_is_named_with_its_machine_the_time_and_what_it_did() -> None:
    said = verdict({0: Sighting(working(), 0.0), 3: Sighting(working(2.0), 360.0)}, LIMITS, NOW)
    assert said is not None
    assert said.startswith("rank 3 (process 7 on node-1) has given no sign of life since 02:58:05, reading images after 8; it was stopped")


def test_of_processes_that_wait_for_each_other_the_one_that_is_behind_is_named() -> None:
    ahead = working(1600.0, count=6, doing="computing the step after 16 images")
    said = verdict({0: Sighting(ahead, 0), 1: Sighting(working(1600.0, count=5), 2.0), 2: Sighting(ahead, 1.0)}, LIMITS, NOW)
    assert said is not None
    assert said.startswith("rank 1 (process 7 on node-1) has got no further since 02:37:25, reading images after 8; see what")
    assert "rank 2" not in said


@pytest.mark.parametrize(
    "notes",
    [
        [working(1400.0), working(1400.0)],  # slow
        [working(1600.0), working(10.0)],  # one has just begun something
        [working(9000.0), working(9000.0, doing="")],  # the artifact is written
    ],
)
def test_who_is_slow_or_does_what_may_take_any_time_is_let_be(notes: list[Note]) -> None:
    assert verdict({rank: Sighting(note, 200.0) for rank, note in enumerate(notes)}, LIMITS, NOW) is None


def test_a_process_that_stops_is_found_by_the_first_and_that_by_the_second_and_those_that_left_are_not_missed(
    store: dist.TCPStore, tally: Tally
) -> None:
    tally.what = "a process that gives no sign of life any more, found by another one"
    for number, (watcher, silent) in enumerate([(0, 1), (0, 2), (1, 0)]):
        own, found = dist.PrefixStore(f"{number}", store), threading.Event()
        words: list[str] = []
        limits = Limits(every=0.02, silent=0.3)

        def end(sentence: str, words: list[str] = words, found: threading.Event = found) -> None:
            words.append(sentence)
            found.set()

        presences = [Presence(rank, 3, own, limits, end) for rank in range(3)]
        for presence in presences:
            presence.doing("computing the step after 8 images")
            presence.start()
        gone = ({0, 1, 2} - {watcher, silent}).pop()
        presences[gone].leave()  # well
        assert not found.wait(0.6)
        presences[silent]._leaving.set()  # its thread ends without a word, as when the process is stopped
        assert found.wait(20)
        for presence in presences:
            presence.leave()
        tally.count(len(words) == 1 and words[0].startswith(f"rank {silent} (") and "computing the step after 8 images" in words[0])
