"""What every backbone offers: an embedding of images of any size that is not too small.

Dimensions: B batch, C channels, H height, W width, D embedding.
"""

from __future__ import annotations

import torch
from torch import nn

from dino4cells.errors import ConfigError


class Backbone(nn.Module):
    """A network whose `forward` gives embeddings (B, D) of images (B, C, H, W).

    Attributes:
        embed_dim: D.
        smallest_side: height and width in pixels that an image must have at least.
    """

    embed_dim: int
    smallest_side: int

    def seen_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what is looked at in an image: images that agree in it may be embedded together, cropped to it."""
        return height, width

    def attention_maps(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """What the class token of the last block attends to: (B, heads, rows, columns), where the network has one.

        Raises:
            ConfigError: the network is no vision transformer.
        """
        raise ConfigError(
            f"model.arch: {type(self).__name__} has no class token and so no attention maps; "
            "they are to be had from vit_tiny, vit_small and vit_base."
        )
