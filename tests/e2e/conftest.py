"""One namespace of the cluster that KUBECONFIG names, with a store and cells; what stood there when a test failed is shown with it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator

import pytest
from real_cluster import Place, RealCluster

from dino4cells.cluster.api import Api
from dino4cells.cluster.client import Cluster

NO_CLUSTER = "NOT TESTED on Kubernetes: KUBECONFIG names no cluster; `make kind-up` makes one (docs/kind.md)"


@contextlib.contextmanager
def _namespace(place: Place, **labels: str) -> Iterator[RealCluster]:
    with contextlib.closing(Api(place.namespace, patience=60.0)) as api:
        here = RealCluster(place, Cluster(api))
        made = here.make_namespace(**labels)
        try:
            here.furnish()
            yield here
        finally:
            here.remove_namespace() if made else here.clear()


@pytest.fixture(scope="session")
def cluster() -> Iterator[RealCluster]:
    """The namespace of the tests; a cluster that is named and does not answer is a failure."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip(NO_CLUSTER)
    with _namespace(Place.of(os.environ)) as here:
        yield here


@pytest.fixture
def restricted(cluster: RealCluster) -> Iterator[RealCluster]:
    """Another one, which enforces Kubernetes' strictest Pod Security Standard."""
    place = dataclasses.replace(cluster.place, namespace=f"{cluster.place.namespace}-restricted")
    if not place.brings_store or place.pull_secrets:
        pytest.skip("NOT TESTED under restricted Pod Security: it needs a namespace of its own, without the given store and pull secrets")
    with _namespace(place, **{"pod-security.kubernetes.io/enforce": "restricted"}) as here:
        yield here


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    here = getattr(item, "funcargs", {}).get("restricted") or getattr(item, "funcargs", {}).get("cluster")
    if report.failed and here is not None:
        for words in (("get", "pytorchjobs,pods", "--output", "wide"), ("get", "events", "--sort-by=.lastTimestamp")):
            with contextlib.suppress(AssertionError):
                report.sections.append((f"kubectl {' '.join(words)}", here.kubectl(*words)[-6000:]))
    return report
