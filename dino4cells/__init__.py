"""Self-supervised features of single cells: train, extract, classify."""

import os
from importlib.metadata import PackageNotFoundError, version

# PyTorch then asks Linux for large pages where it takes much memory at once, and a training step on a CPU spends an eighth less on page
# faults. It looks when it takes its first memory, so this stands before anything that imports it.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

try:
    __version__ = version("dino4cells")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+source"
