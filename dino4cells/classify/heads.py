"""The paper's classifier heads: from features to one logit a class (HANDBOOK, classification).

Their parameters have the published names, so that a published state dictionary loads.

Dimensions: N cells, D features, U units, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import BaseModel
from torch import nn

from dino4cells.config import ClassificationConfig


class SimpleHead(nn.Module):
    """`simple_clf`: D → 512 → 256 → K with ReLU and dropout.

    Args:
        features: D.
        classes: K.
        dropout: probability that a hidden unit is silent in a training step.
    """

    def __init__(self, features: int, classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.clf = nn.Sequential(
            *(nn.Linear(features, 512), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(512, 256), nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(256, classes),
        )

    def forward(self, features_ND: torch.Tensor) -> torch.Tensor:
        """Logits (N, K)."""
        logits: torch.Tensor = self.clf(features_ND)
        return logits


class ResidualBlock(nn.Module):
    """Two layers of one width; with `skip` the block's input is added before the last ReLU (He et al. 2016)."""

    def __init__(self, units: int, norm: str | None, skip: bool) -> None:
        super().__init__()
        self.fc1, self.norm1 = nn.Linear(units, units), _normalization(norm, units)
        self.fc2, self.norm2 = nn.Linear(units, units), _normalization(norm, units)
        self.skip = skip

    def forward(self, hidden_NU: torch.Tensor) -> torch.Tensor:
        """(N, U) to (N, U)."""
        changed_NU = self.norm2(self.fc2(F.relu(self.norm1(self.fc1(hidden_NU)))))
        return F.relu(changed_NU + hidden_NU if self.skip else changed_NU)


class ResidualHead(nn.Module):
    """`residual_add_clf`: a first layer, residual blocks of two layers each, a last layer.

    Args:
        features: D.
        classes: K.
        layers: all layers; the published heads have 2, which is no block.
        units: U.
        norm: `layer`, `instance`, `batch_norm` or None.
        skip: add the input of a block to its output.
    """

    def __init__(
        self, features: int, classes: int, layers: int = 2, units: int = 1024, norm: str | None = None, skip: bool = False
    ) -> None:
        super().__init__()
        self.first_layer, self.norm_layer = nn.Linear(features, units), _normalization(norm, units)
        self.layers = nn.Sequential(*(ResidualBlock(units, norm, skip) for _ in range((layers - 2) // 2)))
        self.final_layer = nn.Linear(units, classes)

    def forward(self, features_ND: torch.Tensor) -> torch.Tensor:
        """Logits (N, K)."""
        logits: torch.Tensor = self.final_layer(self.layers(F.relu(self.norm_layer(self.first_layer(features_ND)))))
        return logits


def _normalization(kind: str | None, units: int) -> nn.Module:
    if kind == "layer":
        return nn.LayerNorm(units)
    if kind == "instance":  # of a cell's units, which are one channel: a layer norm without weights
        return nn.LayerNorm(units, elementwise_affine=False)
    return nn.BatchNorm1d(units) if kind == "batch_norm" else nn.Identity()


class HeadKind(BaseModel):
    """What a head is made of; its fields are the configuration's (section `classification`)."""

    classifier_type: str
    dropout: float
    n_layers: int
    n_units: int
    norm_layer: str | None
    skip: bool

    @classmethod
    def of(cls, config: ClassificationConfig) -> HeadKind:
        return cls.model_validate(config.model_dump(include=set(cls.model_fields)))


def build_head(kind: HeadKind, features: int, classes: int, seed: int = 0) -> SimpleHead | ResidualHead:
    """A head with random weights that depend on `seed` alone.

    Example:
        >>> build_head(HeadKind.of(ClassificationConfig()), 192, 35)(torch.zeros(2, 192)).shape
        torch.Size([2, 35])
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind.classifier_type == "simple_clf":
            return SimpleHead(features, classes, kind.dropout)
        return ResidualHead(features, classes, kind.n_layers, kind.n_units, kind.norm_layer, kind.skip)
