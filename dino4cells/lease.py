"""One writer of an output at a time: a small object beside it says whose it is, and expires.

Object stores have no locks, and machines have clocks of their own. So a holder changes its object now and then, and whoever else wants the
output watches it by his own clock: what changes is alive, and he is refused; what has not changed for a while is the lease of a run that
was killed, and he takes it over. He need not wait where he can see that the holder is gone (a process of this machine that does not run any
more), or that he is its restart (a pod of the same job).

No rule of this kind is proof against a process that was asleep, or two that begin in the same instant. So a holder reads the object
before it renews it, and before each write that others would find: where it is not its own any more, another run has the output, and this
one stops.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from dino4cells import storage
from dino4cells.errors import Dino4CellsError, MissingFileError, StorageError
from dino4cells.lease_holder import Holder
from dino4cells.storage_errors import explained

_held_here: set[str] = set()
"""Owners of the leases that this process holds; one of its own that is not among them is left from a release that failed."""
logger = logging.getLogger(__name__)


class OutputInUse(Dino4CellsError):
    """Another run writes the same output."""


class LeaseLost(Dino4CellsError):
    """Another run has taken the output over."""


@dataclass(frozen=True)
class Patience:
    """Times in seconds.

    Attributes:
        first: after which a new holder looks whether another has begun in the same instant.
        every: between two signs of life.
        expires: a lease that has not changed for so long is that of a run that is gone.
        look: between two looks at the lease of another run.
    """

    first: float = 1.0
    every: float = 10.0
    expires: float = 60.0
    look: float = 1.0


@dataclass
class Lease:
    """A lease that is held; get one by `held`.

    Attributes:
        output: URL of what this process alone may write.
        url: of the object.
    """

    output: str
    url: str
    _holder: Holder
    _patience: Patience
    _ended: threading.Event = field(default_factory=threading.Event)
    _lost: LeaseLost | None = None

    def check(self) -> None:
        """Raise LeaseLost where the lease was lost when it was last renewed; asks nobody."""
        if self._lost is not None:
            raise self._lost

    def confirm(self) -> None:
        """Look whether the lease is still this process's, before something is written that others would find.

        Raises:
            LeaseLost: it is not.
            StorageError: that cannot be read.
        """
        self.check()
        found = _read(self.url)
        if found is None or Holder.read(found).owner != self._holder.owner:
            other = f" ({Holder.read(found)})" if found else ""
            self._lost = LeaseLost(
                f"{self.output}: another run{other} has taken this output over, so this one stops; "
                "let the other one end, or give each an output of its own."
            )
            raise self._lost

    def renew(self) -> None:
        """Give a sign of life; raises as `confirm`."""
        with _alone(self.url):
            self.confirm()
            self._holder = replace(self._holder, sign=self._holder.sign + 1)
            storage.write_text(self.url, self._holder.text())

    def keep(self) -> None:
        """Renew it again and again, until it is released or lost; a store that does not answer is asked again."""
        wait, told = self._patience.first, False
        while not self._ended.wait(wait):
            wait = self._patience.every
            try:
                self.renew()
            except LeaseLost:
                return
            except StorageError as error:
                if not told:
                    logger.warning("%s The lease of %s is not renewed meanwhile.", error, self.output)
                told = True

    def end(self) -> None:
        """Renew it no more."""
        self._ended.set()

    def release(self) -> None:
        """Let others have the output."""
        _held_here.discard(self._holder.owner)
        with contextlib.suppress(LeaseLost), _alone(self.url):
            self.confirm()
            storage.remove(self.url)


@contextlib.contextmanager
def held(output: str, patience: Patience | None = None) -> Iterator[Lease]:
    """Inside, no other run writes `output`; a run that is killed inside leaves a lease that expires.

    Args:
        output: URL of an artifact, or of a file.
        patience: the usual one when None.

    Raises:
        OutputInUse: another run writes it.
        LeaseLost: another run has taken it over, in the end.
        StorageError: the object cannot be read or written.
    """
    patience = patience or Patience()
    lease = _take(output, patience)
    thread = threading.Thread(target=lease.keep, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
        lease.check()
    finally:
        lease.end()
        thread.join(patience.every)  # else it might write what is about to be deleted
        try:
            lease.release()
        except StorageError as error:
            logger.warning("%s The lease of %s is left behind and expires.", error, output)


def lease_url(output: str) -> str:
    """Where the lease of an output is: beside it, under a name that does not begin with the output's, as consumers of an artifact may be
    given all objects whose names begin with its own.
    """
    output = output.rstrip("/")
    return storage.join(storage.parent(output), f".lease-of-{storage.name(output)}")


def _take(output: str, patience: Patience) -> Lease:
    """The lease, when it is there to be taken."""
    url, me = lease_url(output), Holder.here()
    first, since = None, 0.0
    while True:
        with _alone(url):
            found = _read(url)
            expired = found is not None and found == first and time.monotonic() - since >= patience.expires
            if found is None or expired or _is_gone(Holder.read(found), me):
                storage.write_text(url, me.text())
                _held_here.add(me.owner)
                return Lease(output, url, me, patience)
        holder = Holder.read(found)
        if holder.is_here(me) or (first is not None and found != first):
            raise OutputInUse(f"{output}: another run writes it ({holder}); wait until it has ended, or give this one another output.")
        if first is None:
            logger.warning(
                "%s: another run has begun to write it (%s); waiting for its next sign of life, or %.0f seconds without one.",
                output, holder, patience.expires,
            )  # fmt: skip
            first, since = found, time.monotonic()
        time.sleep(patience.look)


def _is_gone(holder: Holder, me: Holder) -> bool:
    """Whether a holder does not write any more, as far as can be seen at once."""
    if holder.is_here(me):
        return holder.owner not in _held_here if holder.process == me.process else not holder.is_running()
    return bool(me.job) and holder.job == me.job


def _read(url: str) -> str | None:
    try:
        return storage.read_bytes(url).decode(errors="replace")
    except MissingFileError:
        return None


@contextlib.contextmanager
def _alone(url: str) -> Iterator[None]:
    """Inside, no other process of this machine takes or renews a lease in the same directory; a store has nothing of the kind."""
    if not storage.is_local(url):
        yield
        return
    directory = storage.local_path(url).parent
    with explained(url):
        directory.mkdir(parents=True, exist_ok=True)
        place = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no such locks
            fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)
