"""DINO's projection head and the network that student and teacher share (Caron et al. 2021, §3.1 and appendix C).

Dimensions: B batch, V views, N = V·B, D embedding, E bottleneck, K prototypes (`out_dim`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

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

    def weight(self) -> torch.Tensor:
        """The rows (outputs, inputs), by PyTorch's fused form, in a fifth of the time of the formula."""
        rows: torch.Tensor = torch._weight_norm(self.weight_v, self.weight_g, 0)
        return rows

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.linear(inputs, self.weight())


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

    def bottleneck(self, embeddings_ND: torch.Tensor) -> torch.Tensor:
        """Unit vectors (N, E) of embeddings (N, D), in float32."""
        return F.normalize(self.mlp(embeddings_ND).float(), dim=-1)

    def forward(self, embeddings_ND: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) of embeddings (N, D)."""
        logits: torch.Tensor = self.last_layer(self.bottleneck(embeddings_ND))
        return logits


class Projection(NamedTuple):
    """What a network makes of V views of B images up to its last layer, in float32.

    Attributes:
        bottleneck_VBE: unit vectors.
        embeddings_VBD: the backbone's.
    """

    bottleneck_VBE: torch.Tensor
    embeddings_VBD: torch.Tensor


class DINONetwork(nn.Module):
    """A backbone and a head. Views of one size pass the backbone together; the head sees all at once."""

    def __init__(self, backbone: Backbone, head: DINOHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, views: Sequence[torch.Tensor]) -> Projection:
        """Bottleneck vectors and class tokens of groups of views; the loss takes the last layer in itself.

        Args:
            views: tensors (V_i, B, C, H_i, W_i), a size each; V is the sum of all V_i.
        """
        # The batch is given, not -1: a process all of whose images are unreadable has an empty one.
        count, batch = sum(len(group) for group in views), views[0].shape[1]
        embeddings_ND = torch.cat([self.backbone(group.flatten(0, 1)) for group in views]).float()
        bottleneck_NE = self.head.bottleneck(embeddings_ND)
        return Projection(
            bottleneck_NE.view(count, batch, bottleneck_NE.shape[1]), embeddings_ND.view(count, batch, embeddings_ND.shape[1])
        )

    def logits(self, views: Sequence[torch.Tensor]) -> torch.Tensor:
        """Outputs of the head for groups of views (V, B, K)."""
        outputs: torch.Tensor = self.head.last_layer(self(views).bottleneck_VBE)
        return outputs
