"""Files anywhere: paths and URLs through fsspec, with whole reads, atomic writes, and errors that say what to do.

A URL is a local path, `s3://bucket/key`, `memory://…` or anything that fsspec knows; `minio://` is Kubeflow's word for `s3://`. Endpoint
and credentials of an object store come from the environment, as botocore reads them (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …).
Every function raises StorageError, with one sentence, where a URL cannot be read, listed or written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dino4cells.errors import StorageError
from dino4cells.storage_asking import asked, limit, may_pass, open_store, refuse_secret
from dino4cells.storage_errors import FULL, explain, explained
from dino4cells.storage_errors import is_local as is_local
from dino4cells.storage_many import Range as Range
from dino4cells.storage_many import read_many as read_many
from dino4cells.storage_many import read_ranges as read_ranges
from dino4cells.storage_retry import WrongLength

# Local files grow under a hidden name with this ending, which no listing shows.
PARTIAL = ".partial"


# Names


def local_path(url: str) -> Path:
    """The path of a local URL, with `~` filled in."""
    if not is_local(url):
        raise ValueError(f"{url} is not on this machine")
    return Path(url.partition("://")[2] if "://" in url else url).expanduser()


def absolute(url: str) -> str:
    """A local path made absolute; other URLs as they are.

    Raises:
        StorageError: the URL holds a password or a signature, which processes, logs and artifacts that are told of it would show.
    """
    refuse_secret(url)
    return os.path.abspath(local_path(url)) if is_local(url) else url


def join(url: str, *parts: str) -> str:
    """The URL of something below `url`; a part that is itself absolute or a URL replaces what is before it.

    Example:
        >>> join("s3://bucket/plates/", "images", "cell.png")
        's3://bucket/plates/images/cell.png'
    """
    for part in parts:
        if "://" in part or part.startswith("/") or not url:
            url = part
            continue
        url = url if url.endswith("/") else f"{url}/"
        scheme, separator, rest = f"{url}{part}".rpartition("://")
        # Disks resolve `..` by themselves; object stores take it for a part of the name.
        url = scheme + separator + (posixpath.normpath(rest) if ".." in part.split("/") and not is_local(url) else rest)
    return url


def parent(url: str) -> str:
    """The directory of a URL; `.` for a bare file name."""
    scheme, separator, rest = url.rstrip("/").rpartition("://")
    head = rest.rpartition("/")[0] or ("/" if rest.startswith("/") or not rest else "")
    return f"{scheme}{separator}{head}" if separator else head or "."


def name(url: str) -> str:
    """The last part of a URL."""
    return absolute(url).rstrip("/").rpartition("/")[2]


# Reading


def exists(url: str) -> bool:
    """Whether a file or directory is there."""

    # Not fs.exists: it takes every failure, missing credentials too, for absence.
    def there(fs: Any, path: str) -> bool:
        try:
            fs.info(path)
        except FileNotFoundError as error:
            # fsspec's client of HTTP takes every failure for that.
            if error.__cause__ is not None and may_pass(url, error):
                raise
            return False
        return True

    return asked(url, there)


def read_bytes(url: str) -> bytes:
    """The whole content of a file."""

    def content(fs: Any, path: str) -> bytes:
        read: bytes = fs.cat_file(path, **limit(fs, None))
        return read

    return asked(url, content)


def read_text(url: str) -> str:
    """The whole content of a UTF-8 text."""
    try:
        return read_bytes(url).decode("utf-8")
    except UnicodeDecodeError as error:
        raise StorageError(f"{url}: not a UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8.") from error


def list_sizes(url: str) -> dict[str, int]:
    """Sizes in bytes of all files below a directory, by their names relative to it, sorted; empty if there is no such directory."""
    if is_local(url):
        with explained(url):
            return dict(sorted(_walk(local_path(url))))

    def sizes(fs: Any, path: str) -> dict[str, int]:
        base = path.rstrip("/") + "/"
        found = fs.find(path, detail=True).items()
        return dict(sorted((file.removeprefix(base), info["size"]) for file, info in found if file.startswith(base) and file != base))

    return asked(url, sizes)


def list_files(url: str) -> list[str]:
    """Names of all files below a directory, relative to it, sorted; empty if there is no such directory."""
    return list(list_sizes(url))


def download(url: str, local: Path) -> None:
    """Copy a file to this machine; it appears under its name when it is whole."""

    def get(fs: Any, path: str) -> None:
        with _partial(local) as part:
            size = fs.info(path)["size"]
            try:
                fs.get_file(path, str(part), **limit(fs, size))
            except OSError as error:
                if error.errno in FULL:
                    raise explain(str(local), error) from error
                raise
            came = part.stat().st_size
            if size is not None and came != size:
                raise WrongLength(f"{came} bytes came of {size}")

    asked(url, get)


# Writing


def write_bytes(url: str, data: bytes) -> None:
    """Write a file at once: another reader sees the old content or the new, never half of it."""
    if is_local(url):
        with explained(url), _partial(local_path(url)) as part:
            part.write_bytes(data)
    else:
        asked(url, lambda fs, path: fs.pipe_file(path, data, **limit(fs, len(data))))


def write_text(url: str, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(url, text.encode())


def upload(local: Path, url: str) -> None:
    """Copy a file of this machine to `url`, whole or not at all."""
    if is_local(url):
        with explained(url), _partial(local_path(url)) as part:
            shutil.copyfile(local, part)
    else:
        with explained(str(local)):
            size = local.stat().st_size
        asked(url, lambda fs, path: fs.put_file(str(local), path, **limit(fs, size)))


def check_writable(directory: str) -> None:
    """Raise StorageError unless files can be written below `directory`, which need not be there yet; leaves nothing behind."""
    if is_local(directory):
        with explained(directory):
            path = Path(absolute(directory))
            nearest = next(folder for folder in (path, *path.parents) if folder.exists())
            if not nearest.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, f"{nearest} is a file")
            if not os.access(nearest, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(nearest))
    else:
        probe = join(directory, _partial_name())
        write_bytes(probe, b"")
        remove(probe)


def staging(directory: str) -> Path:
    """A new temporary directory, on the same disk as a local `directory`, so that `move` is a rename."""
    if not is_local(directory):
        return Path(tempfile.mkdtemp(prefix="dino4cells-"))
    with explained(directory):
        path = local_path(directory) / _partial_name()
        path.mkdir(parents=True)
        return path


def move(local: Path, url: str) -> None:
    """Put a file of a `staging` directory to its place."""
    if is_local(url):
        with explained(url):
            local_path(url).parent.mkdir(parents=True, exist_ok=True)
            os.replace(local, local_path(url))
    else:
        upload(local, url)
        local.unlink()


def rename(source: str, target: str) -> None:
    """Give a file another URL of the same store; what was there is replaced. An object store copies it on its side, and then deletes it."""
    if is_local(target):
        with explained(target):
            local_path(target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(local_path(source), local_path(target))
        return
    asked(target, lambda fs, path: fs.cp_file(open_store(source)[1], path))
    remove(source)


def remove(url: str) -> None:
    """Delete a file, or a directory with all that is in it; nothing there is fine."""
    if is_local(url):
        with explained(url), contextlib.suppress(FileNotFoundError):
            path = local_path(url)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        return

    def delete(fs: Any, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            if not any(character in key for character in "*?["):
                fs.rm(key, recursive=True)
                return
            # fs.rm would take this name for a pattern.
            for file in fs.find(key):
                fs.rm_file(file)

    asked(url, delete)


def remove_empty(directory: str) -> None:
    """Delete a local directory that holds nothing but what killed writers have left; a store has no empty ones."""
    if is_local(directory):
        with explained(directory), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path = local_path(directory)
            left = list(path.iterdir())
            if all(child.name.endswith(PARTIAL) and child.is_file() for child in left):
                for child in left:
                    child.unlink()
                path.rmdir()


# Local files


def _partial_name() -> str:
    return f".{uuid.uuid4().hex[:12]}{PARTIAL}"


@contextlib.contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """A name beside `target` that becomes `target` when the block ends well, and is deleted when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(_partial_name())
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _walk(directory: Path) -> Iterator[tuple[str, int]]:
    def stop(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for folder, folders, files in os.walk(directory, onerror=stop, followlinks=True):
        folders[:] = [name for name in folders if not name.endswith(PARTIAL)]
        # By strings: for a million files, paths as objects take half a minute.
        below = os.path.relpath(folder, directory).replace(os.sep, "/")
        before = "" if below == "." else f"{below}/"
        for name in files:
            if not name.endswith(PARTIAL):
                with contextlib.suppress(FileNotFoundError):  # Deleted since, or a link to nowhere.
                    yield before + name, os.stat(os.path.join(folder, name)).st_size
