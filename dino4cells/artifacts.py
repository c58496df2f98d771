"""Artifacts: directories that are complete when their `manifest.json` is there, and are checked against it when they are read."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError

import dino4cells
from dino4cells import storage
from dino4cells.errors import ArtifactError
from dino4cells.manifest import MANIFEST, FileEntry, Manifest, checked_name, entry_of, files_of, hash_of, sha256_of
from dino4cells.storage_errors import FULL, explain


def is_complete(url: str) -> bool:
    """Whether a finished artifact is at `url`."""
    return storage.exists(storage.join(url, MANIFEST))


def finished_already(url: str) -> ArtifactError:
    """The error where a result would replace another one that nobody wants replaced."""
    return ArtifactError(f"{url}: holds a finished result already; choose another output, or pass --overwrite to replace it.")


class ArtifactWriter:
    """Writes an artifact; leaving the block without an exception publishes what is left and, last, the manifest.

    After an exception there is no manifest, and files published before it stay. An artifact that was at `url` stays whole until the
    first file is published, so that a run that fails early costs nothing; files that only the old one had are deleted at the end.

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
        self._is_first_file = True
        self._replaced: set[str] = set()
        self._staging: Path

    def path(self, name: str) -> Path:
        """Where to write the file `name`, on this machine; it is published later."""
        target = self._staging / checked_name(name)
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
        entry = entry_of(local).model_copy(update={"name": name})
        self._begin_to_replace()
        storage.move(local, storage.join(self.url, name))
        self._entries[name] = entry
        return entry

    def take(self, directory: str, entry: FileEntry) -> None:
        """Put a file that is finished, in another directory of the same store, to its place now; one that is gone was put already."""
        self._begin_to_replace()
        found = storage.join(directory, entry.name)
        if storage.exists(found):
            storage.rename(found, storage.join(self.url, entry.name))
        self._entries[entry.name] = entry

    def _begin_to_replace(self) -> None:
        if self._is_first_file:
            # From here on the files of an older artifact are replaced, and its manifest would vouch for a mixture.
            storage.remove(storage.join(self.url, MANIFEST))
            self._is_first_file = False

    def adopt(self, entry: FileEntry) -> None:
        """Count a file that another process published as part of this artifact."""
        self._entries[entry.name] = entry

    def __enter__(self) -> ArtifactWriter:
        self._staging = storage.staging(self.url)
        if self._with_manifest:
            self._replaced = files_of(self.url)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self._complete()
            elif isinstance(error, OSError) and error.errno in FULL:
                raise explain(self.url if storage.is_local(self.url) else str(self._staging), error) from error
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
            for name in sorted(self._replaced - self._entries.keys()):
                storage.remove(storage.join(self.url, name))


class Artifact:
    """A complete artifact, read through its manifest. Get one by `open_artifact`."""

    def __init__(self, url: str, manifest: Manifest) -> None:
        self.url, self.manifest = url, manifest
        self._files = {entry.name: entry for entry in manifest.files}
        self._verified: dict[str, Path] = {}
        self._copies = LocalCopies()

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
        """A path on this machine with the content of a file; downloaded if it is elsewhere, and then kept as long as this object lives.

        Raises:
            ArtifactError: not part of the artifact, or not what was written.
        """
        entry = self._entry(name)
        if name not in self._verified:
            path = self._copies.of(storage.join(self.url, name))
            if hash_of(path) != entry.sha256:
                raise self._damaged(name)
            self._verified[name] = path
        return self._verified[name]

    def verify(self) -> None:
        """Compare the content of every file with the manifest; files elsewhere are downloaded one at a time and not kept.

        Raises:
            ArtifactError: a file is missing, or not what was written.
        """
        for name in self.names:
            if sha256_of(storage.join(self.url, name)) != self._entry(name).sha256:
                raise self._damaged(name)

    def _entry(self, name: str) -> FileEntry:
        if name not in self._files:
            raise ArtifactError(f"{self.url}: this {self.manifest.kind} has no file '{name}'; write it again.")
        return self._files[name]

    def _damaged(self, name: str) -> ArtifactError:
        url, kind = storage.join(self.url, name), self.manifest.kind
        return ArtifactError(f"{url}: the file is not the one that was written (SHA-256 differs); make the {kind} again.")


class LocalCopies:
    """Copies of files that are elsewhere, on this machine for as long as this object lives; a file of this machine is its own."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._paths: dict[str, Path] = {}

    def of(self, url: str) -> Path:
        """The path of a file's copy, which is made once."""
        if storage.is_local(url):
            return storage.local_path(url)
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="dino4cells-"))
            weakref.finalize(self, _discard, self._directory, os.getpid())
        if url not in self._paths:
            path = self._directory / str(len(self._paths)) / storage.name(url)  # TensorBoard knows a file by its name
            storage.download(url, path)
            self._paths[url] = path
        return self._paths[url]


@dataclass(frozen=True)
class SingleFile:
    """A file that stands where an artifact could: a checkpoint or features in the published layout.

    Attributes:
        url: of the file.
        fingerprint: SHA-256 of its content.
    """

    url: str
    fingerprint: str


def open_artifact(url: str, kind: str, *others: str) -> Artifact:
    """Open a complete artifact.

    Args:
        url: directory of the artifact.
        kind: what it must be: `model`, `features` or `classification`.
        others: what it may be as well.

    Raises:
        ArtifactError: none there, not finished, of another kind, or a file of it is missing or has another size.
        StorageError: the URL cannot be reached.
    """
    place = storage.join(url, MANIFEST)
    if not storage.exists(place):
        if not storage.exists(url):
            raise ArtifactError(f"{url}: there is no {kind} directory here; check the path.")
        raise ArtifactError(f"{url}: is no complete {kind} directory ({MANIFEST} is missing); wait until it is written, or make it again.")
    try:
        manifest = Manifest.model_validate_json(storage.read_bytes(place))
    except ValidationError as error:
        raise ArtifactError(f"{place}: cannot be read as a manifest; make the {kind} again.") from error
    if manifest.kind not in (kind, *others):
        raise ArtifactError(f"{url}: is a {manifest.kind} directory where a {kind} directory is needed; give the URL of one.")
    sizes = storage.list_sizes(url)
    for entry in manifest.files:
        where = storage.join(url, entry.name)
        if entry.name not in sizes:
            raise ArtifactError(f"{where}: the file is missing from this {kind}; make it again.")
        if sizes[entry.name] != entry.size:
            raise ArtifactError(f"{where}: has {sizes[entry.name]} bytes where {entry.size} were written; make the {kind} again.")
    return Artifact(url, manifest)


def _discard(directory: Path, owner: int) -> None:
    # A forked worker that drops its copy of the artifact must not take the files from the others.
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)
