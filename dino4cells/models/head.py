"""DINO's projection head and the network that student and teacher share (Caron et al. 2021, §3.1 and appendix C).

Dimensions: B batch, V views, N = V·B, D embedding, K prototypes (`out_dim`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from dino4cells.models.backbone import Backbone


class WeightNormLinear(nn.Module):
    """A bias-free linear layer whose rows are g·v/‖v‖ (Salimans and Kingma 2016), with the published checkpoints' parameter names."""

    def __init__(self, in_features: int, out_features: int, train_norm: bool) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(out_features, 1), requires_grad=train_norm)
        self.weight_v = nn.Parameter(torch.empty(out_features, in_features))
        nn.init.kaiming_uniform_(self.weight_v, a=math.sqrt(5))  # as nn.Linear, which the published code wraps

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        weight = self.weight_g * F.normalize(self.weight_v, dim=1)
        return F.linear(inputs, weight)


class DINOHead(nn.Module):
    """Three-layer perceptron, a bottleneck of unit length, and cosine similarities to K prototypes.

    Args:
        in_dim: D.
        out_dim: K.
        hidden_dim, bottleneck_dim: widths inside.
        norm_last_layer: keep the prototypes at unit length, which steadies training.
        use_bn: batch normalization after both hidden layers.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        norm_last_layer: bool = True,
        use_bn: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (in_dim, hidden_dim):
            layers += [nn.Linear(width, hidden_dim), *([nn.BatchNorm1d(hidden_dim)] if use_bn else []), nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden_dim, bottleneck_dim))
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = WeightNormLinear(bottleneck_dim, out_dim, train_norm=not norm_last_layer)

    def forward(self, embeddings_ND: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) of embeddings (N, D)."""
        logits: torch.Tensor = self.last_layer(F.normalize(self.mlp(embeddings_ND), dim=-1))
        return logits


class DINONetwork(nn.Module):
    """A backbone and a head. Views of one size pass the backbone together; the head sees all at once."""

    def __init__(self, backbone: Backbone, head: DINOHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, views: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and class tokens of groups of views.

        Args:
            views: tensors (V_i, B, C, H_i, W_i), a size each.

        Returns:
            Logits (ΣV_i, B, K) and embeddings (ΣV_i, B, D), in float32.
        """
        batch = views[0].shape[1]
        embeddings_ND = torch.cat([self.backbone(group.flatten(0, 1)) for group in views]).float()
        logits_NK = self.head(embeddings_ND).float()
        # Not unflatten(0, (-1, batch)): a process all of whose images are unreadable has an empty batch.
        count = sum(len(group) for group in views)
        return logits_NK.reshape(count, batch, logits_NK.shape[1]), embeddings_ND.reshape(count, batch, embeddings_ND.shape[1])
