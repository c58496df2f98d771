"""What a storage raises, in one sentence: each kind of fsspec's storages has exceptions of its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Iterator

from botocore import exceptions as aws

from dino4cells import storage_s3
from dino4cells.errors import MissingFileError, StorageError


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn whatever a storage raises in this block into a StorageError that names `url`."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        raise explain(url, error) from error


def explain(url: str, error: BaseException) -> StorageError:
    """The sentence for the user: what is wrong with the URL, and what to do."""
    is_path = "://" not in url or url.startswith(("file://", "local://"))
    chain = [cause for cause in (error, error.__cause__, error.__context__) if cause is not None]
    codes = [cause.response.get("Error", {}).get("Code") for cause in chain if isinstance(cause, aws.ClientError)]
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    reason = said.strip().partition("\n")[0].rstrip(".") or type(error).__name__
    if isinstance(error, (aws.NoCredentialsError, aws.PartialCredentialsError)):
        return StorageError(f"{url}: there are no credentials for this store; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    if "NoSuchBucket" in codes:
        return StorageError(f"{url}: the bucket does not exist; create it, or correct its name or AWS_ENDPOINT_URL.")
    if isinstance(error, FileNotFoundError):
        return MissingFileError(f"{url}: no such file or directory; check the path.")
    if isinstance(error, PermissionError):
        remedy = "change the permissions" if is_path else "check the credentials and what they allow"
        return StorageError(f"{url}: access is denied ({reason}); {remedy}.")
    if isinstance(error, (aws.ConnectionError, aws.HTTPClientError, ConnectionError, TimeoutError, asyncio.TimeoutError)):
        if storage_s3.is_s3(url):
            kind = type(error).__name__
            return StorageError(
                f"{url}: {storage_s3.endpoint() or 'AWS'} does not answer ({kind}); check the network and AWS_ENDPOINT_URL."
            )
        return StorageError(f"{url}: the store does not answer ({reason}); check the address, that it runs, and the network.")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return StorageError(f"{url}: the disk is full; free some space or write elsewhere.")
    if isinstance(error, OSError) and is_path:
        return StorageError(f"{url}: cannot be read or written ({reason}); check the path.")
    if isinstance(error, (ImportError, ValueError)) and "://" in url:
        remedy = "correct AWS_ENDPOINT_URL or the address" if storage_s3.is_s3(url) else "use a path, s3://… or what fsspec knows"
        return StorageError(f"{url}: this address cannot be opened ({reason}); {remedy}.")
    return StorageError(f"{url}: cannot be read or written ({reason}); check the address and the store.")
