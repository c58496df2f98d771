"""The three steps as Kubeflow components: a few lines each, whose bodies call `dino4cells.steps` inside the project's image."""

from dino4cells.components.classify import classify
from dino4cells.components.extract import extract
from dino4cells.components.train import train

__all__ = ["classify", "extract", "train"]
