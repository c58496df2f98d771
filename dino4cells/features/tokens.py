"""Which tokens of a vision transformer are the features.

Dimensions: B batch, C channels, H height, W width, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from dino4cells.config import Config
from dino4cells.config.embedding import Tokens
from dino4cells.errors import ConfigError
from dino4cells.models.backbone import Backbone
from dino4cells.models.vit import DinoVisionTransformer


@dataclass(frozen=True)
class TokenChoice:
    """`embedding.tokens` and `embedding.blocks`."""

    tokens: Tokens = "class"
    blocks: int = 1

    @classmethod
    def from_config(cls, config: Config, backbone: Backbone, arch: str) -> TokenChoice:
        """The configuration's, for a network that has them.

        Raises:
            ConfigError: the network is no vision transformer, or has fewer blocks.
        """
        choice = cls(config.embedding.tokens, config.embedding.blocks)
        if choice == CLASS_TOKEN:
            return choice
        if not isinstance(backbone, DinoVisionTransformer):
            key = "tokens" if choice.tokens != "class" else "blocks"
            raise ConfigError(
                f"{config.where('embedding', key)} is {getattr(choice, key)}, and {arch} has no tokens to choose from; "
                "leave it out, or use a vision transformer."
            )
        if choice.blocks > len(backbone.blocks):
            raise ConfigError(
                f"{config.where('embedding', 'blocks')} is {choice.blocks}, and {arch} has {len(backbone.blocks)} blocks; ask for no more."
            )
        return choice

    @property
    def copies(self) -> int:
        """How many embeddings of width D stand side by side."""
        return self.blocks * (2 if self.tokens == "class_and_patches" else 1)

    def of(self, backbone: Backbone, images_BCHW: torch.Tensor) -> torch.Tensor:
        """The chosen tokens (B, copies · D) of images (B, C, H, W); of the class token alone what `forward` gives, at its speed."""
        if self == CLASS_TOKEN or not isinstance(backbone, DinoVisionTransformer):
            embedded_BD: torch.Tensor = backbone(images_BCHW)
            return embedded_BD
        return backbone.chosen_tokens(images_BCHW, self.tokens, self.blocks)


CLASS_TOKEN: Final = TokenChoice()
"""The default, and the one choice for a network that is no vision transformer."""
