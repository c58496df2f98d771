"""Artifacts: directories that are complete when their `manifest.json` is there, and are checked against it when they are read."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from pydantic import BaseModel, ValidationError

import dino4cells
from dino4cells import storage
from dino4cells.errors import ArtifactError, StorageError

MANIFEST = "manifest.json"
_CHUNK = 2**20


class FileEntry(BaseModel):
    """A file of an artifact: its name, its size in bytes and the SHA-256 of its content in hexadecimal."""

    name: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """`manifest.json`: what an artifact is and which files belong to it."""

    kind: str
    version: str
    created: str
    files: list[FileEntry]


def is_complete(url: str) -> bool:
    """Whether a finished artifact is at `url`."""
    return storage.exists(storage.join(url, MANIFEST))


class ArtifactWriter:
    """Writes an artifact; leaving the block without an exception publishes what is left and, last, the manifest.

    Args:
        url: directory of the artifact.
        kind: `model`, `features` or `classification`.
        with_manifest: False in processes that write a share of the files; another one adopts these and completes the artifact.

    Example:
        >>> with ArtifactWriter("memory://doc/model", "model") as writer:
        ...     writer.write_text("model.json", "{}")
        >>> open_artifact("memory://doc/model", "model").names
        ['model.json']
    """

    def __init__(self, url: str, kind: str, *, with_manifest: bool = True) -> None:
        self.url, self.kind, self._with_manifest = url, kind, with_manifest
        self._entries: dict[str, FileEntry] = {}
        self._staging = Path(tempfile.mkdtemp(prefix="dino4cells-"))

    def path(self, name: str) -> Path:
        """Where to write the file `name`, on this machine; it is published later."""
        target = self._staging / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def write_bytes(self, name: str, data: bytes) -> None:
        """A file of the artifact with this content."""
        self.path(name).write_bytes(data)

    def write_text(self, name: str, text: str) -> None:
        """A file of the artifact with this content, in UTF-8."""
        self.path(name).write_text(text, encoding="utf-8")

    def publish(self, name: str) -> FileEntry:
        """Put a file that is finished to its place now."""
        local = self._staging / name
        entry = FileEntry(name=name, size=local.stat().st_size, sha256=_sha256(local))
        storage.upload(local, storage.join(self.url, name))
        local.unlink()
        self._entries[name] = entry
        return entry

    def adopt(self, entry: FileEntry) -> None:
        """Count a file that another process published as part of this artifact."""
        self._entries[entry.name] = entry

    def __enter__(self) -> ArtifactWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self._complete()
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)

    def _complete(self) -> None:
        for path in sorted(path for path in self._staging.rglob("*") if path.is_file()):
            self.publish(path.relative_to(self._staging).as_posix())
        if self._with_manifest:
            manifest = Manifest(
                kind=self.kind,
                version=dino4cells.__version__,
                created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                files=[self._entries[name] for name in sorted(self._entries)],
            )
            storage.write_text(storage.join(self.url, MANIFEST), manifest.model_dump_json(indent=2) + "\n")


class Artifact:
    """A complete artifact, read through its manifest. Get one by `open_artifact`."""

    def __init__(self, url: str, manifest: Manifest) -> None:
        self.url, self.manifest = url, manifest
        self._files = {entry.name: entry for entry in manifest.files}
        self._downloads: tempfile.TemporaryDirectory[str] | None = None

    @property
    def names(self) -> list[str]:
        """Names of its files, sorted, without the manifest."""
        return sorted(self._files)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the names and contents of its files."""
        joined = "".join(f"{name} {self._files[name].sha256}\n" for name in self.names)
        return hashlib.sha256(joined.encode()).hexdigest()

    def read_bytes(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            ArtifactError: not part of the artifact, or not what was written.
        """
        entry = self._entry(name)
        content = storage.read_bytes(storage.join(self.url, name))
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise self._damaged(name)
        return content

    def local(self, name: str) -> Path:
        """A path on this machine with the content of a file, which is downloaded if it is elsewhere.

        Raises:
            ArtifactError: not part of the artifact, or not what was written.
        """
        entry = self._entry(name)
        url = storage.join(self.url, name)
        if storage.is_local(url):
            path = Path(url.partition("://")[2] or url)
        else:
            self._downloads = self._downloads or tempfile.TemporaryDirectory(prefix="dino4cells-")
            path = Path(self._downloads.name, name)
            storage.download(url, path)
        if _sha256(path) != entry.sha256:
            raise self._damaged(name)
        return path

    def _entry(self, name: str) -> FileEntry:
        if name not in self._files:
            raise ArtifactError(f"{self.url}: this {self.manifest.kind} has no file '{name}'; write it again.")
        return self._files[name]

    def _damaged(self, name: str) -> ArtifactError:
        return ArtifactError(f"{storage.join(self.url, name)}: the file is not the one that was written (SHA-256); make the {self.manifest.kind} again.")


def open_artifact(url: str, kind: str) -> Artifact:
    """Open a complete artifact.

    Raises:
        ArtifactError: none there, not finished, of another kind, or a file of it is missing.
    """
    place = storage.join(url, MANIFEST)
    if not storage.exists(place):
        raise ArtifactError(f"{url}: no finished {kind} is here ({MANIFEST} is missing); wait until it is written, or give another URL.")
    try:
        manifest = Manifest.model_validate_json(storage.read_bytes(place))
    except ValidationError as error:
        raise ArtifactError(f"{place}: cannot be read as a manifest; make the {kind} again.") from error
    if manifest.kind != kind:
        raise ArtifactError(f"{url}: holds a {manifest.kind} and a {kind} is needed; give the URL of a {kind}.")
    try:
        present = set(storage.list_files(url))
    except StorageError as error:
        raise ArtifactError(str(error)) from error
    missing = [entry.name for entry in manifest.files if entry.name not in present]
    if missing:
        raise ArtifactError(f"{storage.join(url, missing[0])}: the file is missing from this {kind}; make it again.")
    return Artifact(url, manifest)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
