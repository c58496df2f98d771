"""What a storage raises, in one sentence: each kind of fsspec's storages has exceptions of its own."""

from __future__ import annotations

import contextlib
import errno
import ssl
from collections.abc import Iterator, Mapping

from botocore import exceptions as aws

from dino4cells import storage_s3
from dino4cells.errors import MissingFileError, StorageError, StoreRefused, StoreUnavailable
from dino4cells.storage_retry import Patience, kind_of

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
REFUSED = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
)
"""Codes of S3 that speak of the credentials, and not of what they allow."""


def is_local(url: str) -> bool:
    """Whether the URL is a path on this machine."""
    return "://" not in url or url.startswith(("file://", "local://"))


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn whatever a storage raises in this block into a StorageError that names `url`."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        raise explain(url, error) from error


def explain(url: str, error: BaseException, patience: Patience | None = None) -> StorageError:
    """The sentence for the user: what is wrong with the URL, and what to do.

    Args:
        url: that was asked for.
        error: as the storage raised it.
        patience: with which it was asked again, or None: once.
    """
    if isinstance(error, StorageError):
        return error
    is_path = is_local(url)
    codes = codes_of(error)
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    reason = said.strip().partition("\n")[0].rstrip(".") or type(error).__name__
    if isinstance(error, (aws.NoCredentialsError, aws.PartialCredentialsError)):
        return StoreRefused(f"{url}: there are no credentials for this store; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    if "NoSuchBucket" in codes:
        return StoreRefused(f"{url}: the bucket does not exist; create it, or correct its name or AWS_ENDPOINT_URL.")
    if REFUSED & codes:
        return StoreRefused(
            f"{url}: access is denied ({reason}); check the credentials and what they allow: where they were changed, give the new ones "
            "and run again, which goes on from what is finished."
        )
    if certificate := _certificate_error(error):
        return StoreRefused(
            f"{url}: the certificate of {_address(url)} is not trusted ({certificate}); set {_trust_variable(url)} to a PEM file with the "
            "certificate of its authority."
        )
    if not is_path and (kind := kind_of(error)):
        tried = f"after {patience.attempts} attempts in {patience.seconds:.0f} seconds" if patience and patience.attempts > 1 else ""
        if kind in ("connection", "timeout"):
            what = ", ".join(part for part in (type(error).__name__, tried) if part)
            remedy = "AWS_ENDPOINT_URL" if storage_s3.is_s3(url) else "the address, and that it runs"
            return StoreUnavailable(f"{url}: {_address(url)} does not answer ({what}); check the network and {remedy}.")
        why = "its answers break off" if kind == "cut" else f"{kind}, {reason}"
        what = ", ".join(part for part in (why, tried) if part)
        return StoreUnavailable(f"{url}: {_address(url)} fails for the moment ({what}); run again when it is well.")
    if isinstance(error, FileNotFoundError):
        return MissingFileError(f"{url}: no such file or directory; check the path.")
    if isinstance(error, PermissionError):
        remedy = "change the permissions" if is_path else "check the credentials and what they allow"
        return StorageError(f"{url}: access is denied ({reason}); {remedy}.")
    if isinstance(error, OSError) and error.errno in FULL:
        return StorageError(f"{url}: the disk is full; free some space or write elsewhere.")
    if isinstance(error, OSError) and is_path:
        return StorageError(f"{url}: cannot be read or written ({reason}); check the path.")
    if isinstance(error, ImportError) and "://" in url:
        return StorageError(f"{url}: such an address wants a package that is not installed ({reason}); install it by pip.")
    if isinstance(error, ValueError) and "://" in url:
        remedy = "correct AWS_ENDPOINT_URL or the address" if storage_s3.is_s3(url) else "use a path, s3://… or what fsspec knows"
        return StorageError(f"{url}: this address cannot be opened ({reason}); {remedy}.")
    return StorageError(f"{url}: cannot be read or written ({reason}); check the address and the store.")


def codes_of(error: BaseException) -> frozenset[str]:
    """The codes of S3 that an error says."""
    chain = (error, error.__cause__, error.__context__)
    return frozenset(cause.response.get("Error", {}).get("Code", "") for cause in chain if isinstance(cause, aws.ClientError))


def headers_of(error: BaseException) -> Mapping[str, str]:
    """The headers of the answer of S3 that an error holds."""
    for cause in (error, error.__cause__):
        if isinstance(cause, aws.ClientError):
            headers: Mapping[str, str] = cause.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            return headers
    return {}


def _certificate_error(error: BaseException) -> str:
    """What is wrong with a server's certificate, in the words of OpenSSL; nothing where it is something else."""
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        for part in (cause, getattr(cause, "certificate_error", None), getattr(cause, "kwargs", {}).get("error")):
            part = getattr(part, "certificate_error", part)
            if isinstance(part, ssl.SSLCertVerificationError):
                return part.verify_message.rstrip(".")
        cause = cause.__cause__ or cause.__context__
    return ""


def _address(url: str) -> str:
    """What answers, or does not, in words."""
    return (storage_s3.endpoint() or "AWS") if storage_s3.is_s3(url) else "the store"


def _trust_variable(url: str) -> str:
    return storage_s3.CA_BUNDLE if storage_s3.is_s3(url) else "SSL_CERT_FILE"
