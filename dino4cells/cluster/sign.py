"""A sign of life of a job's launcher, by which the job notices that nobody watches it any more, and ends.

The pod of a pipeline's step goes on existing when its run is terminated, and its processes may be killed before they can delete the job;
no owner takes it along then. So the launcher changes a small object beside the checkpoints once a minute, and the first process of the
job looks at it. Nothing but change counts, by the clock of who looks: the clocks of two machines may differ.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from dino4cells import storage
from dino4cells.errors import Dino4CellsError, StorageError
from dino4cells.storage_retry import at_most

SIGN = "launcher"
"""Name of the object beside the checkpoints, whose own names are others."""

ABANDONED = "abandoned"
"""What the job writes in place of the sign when it gives its launcher up, for the processes that are started after it."""


@dataclass(frozen=True)
class Patience:
    """How long, in seconds, a process waits for a sign.

    Attributes:
        every: between two looks.
        gone: a sign that has not changed for so long is that of a launcher that is gone.
        grace: that a process which is started later gives another launcher to take the job over.
        grace_every: between two looks within that time.
    """

    every: float = 60.0
    gone: float = 15 * 60.0
    grace: float = 2 * 60.0
    grace_every: float = 5.0


class LauncherGone(Dino4CellsError):
    """No launcher watches this job; no mistake of its user, so that another launcher may well start it again."""

    exit_code = os.EX_TEMPFAIL


class LauncherSign:
    """The sign as its launcher gives it.

    Args:
        url: of the object, or nothing: there is no sign.
        clock: monotonic.
        say: told, once, that it cannot be written; the job goes on, and takes a sign that was never there for no sign.
        every: seconds between two changes.
    """

    def __init__(self, url: str, clock: Callable[[], float], say: Callable[[str], None], every: float = 60.0) -> None:
        self._url, self._clock, self._say, self._every = url, clock, say, every
        self._launcher, self._count, self._given = uuid.uuid4().hex[:8], 0, float("-inf")
        self._told = self._ended = False

    def give(self) -> None:
        """Change the sign where it is time to."""
        if not self._url or self._ended or self._clock() - self._given < self._every:
            return
        self._given, self._count = self._clock(), self._count + 1
        try:
            with at_most(0):  # the job is to be watched; the next sign comes in a minute
                storage.write_text(self._url, f"{self._launcher} {self._count}\n")
        except StorageError as error:
            if not self._told:
                self._told = True
                self._say(f"cannot give the job a sign of life ({str(error).rstrip('.')}); the job goes on")

    def end(self) -> None:
        """Never change it again: a job that this launcher cannot delete finds out by itself."""
        self._ended = True

    def remove(self) -> None:
        """Take it away, when there is no job any more that looks for it."""
        self.end()
        if self._url:
            try:
                with at_most(0):
                    storage.remove(self._url)
            except StorageError as error:
                if not self._told:
                    self._say(f"the sign of life is left behind ({str(error).rstrip('.')})")


class SignWatch:
    """The sign as the job sees it.

    Only time between two successful looks counts, and a job that cannot write to the store does not give its launcher up: while the store
    is away the launcher cannot give a sign either.

    Args:
        url: of the object.
        patience: of this process.
        clock: monotonic.
    """

    def __init__(self, url: str, patience: Patience, clock: Callable[[], float] = time.monotonic) -> None:
        self._url, self._patience, self._clock = url, patience, clock
        self._content, self._unchanged = "", 0.0
        self._looked: float | None = None

    def launcher_is_gone(self) -> bool:
        """Look, and say whether the launcher is gone for so long that the job is abandoned; `ABANDONED` stands in the sign's place then."""
        content = read_sign(self._url)
        if content is None:
            self._looked = None
            return False
        before, self._looked = self._looked, self._clock()
        if content != self._content:
            self._content, self._unchanged = content, 0.0
        elif before is not None:
            self._unchanged += self._looked - before
        return self._unchanged >= self._patience.gone and self._abandon()

    def _abandon(self) -> bool:
        try:
            storage.write_text(self._url, ABANDONED)
        except StorageError:
            return False
        return True


def read_sign(url: str) -> str | None:
    """What the sign says just now, or None where there is none to read."""
    try:
        with at_most(0):  # it is looked for again
            return storage.read_text(url)
    except StorageError:
        return None


def wait_for_launcher(
    url: str, patience: Patience, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Return where the job is not abandoned, or is taken over within the grace.

    Raises:
        LauncherGone: nobody takes it over.
    """
    since = clock()
    while read_sign(url) == ABANDONED:
        if clock() - since >= patience.grace:
            raise LauncherGone(
                f"{url}: the launcher of this job is gone and none has taken the job over within {patience.grace:.0f} seconds; "
                "run the pipeline again to go on from the last checkpoint."
            )
        sleep(patience.grace_every)


def end_without_launcher(url: str, patience: Patience) -> None:
    """End this process when its launcher is gone: it is asked to, so that it writes a checkpoint, and much later made to."""
    watch = SignWatch(url, patience)
    while not watch.launcher_is_gone():
        time.sleep(patience.every)
    print(f"the launcher of this job has given no sign of life for {patience.gone:.0f} seconds; stopping", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience.gone)
    os.kill(os.getpid(), signal.SIGKILL)
