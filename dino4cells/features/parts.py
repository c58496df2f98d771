"""An extraction in parts of a bounded number of rows: what is finished stays, and a restarted extraction goes on with the rest.

Until all parts are there they are in `unfinished/` of the output: the plan, and of each finished part its files and then a record of them.
A part's batches begin with its first row, so that its numbers are the same whenever it is computed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError
from torch.utils.data import Sampler

from dino4cells import storage
from dino4cells.data.sampler import EpochAndIndex
from dino4cells.errors import ArtifactError
from dino4cells.features import store
from dino4cells.manifest import FileEntry, entry_of, sha256_of

UNFINISHED = "unfinished"
PLAN = "plan.json"
logger = logging.getLogger(__name__)


class Rows(BaseModel, frozen=True):
    """Rows `start` … `stop` − 1 of the table, which are the part `number`."""

    number: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def batches(self, size: int) -> int:
        """How many batches they make."""
        return -(-len(self) // size)


@dataclass(frozen=True)
class Batches(Sampler[list[EpochAndIndex]]):
    """The rows of some parts in order, in batches that hold rows of one part each."""

    parts: Sequence[Rows]
    batch_size: int

    def __len__(self) -> int:
        return sum(part.batches(self.batch_size) for part in self.parts)

    def __iter__(self) -> Iterator[list[EpochAndIndex]]:
        for part in self.parts:
            for first in range(part.start, part.stop, self.batch_size):
                yield [(0, index) for index in range(first, min(first + self.batch_size, part.stop))]


class Plan(BaseModel, frozen=True):
    """Which rows each part has, for as long as an extraction takes, whoever goes on with it.

    Attributes:
        identity: what decides the features; parts of another one are not taken.
        bounds: the first row of every part, and the number of rows.
    """

    identity: dict[str, str]
    bounds: tuple[int, ...]

    @classmethod
    def of(cls, identity: Mapping[str, str], rows: int, processes: int, rows_per_part: int) -> Plan:
        """Parts of one size, as many for each process."""
        each = max(1, -(-rows // (processes * rows_per_part)))
        return cls(identity=dict(identity), bounds=tuple(np.linspace(0, rows, processes * each + 1).round().astype(int).tolist()))

    @property
    def parts(self) -> list[Rows]:
        return [Rows(number=place, start=self.bounds[place], stop=self.bounds[place + 1]) for place in range(len(self.bounds) - 1)]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the whole plan."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class FinishedPart(BaseModel, frozen=True):
    """The record of a part: written when its files are in their place.

    Attributes:
        plan: fingerprint of the plan that it is a part of.
        files: of the part.
        failed: rows without features.
        seconds: that a process took for it.
    """

    plan: str
    rows: Rows
    files: tuple[FileEntry, ...]
    failed: int
    seconds: float


class Unfinished:
    """The finished parts of an extraction that is not complete.

    Args:
        output: URL of the features artifact that they will be.
    """

    def __init__(self, output: str) -> None:
        self.output = output
        self.url = storage.join(output, UNFINISHED)

    def is_there(self) -> bool:
        """Whether an extraction has left anything here."""
        return bool(storage.list_files(self.url))

    def plan(self, wanted: Plan, *, replace: bool) -> Plan:
        """The plan of the extraction that goes on here, or the wanted one, which is written; called by one process.

        Args:
            wanted: what is to be extracted.
            replace: delete the parts of another extraction.

        Raises:
            ArtifactError: the parts are of another extraction; says what differs.
        """
        found = self._found()
        if found is not None and found.identity == wanted.identity:
            return found
        if found is not None:
            differs = ", ".join(key for key in wanted.identity if found.identity.get(key) != wanted.identity[key])
            if not replace:
                raise ArtifactError(
                    f"{self.output}: holds finished parts of an extraction with another {differs}; choose another output, or pass "
                    "--overwrite to extract anew."
                )
            logger.warning("%s: the finished parts are of an extraction with another %s, and are deleted.", self.output, differs)
        self.clear()
        storage.write_text(storage.join(self.url, PLAN), wanted.model_dump_json())
        return wanted

    def _found(self) -> Plan | None:
        place = storage.join(self.url, PLAN)
        if not storage.exists(place):
            return None
        try:
            return Plan.model_validate_json(storage.read_bytes(place))
        except ValidationError:
            logger.warning("%s: cannot be read; all parts are extracted anew.", place)
            return None

    def finished(self, plan: Plan, parts: Sequence[Rows]) -> list[FinishedPart]:
        """Those of the parts whose files are here and are what was written."""
        there = storage.list_sizes(self.url)
        found = [self._verified(plan, part) for part in parts if _record(part) in there]
        return [part for part in found if part is not None]

    def _verified(self, plan: Plan, rows: Rows) -> FinishedPart | None:
        place = storage.join(self.url, _record(rows))
        try:
            part = FinishedPart.model_validate_json(storage.read_bytes(place))
        except ValidationError:
            logger.warning("%s: cannot be read; these rows are extracted anew.", place)
            return None
        if part.plan != plan.fingerprint or part.rows != rows:
            return None
        for entry in part.files:
            # Where an extraction stopped while parts were put to their place, some are there.
            if not any(self._holds(storage.join(directory, entry.name), entry) for directory in (self.url, self.output)):
                logger.warning("%s/%s: is not what was written; its rows are extracted anew.", self.url, entry.name)
                return None
        return part

    def _holds(self, url: str, entry: FileEntry) -> bool:
        return storage.exists(url) and sha256_of(url) == entry.sha256

    def staging(self) -> Path:
        """A new directory on this machine for the files of parts that are being written."""
        return storage.staging(self.url)

    def keep(self, plan: Plan, rows: Rows, files: Sequence[Path], failed: int, seconds: float) -> FinishedPart:
        """Put the files of a finished part here, and then its record."""
        entries = tuple(entry_of(path) for path in files)
        for path in files:
            storage.move(path, storage.join(self.url, path.name))
        part = FinishedPart(plan=plan.fingerprint, rows=rows, files=entries, failed=failed, seconds=seconds)
        storage.write_text(storage.join(self.url, _record(rows)), part.model_dump_json())
        return part

    def clear(self) -> None:
        """Delete what is here."""
        storage.remove(self.url)


def identity_of(parts: Mapping[str, object]) -> dict[str, str]:
    """Fingerprints of what decides the features, by the words that messages use."""
    return {word: hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest() for word, value in parts.items()}


def fingerprint_of(identity: Mapping[str, str]) -> str:
    """SHA-256 of what decides the features."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def shared(parts: Sequence[Rows], processes: int) -> list[list[Rows]]:
    """The parts that each process computes, in order, about as many for each."""
    bounds = np.linspace(0, len(parts), processes + 1).round().astype(int)
    return [list(parts[start:stop]) for start, stop in itertools.pairwise(bounds)]


def _record(rows: Rows) -> str:
    return f"{store.PART}{rows.number:05d}.json"
