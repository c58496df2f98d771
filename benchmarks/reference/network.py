"""DINO's vision transformer and head, written plainly from the papers and the handbook, with the published parameter names.

Dimensions: B images of a view, N images of all views, C channels, T tokens, D width, h heads, K prototypes.
"""

from __future__ import annotations

import math
import warnings

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


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, leaves a branch out of a sample with probability `rate`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch_BTD: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return branch_BTD
        kept = 1 - self.rate
        return branch_BTD * torch.empty(len(branch_BTD), 1, 1).bernoulli_(kept) / kept


class Block(nn.Module):
    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Perceptron(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens_BTD: torch.Tensor) -> torch.Tensor:
        tokens_BTD = tokens_BTD + self.drop_path(self.attn(self.norm1(tokens_BTD)))
        return tokens_BTD + self.drop_path(self.mlp(self.norm2(tokens_BTD)))


class PatchEmbedding(nn.Module):
    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)


class PlainTransformer(nn.Module):
    """Twelve blocks on patches of an image whose side is `image_size` where the position embeddings are stored for it.

    `drop_path` is the last block's rate; it rises linearly from 0.
    """

    def __init__(self, channels: int, image_size: int, patch: int, width: int = 192, heads: int = 3, drop_path: float = 0.0) -> None:
        super().__init__()
        self.patch = patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (image_size // patch) ** 2 + 1, width))
        self.patch_embed = PatchEmbedding(channels, width, patch)
        self.blocks = nn.ModuleList(Block(width, heads, drop_path * number / 11) for number in range(12))
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PyTorch's newer weight norm names its parameters otherwise
            self.last_layer = nn.utils.weight_norm(nn.Linear(bottleneck, prototypes, bias=False))
        self.last_layer.weight_g.data.fill_(1)
        self.last_layer.weight_g.requires_grad = False

    def forward(self, embeddings_BD: torch.Tensor) -> torch.Tensor:
        return self.last_layer(F.normalize(self.mlp(embeddings_BD), dim=-1))


class MultiCropWrapper(nn.Module):
    """Backbone and head: views of one size pass the backbone together, and all of them the head."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, views: list[torch.Tensor]) -> torch.Tensor:
        """Logits (N, K) of views (B, C, H, W), one view after the other."""
        embeddings, start = [], 0
        for end in range(1, len(views) + 1):
            if end == len(views) or views[end].shape[-1] != views[start].shape[-1]:
                embeddings.append(self.backbone(torch.cat(views[start:end])))
                start = end
        return self.head(torch.cat(embeddings))


def initialize(network: nn.Module) -> None:
    """DINO's start: truncated normal of deviation 0.02 for linear layers, class token and positions; zero biases."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and not name.endswith("last_layer"):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        if isinstance(module, PlainTransformer):
            nn.init.trunc_normal_(module.cls_token, std=0.02)
            nn.init.trunc_normal_(module.pos_embed, std=0.02)
