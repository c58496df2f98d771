"""Self-supervised features of single cells: train, extract, classify."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dino4cells")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+source"
