"""How the processes of a job that was started again find each other, and not those of the start before.

torchrun keeps one store over its restarts, and PyTorch's processes leave their addresses there under the same names at each start: one that
is early reads the address of a process that is gone ("Connection refused", and another restart lost). So the first process gives each start
a name of its own, and everything else is stored under that.
"""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import Protocol

POLL_SECONDS = 0.02


class Store(Protocol):
    """What is used of `torch.distributed.Store`."""

    def set(self, key: str, value: str, /) -> None: ...
    def check(self, keys: list[str], /) -> bool: ...
    def get(self, key: str, /) -> bytes: ...
    def wait(self, keys: list[str], timeout: timedelta, /) -> None: ...


def meet(store: Store, rank: int, world_size: int, timeout: timedelta) -> str:
    """The name of this start, which all its processes get, and none of another one.

    A process says who it is by a name that is never given again, and waits for an answer to that name; so the first one answers those that
    are gone in vain, and is done when every rank has answered back.

    Raises:
        TimeoutError: a process has not come, which the message names.
    """
    start, me = uuid.uuid4().hex, uuid.uuid4().hex
    if rank:
        store.set(f"came/{rank}", me)
        try:
            store.wait([f"start/{me}"], timeout)
        except RuntimeError as error:
            raise TimeoutError(f"rank 0 has not joined the job for {timeout.total_seconds():.0f} seconds") from error
        start = store.get(f"start/{me}").decode()
        store.set(f"{start}/{rank}", me)
        return start
    awaited, answered = set(range(1, world_size)), set[str]()
    until = time.monotonic() + timeout.total_seconds()
    while awaited:
        for other in sorted(awaited):
            if store.check([f"{start}/{other}"]):
                awaited.discard(other)
            elif store.check([f"came/{other}"]):
                name = store.get(f"came/{other}").decode()
                if name not in answered:
                    answered.add(name)
                    store.set(f"start/{name}", start)
        if awaited and time.monotonic() > until:
            ranks = ", ".join(map(str, sorted(awaited)))
            raise TimeoutError(f"rank {ranks} of {world_size} has not joined the job for {timeout.total_seconds():.0f} seconds")
        if awaited:
            time.sleep(POLL_SECONDS)
    return start
