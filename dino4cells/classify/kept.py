"""What a classification has computed already, kept beside its output until all of it is there.

Folds of 100,000 cells take a minute each; what took so little that keeping it is no gain is computed again.
"""

from __future__ import annotations

import hashlib
import io
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino4cells import storage

Arrays = Mapping[str, NDArray[Any]]
WORTH_KEEPING = 5.0
"""Seconds."""
STAMP = hashlib.sha256().digest_size
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """Named results, as NumPy files that hold no code.

    Attributes:
        url: directory; None: nothing is kept.
        identity: decides the results; those of another one are not taken.
        worth: seconds of work from which on a result is kept.
        name: of the results below, as far as it is known.
    """

    url: str | None = None
    identity: str = ""
    worth: float = WORTH_KEEPING
    name: str = ""

    def under(self, name: str) -> Kept:
        """The same place, for results whose names begin so."""
        return replace(self, name=f"{self.name}{name}-")

    def arrays(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """The result of that name: the kept one, or a new one."""
        if self.url is None:
            return compute()
        place = storage.join(self.url, f"{self.name}{name}.npz")
        found = self._read(place)
        if found is not None:
            return found
        begun = time.monotonic()
        result = compute()
        if time.monotonic() - begun >= self.worth:
            content = io.BytesIO()
            np.savez(content, allow_pickle=False, **dict(result))
            storage.write_bytes(place, self._stamp(content.getvalue()) + content.getvalue())
        return result

    def _read(self, place: str) -> Arrays | None:
        if not storage.exists(place):
            return None
        read = storage.read_bytes(place)
        stamp, content = read[:STAMP], read[STAMP:]
        if stamp != self._stamp(content):
            logger.info("%s: is damaged, or of another run; it is computed again.", place)
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def _stamp(self, content: bytes) -> bytes:
        """What comes before the content of a file: SHA-256 of the run's identity and of it."""
        return hashlib.sha256(self.identity.encode() + content).digest()

    def clear(self) -> None:
        """Delete everything that is kept."""
        if self.url is not None:
            storage.remove(self.url)
