"""What is in a table of cells and its images, and what is wrong with them, before any of it is trained on.

Every image is fetched and decoded once. Of each a few numbers are kept, so that memory grows by some forty bytes a cell.

Dimensions: N cells.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dino4cells.config import Config
from dino4cells.data.findings import EXAMPLES, Findings, LabelColumn, Problem, Span
from dino4cells.data.layout import CHANNEL_WIDTH
from dino4cells.data.metadata import Metadata
from dino4cells.data.processes import in_processes, processes_for
from dino4cells.data.source import image_source
from dino4cells.data.statistics import chunks
from dino4cells.data.stored import StoredImages, whole
from dino4cells.errors import Dino4CellsError, MissingFileError, StorageError

MOST_CLASSES = 50
"""A column with more different values is none of classes."""

DIGEST = np.dtype([("high", "u8"), ("low", "u8")])
NOT_LABELS = ("file", "ID", "Image_Name", CHANNEL_WIDTH)


@dataclass(frozen=True)
class Seen:
    """What is kept of an image.

    Attributes:
        row: of the table.
        shape: channels, height, width; None where it cannot be read.
        kind: type of file and number of bits.
        names: of the channels, where the file gives them.
        constant: channels without contrast.
        digest: of the pixels.
        error: why it cannot be read.
        missing: whether that is because there is no file.
    """

    row: int
    shape: tuple[int, int, int] | None = None
    kind: str = ""
    names: tuple[str, ...] | None = None
    constant: tuple[int, ...] = ()
    digest: bytes = b""
    error: str = ""
    missing: bool = False

    @property
    def is_blank(self) -> bool:
        return self.shape is not None and len(self.constant) == self.shape[0]


@dataclass(frozen=True)
class Look:
    """Looks at the images of some rows, which are fetched all at once."""

    stored: StoredImages

    def __call__(self, rows: Sequence[int]) -> list[Seen]:
        return [self._seen(row, contents) for row, contents in zip(rows, self.stored.contents(rows), strict=True)]

    def _seen(self, row: int, contents: Iterable[bytes | StorageError]) -> Seen:
        try:
            picture = self.stored.picture(row, whole(contents))
        except Dino4CellsError as error:
            return Seen(row, error=str(error), missing=isinstance(error, MissingFileError))
        pixels = picture.pixels.contiguous().numpy()
        constant = np.flatnonzero(pixels.min(axis=(1, 2)) == pixels.max(axis=(1, 2))).tolist()
        digest = blake2b(repr((pixels.shape, pixels.dtype)).encode(), digest_size=DIGEST.itemsize)
        digest.update(pixels.data)
        channels, height, width = pixels.shape
        return Seen(row, (channels, height, width), picture.kind, picture.channels, tuple(constant), digest.digest())


def validate(
    metadata: Metadata, config: Config, *, processes: int | None = None, progress: Callable[[int], None] = lambda count: None
) -> Findings:
    """Look at every image of a table.

    Args:
        metadata: the table of cells.
        config: names of the channels and labels; whether the images fit it is checked too.
        processes: that decode images; by the number of cores and images when None.
        progress: called with the number of images seen since the last call.

    Raises:
        ConfigError: each channel has its own file, and nobody names the channels.
    """
    begun = time.monotonic()
    names = metadata.channels or config.model.channels
    stored = StoredImages.of(metadata, names)
    if not metadata.has_file_per_channel:
        stored = stored.unnamed()
    tally = Tally(metadata)
    for seen in in_processes(Look(stored), chunks(range(len(metadata))), processes or processes_for(len(metadata))):
        for one in seen:
            tally.add(one)
        progress(len(seen))
    return tally.findings(config, time.monotonic() - begun)


class Tally:
    """Counts what was seen of each image, and puts it together at the end."""

    def __init__(self, metadata: Metadata) -> None:
        self.metadata = metadata
        self.urls = metadata.urls
        count = len(metadata)
        self.shape_N3: NDArray[np.int32] = np.zeros((count, 3), np.int32)
        self.digest_N: NDArray[np.void] = np.zeros(count, DIGEST)
        self.kinds: Counter[str] = Counter()
        self.names: Counter[tuple[str, ...]] = Counter()
        self.constant: Counter[int] = Counter()
        self.noted: dict[str, Problem] = {}

    def add(self, seen: Seen) -> None:
        """Count one image."""
        if seen.shape is None:
            kind = "missing" if seen.missing else "unreadable"
            meaning = "there is no such file" if seen.missing else "the image cannot be read"
            self._note(kind, meaning, seen.row, seen.error)
            return
        self.shape_N3[seen.row] = seen.shape
        self.kinds[seen.kind] += 1
        if seen.names:
            self.names[seen.names] += 1
        if seen.is_blank:
            self._note("blank", "every channel has one value everywhere", seen.row)
            return
        self.constant.update(seen.constant)
        self.digest_N[seen.row] = np.frombuffer(seen.digest, DIGEST)[0]

    def findings(self, config: Config, seconds: float) -> Findings:
        """What was seen in all."""
        readable = self.shape_N3[:, 0] > 0
        shapes = self.shape_N3[readable]
        numbers = Counter(shapes[:, 0].tolist())
        usual = numbers.most_common(1)[0][0] if numbers else 0
        names = self._names(config, usual)
        self._check_channels(names, usual)
        self._check_duplicates()
        if readable.any() and "channels" not in self.noted:
            self._check_configuration(config)
        labels, binary = label_columns(self.metadata, config)
        called = names if names and len(names) >= usual else tuple(f"channel_{position}" for position in range(usual))
        return Findings(
            data=self.metadata.source,
            rows=len(self.metadata),
            readable=int(readable.sum()),
            channel_names=list(names) if names else None,
            channels=dict(sorted(numbers.items())),
            heights=_span(shapes[:, 1]),
            widths=_span(shapes[:, 2]),
            distinct_sizes=len(np.unique(shapes[:, 1:], axis=0)),
            kinds=dict(self.kinds.most_common()),
            constant_channels={called[position]: count for position, count in sorted(self.constant.items()) if position < len(called)},
            labels=labels,
            binary_labels=binary,
            problems=list(self.noted.values()),
            seconds=round(seconds, 3),
            images_per_second=round(len(self.metadata) / max(seconds, 1e-9), 1),
        )

    def _names(self, config: Config, usual: int) -> tuple[str, ...] | None:
        """What the channels are called, by whoever says it first: channels.txt, the files, the configuration."""
        if self.metadata.channels is not None:
            masked = self.metadata.layout.has_strips and len(self.metadata.channels) == usual + 1
            return self.metadata.channels[:-1] if masked and self.metadata.channels[-1].lower() == "mask" else self.metadata.channels
        if self.names:
            return self.names.most_common(1)[0][0]
        return tuple(config.model.channels) if config.model.channels else None

    def _check_channels(self, names: tuple[str, ...] | None, usual: int) -> None:
        expected = len(names) if names and self.metadata.channels is not None else usual
        said = f"{expected} channels are expected" + (f" ({', '.join(names)})" if names and len(names) == expected else "")
        found_N = self.shape_N3[:, 0]
        for row in np.flatnonzero((found_N > 0) & (found_N != expected)).tolist():
            self._note("channels", said, row, f"{self.urls[row]}: has {found_N[row]} channels")
        if len(self.names) > 1:
            usual_names = self.names.most_common(1)[0][0]
            others = [f"{', '.join(other)} ({count} files)" for other, count in self.names.items() if other != usual_names]
            count = sum(self.names.values()) - self.names[usual_names]
            meaning = f"most files call their channels {', '.join(usual_names)}, and others otherwise"
            self.noted["channel names"] = Problem(kind="channel names", count=count, meaning=meaning, examples=others[:EXAMPLES])

    def _check_duplicates(self) -> None:
        first_of: dict[str, int] = {}
        again_N = np.zeros(len(self.urls), np.bool_)
        for row, url in enumerate(self.urls):
            first = first_of.setdefault(url, row)
            if first != row:
                again_N[row] = True
                self._note("same file", "several cells have the same file", row, f"{url}: is the file of cell {first + 1} too")
        rows = np.flatnonzero((self.digest_N != np.zeros(1, DIGEST)[0]) & ~again_N)
        _, first_places, inverse = np.unique(self.digest_N[rows], return_index=True, return_inverse=True)
        for place in np.flatnonzero(first_places[inverse] != np.arange(len(rows))):
            row, first = int(rows[place]), int(rows[first_places[inverse[place]]])
            said = f"{self.urls[row]}: has the pixels of cell {first + 1} ({self.urls[first]})"
            self._note("same content", "several files hold the same pixels", row, said)

    def _check_configuration(self, config: Config) -> None:
        """Whether training would take these images."""
        try:
            image_source(self.metadata, config.model)
        except Dino4CellsError as error:
            if ("missing" not in self.noted and "unreadable" not in self.noted) or "none of the first" not in str(error):
                meaning = "the images do not fit the configuration"
                self.noted["configuration"] = Problem(
                    kind="configuration", count=len(self.metadata), meaning=meaning, examples=[str(error)]
                )

    def _note(self, kind: str, meaning: str, row: int, said: str | None = None) -> None:
        problem = self.noted.setdefault(kind, Problem(kind=kind, count=0, meaning=meaning, examples=[]))
        problem.count += 1
        if len(problem.examples) < EXAMPLES:
            problem.examples.append(f"cell {row + 1}: {said or self.urls[row]}")


def label_columns(metadata: Metadata, config: Config) -> tuple[list[LabelColumn], dict[str, int]]:
    """Columns of classes with the cells of each, and how many ones the columns of 0 and 1 have."""
    frame = metadata.frame
    named = {"protein_location", "cell_type", "Target", config.classification.label}
    labels: list[LabelColumn] = []
    binary: dict[str, int] = {}
    for name in frame.columns:
        if name in NOT_LABELS or name in metadata.layout.columns:
            continue
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column) and column.notna().all() and column.isin((0, 1)).all():
            binary[name] = int(column.sum())
        elif name in named or column.nunique() <= min(MOST_CLASSES, len(frame) - 1):
            counts = column.value_counts()
            classes = {str(value): int(count) for value, count in counts.items()}
            labels.append(LabelColumn(name=name, classes=classes, empty=int(column.isna().sum())))
    return labels, binary


def _span(values: NDArray[np.int32]) -> Span | None:
    if not len(values):
        return None
    return Span(least=int(values.min()), median=float(np.median(values)), most=int(values.max()))
