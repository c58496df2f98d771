"""A directory of this machine that keeps what was read from a store, up to a size, shared by all processes and runs that name it.

Objects are taken to stay as they are: another one under the same URL is noticed only when the directory has been deleted. An entry appears
under its name when it is whole (a rename), and carries its size and CRC-32: one that a crash or a disk has damaged is read from its store
again.

**What stays.** At the limit, entries that have not been used since this run began make room. Where all have been, they stay, and what does
not fit is read from its store each time: under "the least recently used goes", an epoch larger than the limit would push out every
entry before its turn comes again. The time of modification says when an entry was used, as far as a run needs to know.

Why not diskcache: it keeps a database that every reader opens and a policy that knows no epochs, and had its last release in 2023.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import struct
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

HEAD = struct.Struct("<8sQI")
"""What an entry begins with: a mark, and of the content that follows the length and the CRC-32."""
MARK = b"d4cells1"
LEDGER, LEDGER_FILE = struct.Struct("<qd"), "ledger"
PARTIAL = ".partial"

ROOM = 0.1
"""Part of the limit that is freed at once, since all entries are looked through for it, seconds for a million."""
ABANDONED_SECONDS = 3600
"""What grows for longer was left by a process that was killed."""
CLOCK_SECONDS = 1
"""How far the times of files may be behind the clock of a process."""

logger = logging.getLogger(__name__)


@dataclass
class Ledger:
    """What the processes know together.

    Attributes:
        size: bytes of all entries.
        exhausted: when no unused entry was left, in seconds since 1970; runs that had begun by then look no further.
    """

    size: int
    exhausted: float = 0.0


@dataclass
class Cache:
    """Contents by key. What cannot be read is not there; where nothing can be written, a warning says so once and nothing is kept.

    Attributes:
        directory: path on this machine; need not be there.
        limit: bytes of all entries together.
        began: when this run began, in seconds since 1970; goes to the processes that read for it by pickle.

    Example:
        >>> cache = Cache(Path("/tmp/images"), limit=20 * 10**9)
        >>> cache.put("s3://plates/a.png", b"...")
        >>> cache.get("s3://plates/a.png")
        b'...'
    """

    directory: Path
    limit: int
    began: float = field(default_factory=lambda: time.time() - CLOCK_SECONDS)
    _closed: bool = field(default=False, init=False, repr=False)

    def get(self, key: str) -> bytes | None:
        """The content that was put under a key; None where there is none that is whole."""
        path = self._path(key)
        try:
            with open(path, "rb", buffering=0) as file:
                head, content = file.read(HEAD.size), file.readall()
                used = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        if head != _head(content):
            self._attempt(lambda: self._drop(path))
            return None
        if used < self.began:
            with contextlib.suppress(OSError):  # a directory that may only be read serves as well
                os.utime(path)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keep a content if there is room."""
        self._attempt(lambda: self._write(self._path(key), content))

    def _path(self, key: str) -> Path:
        digest = hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=16).hexdigest()
        return self.directory / digest[:2] / digest[2:]

    def _attempt(self, change: Callable[[], None]) -> None:
        if self._closed:
            return
        try:
            change()
        except OSError as error:
            self._closed = True
            reason = error.strerror or str(error)
            logger.warning(
                "%s: cannot be written (%s); images that are not in this cache are read from their store.", self.directory, reason
            )

    def _write(self, path: Path, content: bytes) -> None:
        head = _head(content)
        size = len(head) + len(content)
        if path.exists() or not self._has_room(size):
            return
        part = path.with_name(f".{uuid.uuid4().hex[:12]}{PARTIAL}")
        try:
            path.parent.mkdir(exist_ok=True)
            with open(part, "wb") as file:
                file.write(head)
                file.write(content)
            with self._ledger() as ledger:
                if not path.exists() and ledger.size + size <= self.limit:  # other processes have put entries meanwhile
                    os.replace(part, path)
                    ledger.size += size
        except OSError:
            with self._ledger() as ledger:  # full for the other processes too, which need not say the same
                ledger.size, ledger.exhausted = max(ledger.size, self.limit), time.time()
            raise
        finally:
            part.unlink(missing_ok=True)

    def _has_room(self, size: int) -> bool:
        """Whether an entry of this size may be added, after unused ones have been deleted if need be."""
        with self._ledger() as ledger:
            if self.limit - ledger.size < size <= self.limit and self.began > ledger.exhausted:
                self._make_room(ledger, min(int(self.limit * (1 - ROOM)), self.limit - size))
            return ledger.size + size <= self.limit

    def _drop(self, path: Path) -> None:
        with self._ledger() as ledger, contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            ledger.size -= size

    @contextlib.contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        """The ledger, for this process alone while the block runs; what is changed is written."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with open(os.open(self.directory / LEDGER_FILE, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            written = file.read()
            ledger = Ledger(*LEDGER.unpack(written)) if len(written) == LEDGER.size else Ledger(self._counted())
            yield ledger
            file.seek(0)
            file.write(LEDGER.pack(ledger.size, ledger.exhausted))

    def _make_room(self, ledger: Ledger, goal: int) -> None:
        """Delete entries that are not in use until `goal` bytes are left."""
        ledger.size = self._counted()
        for file, status in self._entries():
            if ledger.size <= goal:
                return
            if status.st_mtime < self.began:
                os.unlink(file)
                ledger.size -= status.st_size
        ledger.exhausted = time.time()

    def _counted(self) -> int:
        """Bytes of all entries."""
        return sum(status.st_size for _, status in self._entries())

    def _entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """Paths of all entries; deletes what killed processes have left."""
        for folder, _, names in os.walk(self.directory):
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(FileNotFoundError):  # what was growing has its name now, or was given up
                    status = os.stat(path)
                    if not name.endswith(PARTIAL):
                        if name != LEDGER_FILE:
                            yield path, status
                    elif status.st_mtime < self.began - ABANDONED_SECONDS:
                        os.unlink(path)


def _head(content: bytes) -> bytes:
    return HEAD.pack(MARK, len(content), zlib.crc32(content))
