"""Self-supervised features of single cells: train, extract, classify.

>>> import dino4cells
>>> dino4cells.load_model("model").embed(images)  # doctest: +SKIP
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING, Any

# PyTorch then asks Linux for large pages where it takes much memory at once: a training step took an eighth less time with them on an AMD
# EPYC, and no less on an Intel Xeon. It looks when it takes its first memory, so this stands before anything that imports it.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

if TYPE_CHECKING:
    from dino4cells.api import Model, classify, extract, load_model, predict, read_features, simulate, train

try:
    __version__ = version("dino4cells")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+source"

__all__ = ["Model", "classify", "extract", "load_model", "predict", "read_features", "simulate", "train"]


class _Package(ModuleType):
    """Imports what the package offers when it is first asked for: PyTorch takes seconds, which `dino4cells --help` would wait."""

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        from dino4cells import api

        return getattr(api, name)

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *__all__})

    @property
    def classify(self) -> Any:
        """The verb, also once the package `dino4cells.classify` is imported, which Python then puts into this place."""
        return self.__getattr__("classify")

    @classify.setter
    def classify(self, package: ModuleType) -> None:
        pass  # `from dino4cells.classify import …` finds it in sys.modules


sys.modules[__name__].__class__ = _Package
