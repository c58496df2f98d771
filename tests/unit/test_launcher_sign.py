"""The launcher's sign of life, given and looked for, by time that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dino4cells.cluster import entry
from dino4cells.cluster.failures import exit_code, own_sentence
from dino4cells.cluster.objects import Ended
from dino4cells.cluster.reason import MISTAKE, REASON_FILE
from dino4cells.cluster.sign import ABANDONED, LauncherGone, LauncherSign, Patience, SignWatch, wait_for_launcher
from dino4cells.cluster.variables import LAUNCHER_SIGN

MINUTES = 60.0


class Clock:
    """Time that passes when somebody sleeps, and what happens then."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.due: dict[float, Callable[[], object]] = {}

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for when in [when for when in self.due if when <= self.now]:
            self.due.pop(when)()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "launcher"


class Store:
    """A directory that can be away: nothing can be read from it or written to it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.elsewhere = directory, directory.with_name("elsewhere")

    def goes(self) -> None:
        self.directory.rename(self.elsewhere)
        self.directory.touch()

    def comes(self) -> None:
        self.directory.unlink()
        self.elsewhere.rename(self.directory)


def looks(watch: SignWatch, clock: Clock, minutes: int, each: Callable[[], object] = lambda: None) -> int | None:
    """Look once a minute: the minute in which the launcher is said to be gone, or None."""
    for minute in range(minutes):
        if watch.launcher_is_gone():
            return minute
        clock.sleep(MINUTES)
        each()
    return None


def test_a_launcher_that_gives_its_sign_is_there(place: Path, clock: Clock) -> None:
    sign = LauncherSign(str(place), clock, print)
    sign.give()
    assert looks(SignWatch(str(place), Patience(), clock), clock, 100, sign.give) is None


def test_a_launcher_that_gives_none_for_15_minutes_is_gone(place: Path, clock: Clock) -> None:
    LauncherSign(str(place), clock, print).give()
    assert looks(SignWatch(str(place), Patience(), clock), clock, 100) == 15
    assert place.read_text() == ABANDONED


def test_a_sign_is_written_once_a_minute_and_never_twice_the_same(place: Path, clock: Clock) -> None:
    sign, seen = LauncherSign(str(place), clock, print), []
    for _ in range(60):
        sign.give()
        seen.append(place.read_text())
        clock.sleep(2)
    assert len(set(seen)) == 2
    LauncherSign(str(place), clock, print).give()
    assert place.read_text() not in seen, "another launcher's first sign is another"


def test_a_launcher_that_takes_over_in_time_keeps_the_job(place: Path, clock: Clock) -> None:
    LauncherSign(str(place), clock, print).give()
    watch = SignWatch(str(place), Patience(), clock)
    assert looks(watch, clock, 14) is None
    other = LauncherSign(str(place), clock, print)
    other.give()
    assert looks(watch, clock, 100, other.give) is None


def test_a_store_that_is_away_is_no_launcher_that_is_gone(place: Path, clock: Clock) -> None:
    sign, store = LauncherSign(str(place), clock, print), Store(place.parent)
    sign.give()
    watch = SignWatch(str(place), Patience(), clock)
    assert looks(watch, clock, 3, sign.give) is None
    assert not watch.launcher_is_gone()  # it has seen the last sign before the store goes
    store.goes()
    assert looks(watch, clock, 100, sign.give) is None
    store.comes()
    # The first look meets the sign from before, since the launcher's next one comes up to a minute later.
    assert not watch.launcher_is_gone()
    assert looks(watch, clock, 100, sign.give) is None


def test_a_launcher_that_went_while_the_store_was_away_is_found_gone_afterwards(place: Path, clock: Clock) -> None:
    LauncherSign(str(place), clock, print).give()
    store, watch = Store(place.parent), SignWatch(str(place), Patience(), clock)
    watch.launcher_is_gone()
    store.goes()
    assert looks(watch, clock, 50) is None
    store.comes()
    assert looks(watch, clock, 50) == 15


def test_a_store_that_can_only_be_read_does_not_stop_a_job(place: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    LauncherSign(str(place), clock, print).give()
    content = place.read_text()
    monkeypatch.setattr("pathlib.Path.write_bytes", lambda path, data: (_ for _ in ()).throw(PermissionError(13, "read-only", str(path))))
    assert looks(SignWatch(str(place), Patience(), clock), clock, 50) is None
    assert place.read_text() == content


def test_no_sign_at_all_is_no_launcher_that_is_gone(place: Path, clock: Clock) -> None:
    assert looks(SignWatch(str(place), Patience(), clock), clock, 100) is None
    assert not place.exists()


def test_a_sign_that_cannot_be_written_is_said_once(place: Path, clock: Clock) -> None:
    place.parent.touch()
    said: list[str] = []
    sign = LauncherSign(str(place), clock, said.append)
    for _ in range(5):
        sign.give()
        clock.sleep(MINUTES)
    (line,) = said
    assert line.startswith("cannot give the job a sign of life (")
    assert line.endswith("); the job goes on")


def test_a_sign_that_has_ended_is_not_given_again_and_one_that_is_removed_is_gone(place: Path, clock: Clock) -> None:
    sign = LauncherSign(str(place), clock, print)
    sign.give()
    before = place.read_text()
    sign.end()
    clock.sleep(5 * MINUTES)
    sign.give()
    assert place.read_text() == before
    sign.remove()
    assert not place.exists()


# A process that starts


def test_a_process_of_an_abandoned_job_waits_for_2_minutes_and_refuses(place: Path, clock: Clock) -> None:
    place.parent.mkdir()
    place.write_text(ABANDONED)
    with pytest.raises(LauncherGone, match=r"launcher: the launcher of this job is gone .* within 120 seconds; run the pipeline again"):
        wait_for_launcher(str(place), Patience(), clock, clock.sleep)
    assert clock.now == 1000 + 120


def test_a_launcher_that_takes_an_abandoned_job_over_lets_it_start(place: Path, clock: Clock) -> None:
    place.parent.mkdir()
    place.write_text(ABANDONED)
    clock.due[1060] = LauncherSign(str(place), clock, print).give
    wait_for_launcher(str(place), Patience(), clock, clock.sleep)
    assert clock.now == 1060


@pytest.mark.parametrize("content", [None, "0123abcd 7\n"])
def test_a_process_of_any_other_job_starts_at_once(place: Path, clock: Clock, content: str | None) -> None:
    if content:
        place.parent.mkdir()
        place.write_text(content)
    wait_for_launcher(str(place), Patience(), clock, clock.sleep)
    assert clock.now == 1000


def test_without_the_variable_nobody_looks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.parent.mkdir()
    place.write_text(ABANDONED)
    monkeypatch.delenv(LAUNCHER_SIGN, raising=False)
    monkeypatch.setenv("RANK", "0")
    with entry.process_of_a_job(Patience(grace=0)):
        pass


def test_the_refusal_is_no_mistake_that_another_launcher_would_give_up_for(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.parent.mkdir()
    place.write_text(ABANDONED)
    log = tmp_path / "termination-log"
    log.touch()
    monkeypatch.setattr(entry, "TERMINATION_LOG", log)
    monkeypatch.delenv(REASON_FILE, raising=False)
    monkeypatch.setenv(LAUNCHER_SIGN, str(place))
    with pytest.raises(SystemExit) as ended, entry.process_of_a_job(Patience(grace=0)):
        pytest.fail("starts")
    assert ended.value.code == LauncherGone.exit_code != 2
    assert "the launcher of this job is gone" in log.read_text()
    end = Ended(1, "Error", log.read_text(), "", "")
    assert own_sentence(end, MISTAKE) is None
    assert exit_code(end) != 2
