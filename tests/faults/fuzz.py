"""Damaged and lying files through every reader: `make fuzz`, or `python -m tests.faults.fuzz --inputs 100000 --seed 1`.

Each input must end as what the file holds, or as an error that names the file, within bounds of memory and time. Inputs run in processes
of their own, so that a crash of a decoder is seen, counted and traced to its input. An input is made of the seed and its number alone:
`--only 4711` runs one again.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import mmap
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tests.faults.subjects import SUBJECTS, WORK, Outcome, Subject, warm

CPU_SECONDS = 10
"""That one input may take; then its process ends and the input counts as lost."""
MEMORY = 1280 * 2**20
"""Bytes that one input may add to its process's memory (resident) at most."""
ADDRESSES = 3 * 2**30
"""Bytes of address space that a process may add; behind it, memory cannot be had."""
CHUNK = 1000
"""Inputs after which the command says how far it has come."""
PER_PROCESS = 500
"""Inputs before a process is replaced by a fresh one."""
MEMORY_DISK = "/dev/shm"
_SLOT = struct.Struct("<q")


@dataclass
class Counts:
    """What became of the inputs of one kind."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    lost: int = 0
    memory: int = 0
    seconds: float = 0.0

    @property
    def tried(self) -> int:
        return sum(self.outcomes.values()) + self.lost

    def add(self, other: Counts) -> None:
        """Count what another has counted, too."""
        self.outcomes += other.outcomes
        self.lost += other.lost
        self.memory, self.seconds = max(self.memory, other.memory), max(self.seconds, other.seconds)


@dataclass
class Report:
    """Counts by subject, and each loss: its number, its subject and what happened."""

    seed: int
    counts: dict[str, Counts] = field(default_factory=dict)
    losses: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def tried(self) -> int:
        return sum(counts.tried for counts in self.counts.values())

    def add(self, other: Report) -> None:
        """Count what another report counts, too."""
        for name, counts in other.counts.items():
            self.counts.setdefault(name, Counts()).add(counts)
        self.losses += other.losses

    def lines(self) -> Iterable[str]:
        """A table, and the losses."""
        yield f"seed {self.seed}; peak memory and time are of the one input that took most"
        yield f"{'tried':>8} {'survived':>9} {'lost':>5}  {'read':>7} {'refused':>8}  {'MiB':>6} {'s':>6}  reader, kind"
        total = Counts()
        for name, counts in sorted(self.counts.items()):
            total.add(counts)
            yield _row(name, counts)
        yield _row("all", total)
        for number, name, reason in self.losses:
            yield f"LOST {number} ({name}): {reason}"


def _row(name: str, counts: Counts) -> str:
    survived, read, refused = counts.tried - counts.lost, counts.outcomes[Outcome.READ], counts.outcomes[Outcome.REFUSED]
    return (
        f"{counts.tried:>8,} {survived:>9,} {counts.lost:>5,}  {read:>7,} {refused:>8,}  {counts.memory / 2**20:>6.0f} "
        f"{counts.seconds:>6.2f}  {name}"
    )


def subject_of(seed: int, number: int) -> tuple[Subject, Random]:
    """What an input is given to, and the randomness that it is made of."""
    random = Random(f"{seed}-{number}")
    return random.choices(SUBJECTS, [subject.weight for subject in SUBJECTS])[0], random


def fuzz(numbers: Sequence[int], seed: int) -> Report:
    """Try the inputs with these numbers, in processes that fork from this one."""
    warm()
    report, left = Report(seed), list(numbers)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=MEMORY_DISK if os.path.isdir(MEMORY_DISK) else None) as place:
        WORK.place = Path(place)
        while left:
            tried = _in_a_process(left[:PER_PROCESS], report)
            left = left[tried:]
    return report


def _in_a_process(numbers: Sequence[int], report: Report) -> int:
    """Run inputs until all are tried or one ends the process; returns how many were."""
    reading, writing = os.pipe()
    slot = mmap.mmap(-1, _SLOT.size)  # shared with the child: the input at work
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.close(reading)
        code = 1
        try:
            _work(numbers, report.seed, writing, slot)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    tried = 0
    with os.fdopen(reading) as lines:
        for line in lines:
            name, outcome, memory, seconds, reason = line.rstrip("\n").split("\t")
            counts = report.counts.setdefault(name, Counts())
            counts.memory, counts.seconds = max(counts.memory, int(memory)), max(counts.seconds, float(seconds))
            assert outcome != "unmade", f"input {numbers[tried]} could not be made: {reason}"
            if outcome == "lost":
                counts.lost += 1
                report.losses.append((numbers[tried], name, reason))
                print(f"LOST {report.losses[-1]}", file=sys.stderr, flush=True)
            else:
                counts.outcomes[Outcome(outcome)] += 1
            tried += 1
    _, status = os.waitpid(child, 0)
    if tried < len(numbers):
        subject, _ = subject_of(report.seed, numbers[tried])
        (number,) = _SLOT.unpack(slot[:])
        assert number == numbers[tried], f"the process ended between inputs ({status})"
        report.counts.setdefault(subject.name, Counts()).lost += 1
        report.losses.append((number, subject.name, _ending(status)))
        print(f"LOST {report.losses[-1]}", file=sys.stderr, flush=True)
        tried += 1
    return tried


def _ending(status: int) -> str:
    if not os.WIFSIGNALED(status):
        return f"ended the process with exit code {os.waitstatus_to_exitcode(status)}"
    number = os.WTERMSIG(status)
    if number == signal.SIGPROF:
        return f"took more than {CPU_SECONDS} s of the processor"
    return f"ended the process by {signal.Signals(number).name}"


def _work(numbers: Sequence[int], seed: int, out: int, slot: mmap.mmap) -> None:
    gc.freeze()  # what was there before the fork is not looked at again, which would copy all of it
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)  # decoders complain there about every damage
    faulthandler.disable()  # pytest's, which would print all modules at each crash
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's, whose end this process sees at the pipe
    addresses = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (addresses + ADDRESSES, addresses + ADDRESSES))
    with os.fdopen(out, "w", buffering=1) as lines:
        for number in numbers:
            subject, random = subject_of(seed, number)
            try:
                content, check = subject.make(random)
            except Exception:
                lines.write(f"{subject.name}\tunmade\t0\t0\t{' | '.join(traceback.format_exc().splitlines()[-3:])}\n")
                raise
            slot[:] = _SLOT.pack(number)
            before = _resident(reset=True)
            began = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            answer = _guarded(partial(subject.read, content, check))
            signal.setitimer(signal.ITIMER_PROF, 0)
            seconds, memory = time.process_time() - began, max(0, _resident() - before)
            outcome, reason = answer if isinstance(answer, Lost) else _guarded(partial(_judged, subject, answer, content, check))
            if outcome != "lost" and memory > MEMORY:
                outcome, reason = "lost", f"took {memory / 2**20:.0f} MiB of memory"
            lines.write(f"{subject.name}\t{outcome}\t{memory}\t{seconds:.3f}\t{reason}\n")
            if memory > 2**26:
                gc.collect()


class Lost(NamedTuple):
    """An input that was, and why."""

    outcome: str
    reason: str


def _judged(subject: Subject, answer: object, content: bytes, check: object) -> tuple[str, str]:
    return subject.judge(answer, content, check).value, ""


def _guarded(work: Callable[[], Any]) -> Any:
    """What the work returns, or a `Lost`."""
    try:
        return work()
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return Lost("lost", f"{' '.join(f'{type(error).__name__}: {error}'.split())[:300]} ({Path(last.filename).name}:{last.lineno})")


def _resident(reset: bool = False) -> int:
    """The most bytes of memory that this process has held since the last reset, in proc(5)'s words its high water mark."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def main() -> None:
    """`python -m tests.faults.fuzz`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", type=int, help="number of the one input to run, in this process, whose traceback is printed")
    parser.add_argument("--save", type=Path, help="with --only: where to write the input")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    if options.only is not None:
        warm()
        subject, random = subject_of(options.seed, options.only)
        content, check = subject.make(random)
        print(subject.name, len(content), "bytes")
        if options.save:
            options.save.write_bytes(content)
        print(subject.judge(subject.read(content, check), content, check))
        return
    began, report = time.monotonic(), Report(options.seed)
    with contextlib.suppress(KeyboardInterrupt):
        for first in range(0, options.inputs, CHUNK):
            numbers = range(first, min(first + CHUNK, options.inputs))
            report.add(fuzz(numbers, options.seed))
            print(f"{numbers.stop:,} tried, {len(report.losses):,} lost, {time.monotonic() - began:.0f} s", flush=True)
    print("\n".join(report.lines()))
    raise SystemExit(bool(report.losses) or report.tried < options.inputs)


if __name__ == "__main__":
    main()
