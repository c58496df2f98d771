"""How an S3 store is asked: where it is, how often, how many requests at a time."""

from __future__ import annotations

import os

import dino4cells

SCHEMES = ("s3://", "s3a://", "minio://")

# botocore asks this often, with pauses that double up to about 1, 2 and 4 seconds (its standard mode).
ATTEMPTS = 4
# s3fs asks botocore again where the connection broke, an answer in the middle too.
BODY_ATTEMPTS = 2
CONNECT_SECONDS = 5
READ_SECONDS = 15
# Of a process, so that a batch of the usual size goes out at once. More would wait for the one core that signs and reads: 0.8 ms a request.
CONNECTIONS = 64


def is_s3(url: str) -> bool:
    """Whether the URL is one of an S3 store."""
    return url.startswith(SCHEMES)


def plain(url: str) -> str:
    """The URL by the scheme that s3fs knows; URLs of other stores as they are."""
    return f"s3://{url.partition('://')[2]}" if is_s3(url) else url


def endpoint() -> str | None:
    """The S3 endpoint that the environment names; None means AWS itself."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def options() -> dict[str, object]:
    """What s3fs is told, from the environment of now."""
    return {
        # botocore would find these by itself; given here, other values open another connection.
        "endpoint_url": endpoint(),
        "key": os.environ.get("AWS_ACCESS_KEY_ID"),
        "secret": os.environ.get("AWS_SECRET_ACCESS_KEY"),
        "token": os.environ.get("AWS_SESSION_TOKEN"),
        # Other processes write too: what was listed a moment ago may be old.
        "use_listings_cache": False,
        "config_kwargs": {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "max_pool_connections": CONNECTIONS,
            "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
            # Else botocore puts a name together for every request, which takes an eighth of its time.
            "user_agent": f"dino4cells/{dino4cells.__version__}",
            # Older servers, Kubeflow's MinIO among them, refuse the checksums that botocore adds by default.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
    }
