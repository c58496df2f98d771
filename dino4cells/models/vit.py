"""Vision transformers as DINO trains them, on timm's implementation, whose parameters have DINO's names.

Dimensions: B batch, C channels, H height, W width, T tokens (class token first), D embedding.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from dino4cells.errors import ConfigError

# Width and heads of the published architectures; all have twelve blocks.
ARCHITECTURES = {"vit_tiny": (192, 3), "vit_small": (384, 6), "vit_base": (768, 12)}
DEPTH = 12
PATCH_SIZES = (8, 16)


class DinoVisionTransformer(VisionTransformer):
    """A ViT whose output is the normalized class token, for images of any size of at least one patch.

    Pixels at the right and bottom that do not fill a patch are not seen, as in the original's strided convolution.
    """

    pos_embed: nn.Parameter
    cls_token: nn.Parameter

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # no attention masks here
        """Class token (B, D) of images (B, C, H, W)."""
        tokens_BTD: torch.Tensor = self.forward_features(images_BCHW)
        return tokens_BTD[:, 0]

    def forward_features(self, images_BCHW: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """All tokens after the last norm (B, T, D)."""
        height, width = images_BCHW.shape[2:]
        patch = self.patch_side
        tokens_BTD = self.patch_embed(images_BCHW[:, :, : height // patch * patch, : width // patch * patch])
        tokens_BTD = torch.cat([self.cls_token.expand(len(tokens_BTD), -1, -1), tokens_BTD], dim=1)
        tokens_BTD = self.pos_drop(tokens_BTD + self.positions(height, width))
        tokens_BTD = self.blocks(tokens_BTD)
        normalized: torch.Tensor = self.norm(tokens_BTD)
        return normalized

    @property
    def patch_side(self) -> int:
        """Height and width of a patch in pixels."""
        return int(self.patch_embed.patch_size[0])

    def positions(self, height: int, width: int) -> torch.Tensor:
        """Position embeddings (1, T, D) for images of `height` × `width` pixels, interpolated as DINO does (HANDBOOK, Files).

        Bicubic by the scale factor (n + 0.1)/N per side, without antialiasing, the class token apart. As in the original, the stored
        ones serve square images alone: one of 33 × 32 pixels has the grid of one of 32 × 32 and positions scaled by (n + 0.1)/n.
        """
        stored_1TD: torch.Tensor = self.pos_embed
        side = math.isqrt(stored_1TD.shape[1] - 1)
        rows, columns = height // self.patch_side, width // self.patch_side
        if height == width and rows == side:
            return stored_1TD
        grid = stored_1TD[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid.float(), scale_factor=((rows + 0.1) / side, (columns + 0.1) / side), mode="bicubic", align_corners=False)
        return torch.cat([stored_1TD[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2).to(stored_1TD.dtype)], dim=1)


def build_backbone(
    arch: str, patch_size: int, image_size: int, channels: int, *, drop_path_rate: float = 0.0, seed: int = 0
) -> DinoVisionTransformer:
    """A vision transformer with random weights that depend on `seed` alone.

    Args:
        arch: `vit_tiny` (192 wide, 3 heads), `vit_small` (384, 6) or `vit_base` (768, 12); `deit_*` are aliases.
        patch_size: 8 or 16 pixels.
        image_size: side in pixels that the stored position embeddings belong to.
        channels: of the images.
        drop_path_rate: of the last block, rising linearly from 0 (stochastic depth, Huang et al. 2016).

    Raises:
        ConfigError: unknown architecture, or sizes that do not fit.
    """
    name = arch.replace("deit_", "vit_")
    if name not in ARCHITECTURES:
        raise ConfigError(f"model.arch: '{arch}' is not available; choose one of {', '.join(ARCHITECTURES)}.")
    if patch_size not in PATCH_SIZES:
        raise ConfigError(f"model.patch_size: must be 8 or 16, not {patch_size}.")
    if image_size < patch_size:
        raise ConfigError(f"model.image_size: {image_size} pixels hold no patch of {patch_size}; use at least {patch_size}.")
    width, heads = ARCHITECTURES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = DinoVisionTransformer(
            img_size=image_size // patch_size * patch_size,
            patch_size=patch_size,
            in_chans=channels,
            num_classes=0,
            global_pool="token",
            embed_dim=width,
            depth=DEPTH,
            num_heads=heads,
            qkv_bias=True,
            drop_path_rate=drop_path_rate,
            norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
        )
        backbone.patch_embed.strict_img_size = False  # positions are interpolated here, see `positions`
        _initialize(backbone)
    return backbone


def _initialize(backbone: DinoVisionTransformer) -> None:
    """DINO's: truncated normal 0.02 for linear layers and embeddings, zero biases."""
    for module in backbone.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.trunc_normal_(backbone.pos_embed, std=0.02)
    nn.init.trunc_normal_(backbone.cls_token, std=0.02)


def use_plain_attention(backbone: nn.Module) -> None:
    """Replace the fused attention by matrix products: on CPU the fused backward is the slower one in bfloat16."""
    for module in backbone.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]  # timm's attribute, unknown to nn.Module
