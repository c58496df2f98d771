"""Checkpoints in the published format (HANDBOOK, Files), written for resuming and for the original's tools.

A checkpoint is one file: `student` (keys start with `module.`), `teacher`, `optimizer`, `epoch`, `args` (an `argparse.Namespace`),
`dino_loss` (its `center`), `fp16_scaler`, and `samples_seen`, which the original's readers ignore. All randomness of a step is a
function of the seed and the samples seen, so that there is no random state to store.
"""

from __future__ import annotations

import io
import logging
import re
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import torch

from dino4cells import storage
from dino4cells.errors import CheckpointError, StorageError
from dino4cells.torch_files import CHECKPOINT, read_torch_file

KEPT = 2
# A loss scaler of mixed precision as it begins: we need none, and the original cannot read a checkpoint without.
FRESH_SCALER = {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "_growth_tracker": 0}
Checkpoint = dict[str, Any]
logger = logging.getLogger(__name__)


def dump(checkpoint: Checkpoint) -> bytes:
    """The bytes of a checkpoint file."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def load(url: str) -> Checkpoint:
    """Read a checkpoint of ours or of the published code, on the CPU.

    Tensors, plain values and `argparse.Namespace` are read and nothing else, so that a file cannot run code.

    Raises:
        CheckpointError: damaged, or holding anything else.
        StorageError: not there, or not readable.
    """
    checkpoint = read_torch_file(url, CHECKPOINT)
    if not isinstance(checkpoint, dict) or "teacher" not in checkpoint:
        raise CheckpointError(f"{url}: not a DINO4Cells checkpoint (it has no 'teacher'); give the file that training wrote.")
    return checkpoint


def _name(samples_seen: int) -> str:
    return f"checkpoint-{samples_seen:012d}.pth"


def _saved(directory: str) -> list[str]:
    """Names of the checkpoints in a directory, newest first."""
    if not storage.exists(directory):
        return []
    return sorted((name for name in storage.list_files(directory) if re.fullmatch(r"checkpoint-\d{12}\.pth", name)), reverse=True)


def save(directory: str, checkpoint: Checkpoint) -> str:
    """Write a checkpoint for resuming, atomically, and delete all but the latest two; returns its URL."""
    return _write(directory, _name(checkpoint["samples_seen"]), dump(checkpoint))


def _write(directory: str, name: str, content: bytes) -> str:
    url = storage.join(directory, name)
    storage.write_bytes(url, content)
    for older in _saved(directory)[KEPT:]:
        storage.remove(storage.join(directory, older))
    return url


class CheckpointWriter:
    """Writes checkpoints while training goes on: the state is taken at once, and stored by a thread, one checkpoint after the other.

    Leaving `with` waits for the last one, so that what comes after finds it.

    Raises:
        StorageError: a checkpoint could not be written; when the next one is asked for, or in the end.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._written: Future[str] | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """As `save` of this module."""
        self._submit(checkpoint, _name(checkpoint["samples_seen"]))

    def keep_copy(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint that stays, `checkpoint0020.pth` after 20 epochs (the published name)."""
        self._submit(checkpoint, f"checkpoint{checkpoint['epoch']:04d}.pth")

    def wait(self) -> None:
        """Return when the last checkpoint is stored."""
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def _submit(self, checkpoint: Checkpoint, name: str) -> None:
        self.wait()  # else a slow store would collect checkpoints in memory
        self._written = self._thread.submit(_write, self.directory, name, dump(checkpoint))

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.wait()
        except StorageError as lost:
            if error is None:
                raise
            logger.warning("%s", lost)  # what ended the run is more important
        finally:
            self._thread.shutdown()


def clear(directory: str) -> None:
    """Delete the checkpoints for resuming; copies that were to stay do."""
    if storage.exists(directory) and any(re.fullmatch(r"checkpoint\d{4,}\.pth", name) for name in storage.list_files(directory)):
        for name in _saved(directory):
            storage.remove(storage.join(directory, name))
    else:
        storage.remove(directory)


def load_latest(directory: str) -> Checkpoint | None:
    """The newest readable checkpoint of a directory, or None; a damaged one is skipped with a warning."""
    for name in _saved(directory):
        url = storage.join(directory, name)
        try:
            return load(url)
        except (CheckpointError, StorageError) as error:
            logger.warning("%s Trying the one before it.", error)
    return None
