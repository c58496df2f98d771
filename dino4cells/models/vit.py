"""Vision transformers as DINO trains them; parameters have DINO's names, which are timm's too.

Dimensions: B batch, C channels, H height, W width, T tokens (class token first), D embedding, N heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from dino4cells.config.embedding import Tokens
from dino4cells.errors import ConfigError
from dino4cells.models.backbone import Backbone
from dino4cells.models.block import NORM_EPSILON, Block

# Width and heads of the published architectures; all have twelve blocks.
ARCHITECTURES = {"vit_tiny": (192, 3), "vit_small": (384, 6), "vit_base": (768, 12)}
DEPTH = 12
PATCH_SIZES = (8, 16)


class DinoVisionTransformer(Backbone):
    """A ViT whose output is the normalized class token, for images of any size of at least one patch.

    Pixels at the right and bottom that do not fill a patch are not seen, as in the original's strided convolution.

    Args:
        patch_size: height and width of a patch in pixels.
        grid: rows and columns of patches that there are position embeddings for; others are interpolated.
        channels: C.
        width: D.
        heads: N, a divisor of D.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0.
    """

    def __init__(self, patch_size: int, grid: int, channels: int, width: int, heads: int, drop_path_rate: float) -> None:
        super().__init__()
        self.embed_dim, self.smallest_side = width, patch_size
        self.patch_embed = PatchEmbedding(channels, width, patch_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + grid**2, width))
        self.blocks = nn.ModuleList(Block(width, heads, drop_path_rate * number / (DEPTH - 1)) for number in range(DEPTH))
        self.norm = nn.LayerNorm(width, NORM_EPSILON)
        self._checkpoints_activations = False
        self._initialize()

    def _initialize(self) -> None:
        """DINO's: truncated normal 0.02 for linear layers and embeddings, zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def _blocks(self) -> list[Block]:
        return cast("list[Block]", list(self.blocks))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether blocks are computed again in the backward pass, instead of keeping their inner values."""
        self._checkpoints_activations = enable

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Class token (B, D) of images (B, C, H, W)."""
        *blocks, last = self._blocks()
        tokens_BTD = self._embed_patches(images_BCHW)
        for block in blocks:
            tokens_BTD = self._through(block, tokens_BTD)
        normalized: torch.Tensor = self.norm(self._through(last.class_token, tokens_BTD))
        return normalized

    def forward_features(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """All tokens after the last norm (B, T, D); the first is what `forward` gives, up to the rounding of another order of sums."""
        tokens_BTD = self._embed_patches(images_BCHW)
        for block in self._blocks():
            tokens_BTD = self._through(block, tokens_BTD)
        normalized: torch.Tensor = self.norm(tokens_BTD)
        return normalized

    def chosen_tokens(self, images_BCHW: torch.Tensor, tokens: Tokens = "class", blocks: int = 1) -> torch.Tensor:
        """Tokens of the last blocks, each after the last norm, as the linear evaluation of DINO's code concatenates them.

        Args:
            images_BCHW: of any size of at least one patch.
            tokens: `class`, `patches` (their mean, of the whole patches) or `class_and_patches` (both).
            blocks: how many of the last blocks.

        Returns:
            (B, blocks · D), or twice as wide with both: side by side from the earliest block to the last one, the class token first.
        """
        layers = self._blocks()
        tokens_BTD = self._embed_patches(images_BCHW)
        chosen: list[torch.Tensor] = []
        for left, block in zip(range(len(layers), 0, -1), layers, strict=True):
            if left == 1 and tokens == "class":
                chosen.append(self.norm(self._through(block.class_token, tokens_BTD)))
                break
            tokens_BTD = self._through(block, tokens_BTD)
            if left <= blocks and tokens != "patches":
                chosen.append(self.norm(tokens_BTD[:, 0]))
            if left <= blocks and tokens != "class":
                chosen.append(self.norm(tokens_BTD[:, 1:]).float().mean(dim=1))
        return torch.cat(chosen, dim=1)

    def _through(self, part: Callable[[torch.Tensor], torch.Tensor], tokens_BTD: torch.Tensor) -> torch.Tensor:
        """A block's output, whose inner values are kept for the backward pass or, with activation checkpointing, computed again in it."""
        if not (self._checkpoints_activations and torch.is_grad_enabled()):
            return part(tokens_BTD)
        computed: torch.Tensor = checkpoint(part, tokens_BTD, use_reentrant=False)
        return computed

    def _embed_patches(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Class token and patches with their positions (B, T, D), before the first block."""
        height, width = images_BCHW.shape[2:]
        patches_BPD = self.patch_embed(images_BCHW)
        tokens_BTD = torch.cat([self.cls_token.expand(patches_BPD.shape[0], -1, -1), patches_BPD], dim=1)
        return tokens_BTD + self.positions(height, width)

    def attention_maps(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """What the class token of the last block attends to, as DINO's visualization shows it (Caron et al. 2021, figure 1).

        The softmax is over all tokens, so that a map sums to one less the class token's attention to itself. Computed from the block's
        queries and keys, whichever implementation of attention the forward pass uses.

        Args:
            images_BCHW: of any size of at least one patch.

        Returns:
            (B, N, rows, columns), a row and a column for each whole patch.
        """
        height, width = images_BCHW.shape[2:]
        tokens_BTD = self._embed_patches(images_BCHW)
        *blocks, last = self._blocks()
        for block in blocks:
            tokens_BTD = block(tokens_BTD)
        weights_BNT: torch.Tensor = last.attn.scores(last.norm1(tokens_BTD)).float().softmax(dim=-1)
        return weights_BNT[..., 1:].reshape(*weights_BNT.shape[:2], height // self.patch_side, width // self.patch_side)

    def seen_size(self, height: int, width: int) -> tuple[int, int]:
        """Whole patches; all of an image that is no square and has the stored grid, since its positions are others (`positions`)."""
        rows, columns = height // self.patch_side, width // self.patch_side
        if height != width and rows == columns == math.isqrt(self.pos_embed.shape[1] - 1):
            return height, width
        return rows * self.patch_side, columns * self.patch_side

    @property
    def patch_side(self) -> int:
        """Height and width of a patch in pixels."""
        return self.patch_embed.proj.kernel_size[0]

    def positions(self, height: int, width: int) -> torch.Tensor:
        """Position embeddings (1, T, D) for images of `height` × `width` pixels, interpolated as DINO does (HANDBOOK, Files).

        Bicubic by the scale factor (n + 0.1)/N per side, without antialiasing, the class token apart. As in the original, the stored
        ones serve square images alone: one of 33 × 32 pixels has the grid of one of 32 × 32 and positions scaled by (n + 0.1)/n.
        """
        stored_1TD: torch.Tensor = self.pos_embed
        rows, columns = height // self.patch_side, width // self.patch_side
        if height == width and rows == math.isqrt(stored_1TD.shape[1] - 1):
            return stored_1TD
        return interpolate_positions(stored_1TD, rows, columns)


class PatchEmbedding(nn.Module):
    """What a convolution whose kernel and stride are a patch gives for every whole patch, row by row, as one matrix product.

    Patches do not overlap, so that the product is the convolution. oneDNN's in bfloat16 is wrong where the output is one pixel and channels
    come last in memory (PyTorch 2.14, AVX-512), and in other cases with AMX (PyTorch 2.11).
    """

    def __init__(self, channels: int, width: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch_size, patch_size)  # holds the parameters by DINO's names

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, patches, D) of images of at least one patch."""
        batch, channels = images_BCHW.shape[:2]  # no len(), which an export of the network would take for a constant
        patch = self.proj.kernel_size[0]
        rows, columns = (length // patch for length in images_BCHW.shape[2:])
        whole_BCHW = images_BCHW[:, :, : rows * patch, : columns * patch]
        parted = whole_BCHW.reshape(batch, channels, rows, patch, columns, patch).permute(0, 2, 4, 1, 3, 5)
        patches_BPK = parted.reshape(batch, rows * columns, channels * patch**2)
        return F.linear(patches_BPK, self.proj.weight.flatten(1), self.proj.bias)


def interpolate_positions(stored_1TD: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Position embeddings (1, 1 + rows · columns, D) from those of a class token and a square grid of patches.

    Bicubic by the scale factor (n + 0.1)/N per side, without antialiasing, the class token apart (HANDBOOK, Files).
    """
    side = math.isqrt(stored_1TD.shape[1] - 1)
    grid = stored_1TD[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid.float(), scale_factor=((rows + 0.1) / side, (columns + 0.1) / side), mode="bicubic", align_corners=False)
    return torch.cat([stored_1TD[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2).to(stored_1TD.dtype)], dim=1)


def vision_transformer(arch: str, patch_size: int, image_size: int, channels: int, drop_path_rate: float) -> DinoVisionTransformer:
    """A vision transformer with random weights from the global generator; `build_backbone` says what the arguments are.

    Raises:
        ConfigError: sizes that do not fit.
    """
    if patch_size not in PATCH_SIZES:
        raise ConfigError(f"model.patch_size: must be 8 or 16, not {patch_size}.")
    if image_size < patch_size:
        raise ConfigError(f"model.image_size: {image_size} pixels hold no patch of {patch_size}; use at least {patch_size}.")
    width, heads = ARCHITECTURES[arch]
    return DinoVisionTransformer(patch_size, image_size // patch_size, channels, width, heads, drop_path_rate)
