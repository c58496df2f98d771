"""A real S3 server over HTTP (moto), whose address and credentials stand in the environment, for subprocesses too."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    # A developer's own settings must not send these tests to a real store.
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_PROXY": "127.0.0.1",
}
SET_ELSEWHERE = ("AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_PROFILE")


@pytest.fixture(scope="session")
def s3() -> Iterator[Callable[[], str]]:
    """Starts the server on a free port; each call of the value makes a bucket and returns its URL, `s3://bucket-<n>`."""
    # Here, since the tests of a GPU run where neither is installed.
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for variable in SET_ELSEWHERE:
            patch.delenv(variable, raising=False)
        for variable, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(variable, value)
        client = boto3.client("s3")
        numbers = itertools.count(1)

        def bucket() -> str:
            name = f"bucket-{next(numbers)}"
            client.create_bucket(Bucket=name)
            return f"s3://{name}"

        yield bucket
    server.stop()
