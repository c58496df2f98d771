"""How often, and for how long, a store that fails for the moment is asked again, and how many times that was.

Two layers repeat. A single request of S3 is sent up to `REQUEST_ATTEMPTS` times, with pauses of about a second (`storage_client`), so that
one part of a large object does not cost the others. An operation that fails all the same, or whose answer breaks off, is done again as a
whole, on any store, until it was tried `ATTEMPTS` times or `SECONDS` have passed since it began: a store of one pod that moves to another
node is back within a minute or two.

Every operation has an end: none begins again after these seconds, and each may take `time_limit` of its size.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path

from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

BUDGET = "DINO4CELLS_STORE_SECONDS"
"""Environment variable: seconds in place of `SECONDS`, from the first request on; 0: nothing is asked twice but single requests."""

SECONDS = 120.0
ATTEMPTS = 10
REQUEST_ATTEMPTS = 4
# A store that has never answered this process is more often a wrong address than an outage.
CONTACT_SECONDS = 8.0

# Pauses double from the first to the longest, and are a half to the whole of that, at random, so that processes do not come back together.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
# A store that asks for more by Retry-After is given that, up to this.
LONGEST_ASKED = 60.0

# What an object may take, beside the timeouts of its socket: those never end a body that trickles.
OBJECT_SECONDS = 60.0
SLOWEST = 32 * 1024  # bytes a second, of one connection of the 64 that share a slow line
UNKNOWN_SECONDS = 600.0  # where its size is not known beforehand, and for listings

_TOLD_AFTER = 5.0
_TRANSIENT_CODES = frozenset(
    {
        *("InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "PriorRequestNotComplete", "OperationAborted"),
        *("Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "TooManyRequestsException"),
    }
)

logger = logging.getLogger(__name__)
_allowed: ContextVar[float | None] = ContextVar("store_seconds", default=None)
_answered: set[str] = set()


class WrongLength(OSError):
    """A store sent more or fewer bytes than it announced, or than were asked for."""


# Which faults pass


def kind_of(error: BaseException) -> str | None:
    """What to call a fault that may pass by itself (`503`, `connection`, `cut`, `timeout`); None: asking again is in vain."""
    import aiohttp  # the client of every store over HTTP; takes a while to import

    for cause in (error, error.__cause__):
        if isinstance(cause, aws.ClientError):
            code = cause.response.get("Error", {}).get("Code", "")
            if code == "NoSuchUpload":
                # The answer that an upload is complete was lost, and the same was asked again; all of it is uploaded once more.
                return "cut"
            return kind_of_answer(cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0), code)
        if isinstance(cause, (aws.SSLError, aiohttp.ClientSSLError)):
            return None
        if isinstance(cause, aiohttp.ClientResponseError):
            return kind_of_answer(cause.status, "")
    code = getattr(error, "code", None)
    if isinstance(code, int) and code >= 400:  # of gcsfs
        return kind_of_answer(code, "")
    for cause in (error, error.__cause__):
        if isinstance(cause, (WrongLength, aws.IncompleteReadError, aws.ResponseStreamingError, aiohttp.ClientPayloadError)):
            return "cut"
        if isinstance(cause, (aws.ReadTimeoutError, aws.ConnectTimeoutError, TimeoutError, asyncio.TimeoutError)):
            return "timeout"
        if isinstance(cause, (aws.ConnectionError, aws.HTTPClientError, aiohttp.ClientConnectionError, ConnectionError)):
            return "connection"
        if isinstance(cause, ResponseParserError):
            return "no answer of a store"
    return None


def kind_of_answer(status: int, code: str) -> str | None:
    """The same of an answer over HTTP, by its status and the code of S3 in it."""
    if status == 429 or (status >= 500 and status != 501):
        return str(status)
    return code if code in _TRANSIENT_CODES else None


def asked_pause(headers: Mapping[str, str]) -> float:
    """Seconds for which an answer asks by Retry-After, which may also hold a date; 0 where it does not."""
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return min(float(value), LONGEST_ASKED) if value.isdecimal() else 0.0


def pause(attempt: int, asked: float = 0.0) -> float:
    """Seconds to wait after an attempt (1, 2, …) that failed: exponential, with jitter, and not less than the store asks for."""
    jitter = 0.5 + random.random() / 2
    return asked + jitter * float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)))


def time_limit(size: int | None) -> float:
    """Seconds that the content of an object may take, by its size in bytes."""
    return UNKNOWN_SECONDS if size is None else OBJECT_SECONDS + size / SLOWEST


# The budget of an operation


@contextlib.contextmanager
def expected_store() -> Iterator[None]:
    """Inside, for this process and those that it starts, a store that has not answered yet is one that is away, and no wrong address."""
    given = os.environ.get(BUDGET)
    os.environ[BUDGET] = given or f"{SECONDS:g}"
    try:
        yield
    finally:
        if given is None:
            os.environ.pop(BUDGET, None)


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Inside, no operation of this thread is begun again after these seconds: for what is asked again by itself a little later."""
    token = _allowed.set(seconds)
    try:
        yield
    finally:
        _allowed.reset(token)


class Patience:
    """How long one operation is done again.

    Args:
        store: what answers, or does not: scheme and address.
    """

    def __init__(self, store: str) -> None:
        self._store, self._began, self._told = store, time.monotonic(), False
        self.attempts = 0
        self.has_renewed = False

    @property
    def seconds(self) -> float:
        """Since the operation began."""
        return time.monotonic() - self._began

    def answered(self) -> None:
        """The store has answered, well or not."""
        _answered.add(self._store)

    def renew(self, credentials: Callable[[], None]) -> float:
        """Have credentials read anew, which is done once, and ask again at once."""
        self.has_renewed = True
        credentials()
        count_repeat("credentials read again")
        return 0.0

    def next_pause(self, kind: str, asked: float = 0.0, requests: int = 1) -> float | None:
        """Seconds to wait before the next attempt, which is counted; None: there is none.

        Args:
            kind: of the fault that the last one ended with.
            asked: seconds for which the store asks.
            requests: that will be repeated.
        """
        self.attempts += 1
        if kind not in ("connection", "timeout"):
            self.answered()
        wait = pause(self.attempts, asked)
        if self.attempts >= ATTEMPTS or self.seconds + wait > self._budget():
            return None
        count_repeat(kind, requests)
        if self.seconds > _TOLD_AFTER and not self._told:
            self._told = True
            logger.warning(
                "%s: fails (%s) for %.0f seconds now; is asked again, for up to %.0f.", self._store, kind, self.seconds, self._budget()
            )
        return wait

    def _budget(self) -> float:
        allowed, given = _allowed.get(), os.environ.get(BUDGET, "")
        seconds = float(given) if given.replace(".", "", 1).isdecimal() else SECONDS if self._store in _answered else CONTACT_SECONDS
        return seconds if allowed is None else min(seconds, allowed)


# Counting

_FILE = "DINO4CELLS_STORE_REPEATS"
"""Environment variable: a file to which this process and those that it starts add a line for each request that they repeat."""

_lock = threading.Lock()
_counting = False
_own: Path | None = None


def count_repeat(kind: str, times: int = 1) -> None:
    """Count requests or operations that are repeated."""
    if path := os.environ.get(_FILE):
        with contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as file:
            file.write(f"{kind}\n" * times)  # at once, so that lines of several processes do not mix


@contextlib.contextmanager
def counted_repeats() -> Iterator[Counter[str]]:
    """Say in the log, at the end of the block, how many requests were repeated in it, by this process and those that it started.

    Processes inherit where to count, so that of several such blocks within each other the outermost says it, once for all. Yields the
    counts, which are filled in at the end.
    """
    counts: Counter[str] = Counter()
    path = _begin()
    if path is None:
        yield counts
        return
    begin = path.stat().st_size
    try:
        yield counts
    finally:
        global _counting
        _counting = False
        # What cleans up /tmp may have taken it: then nothing is said.
        with contextlib.suppress(OSError), path.open(encoding="utf-8") as file:
            file.seek(begin)
            counts.update(file.read().split("\n")[:-1])
        if counts:
            logger.info("%s", _sentence(counts))


def _begin() -> Path | None:
    """Where this process and those that it starts count from now on; None: they do already."""
    global _counting, _own
    with _lock:
        if _counting or (_own is None and os.environ.get(_FILE)):
            return None
        if _own is None or not _own.exists():
            # One file as long as this process lives: those that read ahead outlive a block, and keep the name that they began with.
            try:
                directory = tempfile.mkdtemp(prefix="dino4cells-")
                Path(directory, "repeats").touch()
            except OSError:  # nowhere to write: nothing is counted
                return None
            atexit.register(_discard, directory, os.getpid())
            _own = Path(directory, "repeats")
            os.environ[_FILE] = str(_own)
        _counting = True
        return _own


def _discard(directory: str, owner: int) -> None:
    if os.getpid() == owner:  # and not a process that was forked from it
        shutil.rmtree(directory, ignore_errors=True)


def _sentence(counts: Counter[str]) -> str:
    total, kinds = sum(counts.values()), ", ".join(f"{kind}: {count}" for kind, count in counts.most_common())
    return f"{total} request{'s' if total > 1 else ''} to the store had to be repeated ({kinds})."
