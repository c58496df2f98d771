"""A trained model that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dino4cells import steps
from dino4cells.config import Config


@pytest.fixture(scope="session")
def model(tiny_config: Callable[..., Config], cells: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that has seen the `cells` once, to read and not to change."""
    url = str(tmp_path_factory.mktemp("trained") / "model")
    steps.train(tiny_config(epochs=1), data=cells, output=url)
    return url
