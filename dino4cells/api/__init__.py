"""What `import dino4cells` offers in Python: the three verbs, models that embed arrays, features, simulated cells (docs/python.md)."""

from __future__ import annotations

from dino4cells.api.model import Model, load_model
from dino4cells.api.verbs import classify, extract, predict, read_features, train
from dino4cells.data.simulate import simulate

__all__ = ["Model", "classify", "extract", "load_model", "predict", "read_features", "simulate", "train"]
