"""A vision transformer written plainly from the handbook's description, with the published parameter names, for comparison.

Dimensions: B batch, C channels, T tokens, D width, h heads, P side of a patch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens_BTD: torch.Tensor) -> torch.Tensor:
        batch, count, width = tokens_BTD.shape
        query, key, value = self.qkv(tokens_BTD).view(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(query @ key.mT / math.sqrt(width // self.heads), dim=-1)
        return self.proj((weights @ value).transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens_BTD: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(tokens_BTD)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Perceptron(width)

    def forward(self, tokens_BTD: torch.Tensor) -> torch.Tensor:
        tokens_BTD = tokens_BTD + self.attn(self.norm1(tokens_BTD))
        return tokens_BTD + self.mlp(self.norm2(tokens_BTD))


class PatchEmbedding(nn.Module):
    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)


class PlainTransformer(nn.Module):
    """Twelve blocks on patches of an image whose side is `image_size` where the position embeddings are stored for it."""

    def __init__(self, channels: int, image_size: int, patch: int, width: int = 192, heads: int = 3) -> None:
        super().__init__()
        self.patch = patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (image_size // patch) ** 2 + 1, width))
        self.patch_embed = PatchEmbedding(channels, width, patch)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(12))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def positions(self, first: int, second: int) -> torch.Tensor:
        """HANDBOOK, Files: bicubic, scale factor (n + 0.1)/N per side, class token apart."""
        stored = self.pos_embed.shape[1] - 1
        rows, columns = first // self.patch, second // self.patch
        if rows * columns == stored and first == second:
            return self.pos_embed
        side = round(math.sqrt(stored))
        grid = self.pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, scale_factor=((rows + 0.1) / side, (columns + 0.1) / side), mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).mT], dim=1)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """The normalized class token (B, D)."""
        tokens_BTD = self.patch_embed.proj(images_BCHW).flatten(2).mT
        tokens_BTD = torch.cat([self.cls_token.expand(len(images_BCHW), -1, -1), tokens_BTD], dim=1)
        tokens_BTD = tokens_BTD + self.positions(*images_BCHW.shape[2:])
        for block in self.blocks:
            tokens_BTD = block(tokens_BTD)
        return self.norm(tokens_BTD)[:, 0]


class PlainHead(nn.Module):
    """DINO's head with PyTorch's own weight norm, whose parameters have the published names."""

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck))
        self.last_layer = nn.utils.weight_norm(nn.Linear(bottleneck, prototypes, bias=False))
        self.last_layer.weight_g.requires_grad = False

    def forward(self, embeddings_BD: torch.Tensor) -> torch.Tensor:
        return self.last_layer(F.normalize(self.mlp(embeddings_BD), dim=-1))
