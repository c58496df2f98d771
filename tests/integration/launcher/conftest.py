"""A cluster whose time a test moves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubernetes_server import KubernetesServer, Time, kubernetes_server


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def server(time: Time) -> Iterator[KubernetesServer]:
    with kubernetes_server(time) as running:
        yield running
