"""`manifest.json` of an artifact: the names, sizes and checksums of its files, and how these are found."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, Field, ValidationError, field_validator

from dino4cells import storage
from dino4cells.storage_errors import explained

MANIFEST = "manifest.json"
_CHUNK = 2**20


class FileEntry(BaseModel):
    """A file of an artifact: its name, its size in bytes and the SHA-256 of its content in hexadecimal."""

    name: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @field_validator("name")
    @classmethod
    def _stays_inside(cls, name: str) -> str:
        return checked_name(name)


class Manifest(BaseModel):
    """`manifest.json`: what an artifact is and which files belong to it."""

    kind: str
    version: str
    created: str
    files: list[FileEntry]


def entry_of(path: Path) -> FileEntry:
    """A file on this machine as an entry, by the last part of its name."""
    return FileEntry(name=path.name, size=path.stat().st_size, sha256=hash_of(path))


def sha256_of(url: str) -> str:
    """SHA-256 of a file's content, in hexadecimal; a file elsewhere is downloaded and not kept."""
    if storage.is_local(url):
        with explained(url):
            return hash_of(storage.local_path(url))
    with tempfile.TemporaryDirectory(prefix="dino4cells-") as directory:
        path = Path(directory, "file")
        storage.download(url, path)
        return hash_of(path)


def files_of(url: str) -> set[str]:
    """Names of the files of an artifact that may be at `url`; none where there is no manifest that can be read."""
    place = storage.join(url, MANIFEST)
    try:
        return {entry.name for entry in Manifest.model_validate_json(storage.read_bytes(place)).files} if storage.exists(place) else set()
    except ValidationError:
        return set()


def checked_name(name: str) -> str:
    """The name, if it stays inside the artifact and is not the manifest's."""
    parts = PurePosixPath(name).parts
    if not parts or "://" in name or "\\" in name or parts[0] == "/" or ".." in parts or name in (".", MANIFEST):
        raise ValueError(f"'{name}' is no name of a file in an artifact")
    return name


def hash_of(path: Path) -> str:
    """SHA-256 of a file on this machine, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
