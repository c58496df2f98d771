"""Files anywhere: paths and URLs through fsspec, with whole reads, atomic writes, and errors that say what to do.

A URL is a local path, `s3://bucket/key`, `memory://…` or anything that fsspec knows; `minio://` is Kubeflow's word for `s3://`. Endpoint
and credentials of an object store come from the environment, as botocore reads them (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError

from dino4cells.errors import Dino4CellsError, StorageError

ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.3
T = TypeVar("T")


# Names


def is_local(url: str) -> bool:
    """Whether the URL is a path on this machine."""
    return "://" not in url or url.startswith(("file://", "local://"))


def absolute(url: str) -> str:
    """A local path made absolute; other URLs as they are."""
    return str(Path(_path(url)).absolute()) if is_local(url) else url


def join(url: str, *parts: str) -> str:
    """The URL of something below `url`; a part that is itself absolute or a URL replaces what is before it."""
    for part in parts:
        url = part if "://" in part or part.startswith("/") else f"{url.rstrip('/')}/{part}" if url else part
    return url


def parent(url: str) -> str:
    """The directory of a URL; `.` for a bare file name."""
    scheme, separator, rest = url.rstrip("/").rpartition("://")
    head = rest.rpartition("/")[0]
    if separator:
        return f"{scheme}://{head}"
    return head or ("/" if rest.startswith("/") else ".")


def name(url: str) -> str:
    """The last part of a URL."""
    return absolute(url).rstrip("/").rpartition("/")[2] if is_local(url) else url.rstrip("/").rpartition("/")[2]


def _path(url: str) -> str:
    return url.partition("://")[2] if "://" in url else url


# Reading


def exists(url: str) -> bool:
    """Whether a file or directory is there."""
    return bool(_attempt(url, lambda fs, path: fs.exists(path)))


def read_bytes(url: str) -> bytes:
    """The whole content of a file."""
    content: bytes = _attempt(url, lambda fs, path: fs.cat_file(path))
    return content


def read_text(url: str) -> str:
    """The whole content of a UTF-8 text."""
    try:
        return read_bytes(url).decode("utf-8")
    except UnicodeDecodeError as error:
        raise StorageError(f"{url}: not a UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8.") from error


def read_many(urls: Sequence[str]) -> list[bytes | Dino4CellsError]:
    """The contents of many files, asked for at once where the storage can; a failure stands at its place as a value."""
    if not urls:
        return []
    try:
        fs, _ = _open(urls[0])
    except StorageError as error:
        return [error] * len(urls)
    paths = [fs._strip_protocol(_plain(url)) for url in urls]
    found: dict[str, Any] = fs.cat(list(dict.fromkeys(paths)), on_error="return")
    results: list[bytes | Dino4CellsError] = []
    for url, path in zip(urls, paths, strict=True):
        content = found.get(path, FileNotFoundError(path))
        if isinstance(content, bytes):
            results.append(content)
            continue
        # Alone, with retries: a passing fault of one read does not cost the image.
        try:
            results.append(read_bytes(url))
        except StorageError as error:
            results.append(error)
    return results


def list_files(url: str) -> list[str]:
    """Names of all files below a directory, relative to it, sorted."""

    def find(fs: Any, path: str) -> list[str]:
        fs.invalidate_cache(path)
        base = path.rstrip("/") + "/"
        return sorted(found.removeprefix(base) for found in fs.find(path) if found.startswith(base))

    return list(_attempt(url, find))


def download(url: str, local: Path) -> None:
    """Copy a file to this machine; it appears under its name when it is whole."""
    with _temporary(local) as part:
        _attempt(url, lambda fs, path: fs.get_file(path, str(part)))


# Writing


def write_bytes(url: str, data: bytes) -> None:
    """Write a file at once: another reader sees the old content or the new, never half of it."""
    if is_local(url):
        local = Path(_path(url))
        with _local_errors(url), _temporary(local) as part:
            part.write_bytes(data)
        return
    _attempt(url, lambda fs, path: fs.pipe_file(path, data))


def write_text(url: str, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(url, text.encode())


def upload(local: Path, url: str) -> None:
    """Copy a file of this machine to `url`, whole or not at all."""
    if is_local(url):
        target = Path(_path(url))
        with _local_errors(url), _temporary(target) as part:
            fsspec.filesystem("file").get_file(str(local), str(part))
        return
    _attempt(url, lambda fs, path: fs.put_file(str(local), path))


def remove(url: str) -> None:
    """Delete a file, or a directory with all that is in it; nothing there is fine."""

    def delete(fs: Any, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            fs.rm(path, recursive=True)
        fs.invalidate_cache()

    _attempt(url, delete)


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A name beside `target` that becomes `target` when the block ends well, and is deleted when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _local_errors(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _explained(url, error) from error


# Errors and retries


def _plain(url: str) -> str:
    return f"s3://{url.removeprefix('minio://')}" if url.startswith("minio://") else url


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it; instances belong to a process, since s3fs does not survive a fork."""
    try:
        fs, path = fsspec.core.url_to_fs(_plain(url))
    except (ValueError, ImportError) as error:
        raise StorageError(f"{url}: this kind of URL cannot be opened ({str(error).rstrip('.')}); use a path, s3://… or another that fsspec knows.") from error
    if getattr(fs, "_pid", os.getpid()) != os.getpid():
        type(fs).clear_instance_cache()
        fs, path = fsspec.core.url_to_fs(_plain(url))
    return fs, path


def _attempt(url: str, action: Callable[[Any, str], T]) -> T:
    """Do something with a URL; passing faults are tried again after growing pauses, others become a StorageError."""
    fs, path = _open(url)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action(fs, path)
        except (OSError, ClientError, BotoCoreError, asyncio.TimeoutError, ValueError) as error:
            if attempt == ATTEMPTS or not _is_passing(error):
                raise _explained(url, error) from error
            time.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
    raise AssertionError("the loop above returns or raises")


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NoCredentialsError, EndpointConnectionError)):
        return False
    if isinstance(error, ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)) >= 500
    return isinstance(error, (ConnectionError, TimeoutError, asyncio.TimeoutError, BotoCoreError)) or "SlowDown" in str(error)


def _explained(url: str, error: BaseException) -> StorageError:
    causes = [error, error.__cause__, error.__context__]
    if any(isinstance(cause, NoCredentialsError) for cause in causes):
        return StorageError(f"{url}: there are no credentials for this store; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a role.")
    if any(isinstance(cause, EndpointConnectionError) for cause in causes):
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "the default endpoint of AWS"
        return StorageError(f"{url}: the object store does not answer at {endpoint}; correct AWS_ENDPOINT_URL or start the store.")
    if isinstance(error, FileNotFoundError):
        return StorageError(f"{url}: no such file or directory; check the path.")
    if isinstance(error, PermissionError):
        return StorageError(f"{url}: access is denied; check the permissions, or the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return StorageError(f"{url}: cannot be read or written ({reason}); check the URL and the store.")
