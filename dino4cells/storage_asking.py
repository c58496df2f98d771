"""Asks the storage of a URL, and asks again while it fails for the moment (`storage_retry` says how long)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import fsspec
from fsspec.asyn import AsyncFileSystem

from dino4cells import storage_s3
from dino4cells.errors import StorageError
from dino4cells.redaction import holds_secret
from dino4cells.storage_errors import REFUSED, codes_of, explain, headers_of, is_local
from dino4cells.storage_retry import Patience, asked_pause, kind_of, time_limit

Answer = TypeVar("Answer")


def refuse_secret(url: str) -> None:
    """Raise StorageError where a URL holds a password, a token or a signature."""
    if holds_secret(url):
        raise StorageError(f"{url}: holds a password, a token or a signature; give the address alone, and credentials by variables.")


def open_store(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it. fsspec keeps instances by process, since s3fs does not survive a fork."""
    refuse_secret(url)
    if storage_s3.is_s3(url):
        from dino4cells.storage_client import S3Client  # takes a while to import

        fs = S3Client(**storage_s3.options())
        return fs, fs._strip_protocol(storage_s3.plain(url))
    fs, path = fsspec.core.url_to_fs(url)
    return fs, path


def asked(url: str, action: Callable[[Any, str], Answer]) -> Answer:
    """What `action` makes of the file system of a URL and the path in it; done again while that fails for the moment."""
    patience = Patience(store_of(url))
    while True:
        try:
            answer = action(*open_store(url))
        except StorageError:
            raise
        except Exception as error:
            if not may_pass(url, error):
                raise explain(url, error) from error
            wait(url, error, patience)
        else:
            patience.answered()
            return answer


def may_pass(url: str, error: Exception) -> bool:
    """Whether asking a URL again may help after an error."""
    if is_local(url) or isinstance(error, StorageError):
        return False
    return kind_of(error) is not None or _may_have_new_credentials(url, error)


def _may_have_new_credentials(url: str, error: Exception) -> bool:
    # The answer to a HEAD has no room for a code: it may speak of the credentials or of the object.
    return storage_s3.is_s3(url) and bool((REFUSED | {"403"}) & codes_of(error)) and storage_s3.credentials_may_change()


def wait(url: str, error: Exception, patience: Patience, requests: int = 1) -> None:
    """Return when it is time to repeat so many requests after an error, or raise what is wrong."""
    kind = kind_of(error)
    if kind is not None:
        pause = patience.next_pause(kind, asked_pause(headers_of(error)), requests)
    elif patience.has_renewed:
        pause = None
    else:
        pause = patience.renew(storage_s3.renew_credentials)
    if pause is None:
        raise explain(url, error, patience) from error
    time.sleep(pause)


def store_of(url: str) -> str:
    """What answers for a URL: its address, or its scheme and host or bucket."""
    scheme, separator, rest = url.rpartition("://")
    return (storage_s3.is_s3(url) and storage_s3.endpoint()) or f"{scheme}{separator}{rest.partition('/')[0]}"


def limit(fs: Any, size: int | None) -> dict[str, float]:
    """The option by which an operation on a file of this size has an end, where the file system has it: those over a network."""
    return {"timeout": time_limit(size)} if isinstance(fs, AsyncFileSystem) else {}
