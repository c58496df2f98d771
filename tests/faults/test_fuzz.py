"""The short form of `make fuzz`: each reader, over damaged and lying files, ends as what the file holds or as an error that names it."""

from __future__ import annotations

import os

import pytest

from tests.faults.fuzz import CPU_SECONDS, MEMORY, fuzz, subject_of
from tests.tally import Tally

INPUTS = int(os.environ.get("DINO4CELLS_FUZZ_INPUTS", "1000"))
SEED = int(os.environ.get("DINO4CELLS_FUZZ_SEED", "7"))


def test_no_damaged_or_lying_file_is_lost(tally: Tally) -> None:
    tally.what = f"a damaged or lying file, read in a process of its own (seed {SEED})"
    report = fuzz(range(INPUTS), SEED)
    print("\n".join(report.lines()))
    tally.tried, tally.survived = report.tried, report.tried - len(report.losses)
    assert not report.losses
    assert report.tried == INPUTS
    assert max(counts.memory for counts in report.counts.values()) <= MEMORY
    assert max(counts.seconds for counts in report.counts.values()) <= CPU_SECONDS


def test_inputs_are_made_of_the_seed_alone() -> None:
    for number in range(20):
        (subject, random), (again, other) = subject_of(SEED, number), subject_of(SEED, number)
        if not subject.name.startswith("checkpoint"):  # of which a zip holds the time
            assert (subject.name, subject.make(random)[0]) == (again.name, again.make(other)[0])


@pytest.mark.parametrize("fault", ["a crash", "another error", "a wrong image", "memory", "time"])
def test_what_is_lost_is_seen(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """A harness that sees no loss would show nothing."""
    import tests.faults.fuzz as harness
    from tests.faults.subjects import Outcome, Subject

    def read(content: bytes, check: object) -> object:
        match fault:
            case "a crash":
                os.kill(os.getpid(), 11)
            case "another error":
                raise KeyError("no error of ours")
            case "memory":
                return bytearray(b"x") * 2**26
            case "time":
                while True:
                    pass
        return None

    def judge(answer: object, content: bytes, check: object) -> Outcome:
        assert fault != "a wrong image", "is not what was saved"
        return Outcome.READ

    monkeypatch.setattr(harness, "SUBJECTS", (Subject("a reader", 1, lambda random: (b"x", None), read, judge),))
    monkeypatch.setattr(harness, "CPU_SECONDS", 1)
    monkeypatch.setattr(harness, "MEMORY", 2**24)
    report = fuzz(range(2), SEED)
    assert [number for number, _, _ in report.losses] == [0, 1]
    words = {
        "a crash": "SIGSEGV",
        "another error": "KeyError",
        "a wrong image": "is not what was saved",
        "memory": "MiB",
        "time": "more than 1 s",
    }
    assert all(words[fault] in reason for _, _, reason in report.losses)
