"""The log of a pod, line by line as it grows, none lost and none twice.

A log is asked for again and again from the time of its last line instead of being held open as one long answer. Held-open answers are
what breaks in practice: proxies cut them in silence, the kubelet's end when a log file is rotated, and a reader that hears nothing cannot
tell this from a process that says nothing – which here would look like a stalled job. A question of some seconds cannot hang unnoticed.
The price: a line is seen a moment later, and if a container's log file is rotated (by default each 10 MiB) between two questions, what
was written to the old file within that moment is not seen.

The API counts time from whole seconds, so each answer begins with lines that were seen. They are known by their nanoseconds and their text,
and as many times as they were seen: two processes that write the same line in the same nanosecond write two lines.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter, deque
from collections.abc import Callable, Sequence

from dino4cells.cluster.api import ClusterUnreachable
from dino4cells.cluster.client import Cluster
from dino4cells.cluster.objects import Pod, pod_from

# A node writes its local time or UTC, with nanoseconds.
_STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d) ?(.*)", re.DOTALL)
_OVERLAP_SECONDS = 1
"""The two streams of a process are written to its log one after the other, and not always in the order of their times."""


class LogCursor:
    """Where in the log of one container a reader is."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._from: int | None = None  # seconds since 1970

    @property
    def since(self) -> str | None:
        """The time from which to ask on, or None: from the beginning."""
        if self._from is None:
            return None
        return datetime.datetime.fromtimestamp(self._from, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def take(self, lines: Sequence[str]) -> list[str]:
        """Those of the lines of an answer that were not taken before, without their times."""
        known, fresh = self._seen.copy(), []
        latest = self._from
        for line in lines:
            second, text = _parse(line)
            if second is not None:
                if self._from is not None and second < self._from:
                    continue
                latest = max(second - _OVERLAP_SECONDS, latest if latest is not None else second - _OVERLAP_SECONDS)
            if known[line] > 0:
                known[line] -= 1
                continue
            self._seen[line] += 1
            fresh.append(text)
        if latest != self._from:
            self._from = latest
            kept = {line: count for line, count in self._seen.items() if (second := _parse(line)[0]) is None or second >= (latest or 0)}
            self._seen = Counter(kept)
        return fresh


def without_time(line: str) -> str:
    """The text of a line of a log."""
    return _parse(line)[1]


def _parse(line: str) -> tuple[int | None, str]:
    """The second in which a line was written, and its text; what the cluster itself says into a log has no time."""
    match = _STAMPED.fullmatch(line)
    if match is None:
        return None, line
    moment, zone, text = match.groups()
    return int(datetime.datetime.fromisoformat(moment + zone.replace("Z", "+00:00")).timestamp()), text


class LogFollower:
    """The log of a pod that may be started again or made anew, handed on as it grows.

    Args:
        cluster: that runs the pod.
        show: gets each line, without its end.
        keep: so many of the last lines of a container are kept.
    """

    def __init__(self, cluster: Cluster, show: Callable[[str], None], keep: int) -> None:
        self._cluster, self._show, self._keep = cluster, show, keep
        self._container, self._cursor = "", LogCursor()
        self._last: dict[str, deque[str]] = {}
        self.problem = ""
        """Why the log could not be read the last time, or nothing."""
        self.count = 0
        """Lines shown so far."""

    @property
    def last_lines(self) -> tuple[str, ...]:
        """Of the container that is followed now."""
        return self.last_lines_of(self._container)

    def last_lines_of(self, container: str) -> tuple[str, ...]:
        """Of one of the containers that were followed; none of any other."""
        return tuple(self._last.get(container, ()))

    def follow(self, pod: Pod) -> bool:
        """Show what is new in the log of a pod, the rest of its previous container's log first.

        Returns:
            Whether the log could be read to its present end; where it could not, `problem` says why, and the next call goes on from there.

        Raises:
            ClusterError: the cluster refuses to show the log.
        """
        container = pod.training
        if container is None or not container.log_of:
            return True
        if container.log_of != self._container:
            before = container.log_before
            if before and before != container.log_of:
                self._turn_to(before)
                if not self._read(pod, previous=True):
                    return False
            self._turn_to(container.log_of)
        return self._read(pod, previous=False)

    def _turn_to(self, container: str) -> None:
        if container != self._container:
            self._container, self._cursor = container, LogCursor()
            self._last[container] = deque(maxlen=self._keep)

    def _read(self, pod: Pod, *, previous: bool) -> bool:
        try:
            part = self._cluster.log(pod.name, previous=previous, since=self._cursor.since)
            if part is None or (part.complete and not part.lines):
                self.problem = ""
                return True
            if not self._is_of(pod, previous):
                self.problem = "it was started again just now"  # what came may belong to another container, and is asked for again as its
                return False
        except ClusterUnreachable as error:
            self.problem = error.reason
            return False
        for line in self._cursor.take(part.lines):
            self._show(line)
            self._last[self._container].append(line)
            self.count += 1
        self.problem = "" if part.complete else "the answer was cut short"
        return part.complete

    def _is_of(self, pod: Pod, previous: bool) -> bool:
        """Whether the pod's log is still that of the container for which it was asked."""
        item = self._cluster.pod(pod.name)
        if item is None:
            return True
        now = pod_from(item)
        if now.uid != pod.uid or now.training is None:
            return False
        return self._container == (now.training.log_before if previous else now.training.log_of)
