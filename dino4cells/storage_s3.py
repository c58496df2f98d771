"""How an S3 store is asked: where it is, by which credentials and certificates, how many requests at a time."""

from __future__ import annotations

import os
from typing import Any

import dino4cells
from dino4cells.errors import StorageError, StoreRefused
from dino4cells.redaction import holds_secret

CA_BUNDLE = "AWS_CA_BUNDLE"
SCHEMES = ("s3://", "s3a://", "minio://")

CONNECT_SECONDS = 5
READ_SECONDS = 15  # without a byte
# Of a process, so that a batch of the usual size goes out at once. More would wait for the one core that signs and reads: 0.8 ms a request.
CONNECTIONS = 64

# Connections of another generation are others, with credentials that are read anew.
_generation = 0


def is_s3(url: str) -> bool:
    """Whether the URL is one of an S3 store."""
    return url.startswith(SCHEMES)


def plain(url: str) -> str:
    """The URL by the scheme that s3fs knows; URLs of other stores as they are."""
    return f"s3://{url.partition('://')[2]}" if is_s3(url) else url


def endpoint() -> str | None:
    """The S3 endpoint that the environment names; None means AWS itself."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def certificates() -> str | None:
    """The file of authorities whose certificates are trusted, which the environment names; None: those that botocore brings.

    Raises:
        StoreRefused: there is no such file.
    """
    bundle = os.environ.get(CA_BUNDLE) or None
    if bundle and not os.path.exists(bundle):
        raise StoreRefused(f"{CA_BUNDLE}: there is no file {bundle}; set it to a PEM file with the certificate of the store's authority.")
    return bundle


def credentials_may_change() -> bool:
    """Whether they come from a file, a service account or the machine, where others may stand now; variables stay as they are."""
    return not os.environ.get("AWS_ACCESS_KEY_ID")


def renew_credentials() -> None:
    """Read the credentials anew with the next request."""
    global _generation
    _generation += 1


def options() -> dict[str, Any]:
    """What s3fs is told, from the environment of now.

    Raises:
        StorageError: the endpoint holds a password, which no S3 store asks for there.
    """
    address = endpoint()
    if address and holds_secret(address):
        raise StorageError("AWS_ENDPOINT_URL: holds a password; give the address alone, and AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    return {
        # botocore would find these by itself; given here, other values open another connection.
        "endpoint_url": address,
        "key": os.environ.get("AWS_ACCESS_KEY_ID"),
        "secret": os.environ.get("AWS_SECRET_ACCESS_KEY"),
        "token": os.environ.get("AWS_SESSION_TOKEN"),
        "client_kwargs": {"verify": certificates()},
        "generation": _generation,
        # Other processes write too: what was listed a moment ago may be old.
        "use_listings_cache": False,
        "config_kwargs": {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "max_pool_connections": CONNECTIONS,
            # Its own repeats know neither Retry-After nor when to stop, and are not counted: `storage_client` repeats.
            "retries": {"mode": "standard", "total_max_attempts": 1},
            # Else botocore puts a name together for every request, which takes an eighth of its time.
            "user_agent": f"dino4cells/{dino4cells.__version__}",
            # Older servers, Kubeflow's MinIO among them, refuse the checksums that botocore adds by default.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
    }
