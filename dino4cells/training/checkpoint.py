"""Checkpoints in the published format (HANDBOOK, Files), written for resuming and for the original's tools.

A checkpoint is one file: `student` (keys start with `module.`), `teacher`, `optimizer`, `epoch`, `args` (an `argparse.Namespace`),
`dino_loss` (its `center`), `fp16_scaler`, and `samples_seen`, which the original's readers ignore. All randomness of a step is a
function of the seed and the samples seen, so that there is no random state to store.

The file is a zip archive in which every record has its CRC-32; reading compares them all (`torch_files`), so that a flipped bit or a
missing end is found before anything is taken from the file, and the original's tools read it as it is.
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
from dino4cells.lease import Lease, LeaseLost
from dino4cells.torch_files import CHECKPOINT, read_torch_file
from dino4cells.training.distributed import first_decides

KEPT = 2
# A loss scaler of mixed precision as it begins: we need none, and the original cannot read a checkpoint without.
FRESH_SCALER = {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "_growth_tracker": 0}
_NAME = re.compile(r"checkpoint-\d{12}\.pth")
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
    return sorted((name for name in storage.list_files(directory) if _NAME.fullmatch(name)), reverse=True)


def save(directory: str, checkpoint: Checkpoint) -> str:
    """Write a checkpoint for resuming, atomically, and delete all but it and the one before it; returns its URL."""
    return _write(directory, _name(checkpoint["samples_seen"]), dump(checkpoint))


def _write(directory: str, name: str, content: bytes) -> str:
    url = storage.join(directory, name)
    storage.write_bytes(url, content)
    if _NAME.fullmatch(name):
        saved = _saved(directory)
        # A newer one is damaged, or this run would have gone on from it; it must not be counted as one of those that are kept.
        for other in {*saved} - {*[older for older in saved if older <= name][:KEPT]}:
            storage.remove(storage.join(directory, other))
    return url


class CheckpointWriter:
    """Writes checkpoints while training goes on: the state is taken at once, and stored by a thread, one checkpoint after the other.

    Leaving `with` waits for the last one, so that what comes after finds it.

    Args:
        directory: URL.
        lease: confirmed before each write.

    Raises:
        StorageError: a checkpoint could not be written; at the next `check`, when the next one is asked for, or in the end.
        LeaseLost: another run has the output; at the same times.
    """

    def __init__(self, directory: str, lease: Lease | None = None) -> None:
        self.directory, self.lease = directory, lease
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

    def check(self) -> None:
        """Raise what the last checkpoint failed of, where that is known by now."""
        if self._written is not None and self._written.done():
            self.wait()

    def _submit(self, checkpoint: Checkpoint, name: str) -> None:
        self.wait()  # else a slow store would collect checkpoints in memory
        self._written = self._thread.submit(self._write, name, dump(checkpoint))

    def _write(self, name: str, content: bytes) -> str:
        if self.lease is not None:
            self.lease.confirm()
        before = latest(self.directory)
        try:
            return _write(self.directory, name, content)
        except StorageError as error:
            kept = f"the one before it, {storage.name(before)}, is as it was" if before else "there is none before it"
            raise StorageError(f"{str(error).rstrip('.')}; this checkpoint is not written, {kept}.") from error

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.wait()
        except (StorageError, LeaseLost) as lost:
            if error is None:
                raise
            logger.warning("%s", lost)  # what ended the run is more important
        finally:
            self._thread.shutdown()


def clear(directory: str) -> None:
    """Delete the checkpoints for resuming, and the directory unless something else is in it, such as copies that were to stay."""
    for name in _saved(directory):
        storage.remove(storage.join(directory, name))
    storage.remove_empty(directory)


def latest(directory: str) -> str | None:
    """URL of the newest checkpoint of a directory; None where there is none."""
    saved = _saved(directory)
    return storage.join(directory, saved[0]) if saved else None


def load_latest(directory: str) -> Checkpoint | None:
    """The newest checkpoint of a directory that can be read, the same one in every process; None where there are none.

    A damaged one is skipped with a warning. Where none can be read the run does not start anew by itself.

    Raises:
        CheckpointError: all are damaged.
        StorageError: none can be read.
    """
    found: dict[str, Checkpoint] = {}
    newest = first_decides(lambda: _newest_readable(directory, found))
    return found.get(newest) or load(newest) if newest else None


def _newest_readable(directory: str, found: dict[str, Checkpoint]) -> str | None:
    """The URL of the newest checkpoint that can be read, whose content is put into `found`."""
    saved = _saved(directory)
    for name in saved:
        url = storage.join(directory, name)
        try:
            found[url] = load(url)
        except (CheckpointError, StorageError) as error:
            if name != saved[-1]:
                logger.warning("%s Trying the one before it.", error)
            elif isinstance(error, StorageError):
                raise
            else:
                raise CheckpointError(
                    f"{directory}: holds checkpoints of an unfinished run, none of which can be read ({', '.join(saved)}); put back a good "
                    "copy, or delete the directory to start anew."
                ) from error
        else:
            return url
    return None
