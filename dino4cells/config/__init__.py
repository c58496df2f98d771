"""The handbook's `config.yaml` as typed, immutable models, and its reader."""

from dino4cells.config.classification import ClassificationConfig
from dino4cells.config.config import SECTIONS, TRANSFORM_SECTIONS, Config
from dino4cells.config.embedding import EmbeddingConfig
from dino4cells.config.file import load_config, parse_config
from dino4cells.config.model import ModelConfig

__all__ = [
    "SECTIONS",
    "TRANSFORM_SECTIONS",
    "ClassificationConfig",
    "Config",
    "EmbeddingConfig",
    "ModelConfig",
    "load_config",
    "parse_config",
]
