"""Checkpoints in the published format (HANDBOOK, Files), written for resuming and for the original's tools.

A checkpoint is one file: `student` (keys start with `module.`), `teacher`, `optimizer`, `epoch`, `args` (an `argparse.Namespace`),
`dino_loss` (its `center`), `fp16_scaler`, and `samples_seen`, which the original's readers ignore. All randomness of a step is a
function of the seed and the samples seen, so that there is no random state to store.
"""

from __future__ import annotations

import argparse
import io
import logging
import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import torch

from dino4cells import storage
from dino4cells.errors import CheckpointError, StorageError

KEPT = 2
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
    content = storage.read_bytes(url)
    try:
        _check_sums(content)
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{url}: holds more than tensors and settings, or is damaged, and is not read; use a checkpoint written by DINO4Cells."
        ) from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, zlib.error, LookupError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{url}: the checkpoint is damaged or incomplete; delete it or use an earlier one.") from error
    if not isinstance(checkpoint, dict) or "teacher" not in checkpoint:
        raise CheckpointError(f"{url}: not a DINO4Cells checkpoint (it has no 'teacher'); give the file that training wrote.")
    return checkpoint


def _check_sums(content: bytes) -> None:
    """Compare the checksums that torch.save wrote, which torch.load does not look at: a flipped bit is a wrong weight."""
    if zipfile.is_zipfile(io.BytesIO(content)):  # older files are plain pickles
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(damaged)


def backbone_weights(network: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The backbone's weights out of a `student` or `teacher` entry, without the prefixes `module.` and `backbone.`."""
    plain = {name.removeprefix("module."): value for name, value in network.items()}
    return {name.removeprefix("backbone."): value for name, value in plain.items() if name.startswith("backbone.")}


def _name(samples_seen: int) -> str:
    return f"checkpoint-{samples_seen:012d}.pth"


def _saved(directory: str) -> list[str]:
    """Names of the checkpoints in a directory, newest first."""
    if not storage.exists(directory):
        return []
    return sorted((name for name in storage.list_files(directory) if re.fullmatch(r"checkpoint-\d{12}\.pth", name)), reverse=True)


def save(directory: str, checkpoint: Checkpoint) -> str:
    """Write a checkpoint for resuming, atomically, and delete all but the latest two; returns its URL."""
    url = storage.join(directory, _name(checkpoint["samples_seen"]))
    storage.write_bytes(url, dump(checkpoint))
    for name in _saved(directory)[KEPT:]:
        storage.remove(storage.join(directory, name))
    return url


def load_latest(directory: str) -> Checkpoint | None:
    """The newest readable checkpoint of a directory, or None; a damaged one is skipped with a warning."""
    for name in _saved(directory):
        url = storage.join(directory, name)
        try:
            return load(url)
        except (CheckpointError, StorageError) as error:
            logger.warning("%s Trying the one before it.", error)
    return None
