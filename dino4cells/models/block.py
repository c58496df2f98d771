"""The vision transformer's block (Dosovitskiy et al. 2021, §3.1) on timm's layers, computed in the form that is fast on the device.

Dimensions: B batch, T tokens (class token first), Q tokens that are asked for, D embedding, N heads, E embedding of a head.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block as TimmBlock
from torch import nn

# Beyond so many tokens, the weights of attention between all pairs are larger than anything else in the network.
MOST_TOKENS_OF_PLAIN_ATTENTION = 2048


class Block(TimmBlock):
    """Attention and perceptron, each added to what it sees; parameters and their names are timm's, which are DINO's."""

    def forward(self, tokens_BTD: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # no attention masks here
        """All tokens (B, T, D)."""
        return self._tokens(tokens_BTD, tokens_BTD.shape[1])

    def class_token(self, tokens_BTD: torch.Tensor) -> torch.Tensor:
        """The class token (B, D), as it is among the tokens of `forward`.

        No other token of a last block is used. Their keys and values are; their queries, attention and perceptron are left out.
        """
        return self._tokens(tokens_BTD, 1)[:, 0]

    def _tokens(self, tokens_BTD: torch.Tensor, count: int) -> torch.Tensor:
        """The first `count` tokens (B, Q, D) after the block."""
        attended = Residual.draw(tokens_BTD, _rate(self.drop_path1))
        first_BQD = attended.add(tokens_BTD[:, :count], attention(self.attn, self.norm1(attended.seen(tokens_BTD)), count))
        perceived = Residual.draw(first_BQD, _rate(self.drop_path2))
        return perceived.add(first_BQD, self.mlp(self.norm2(perceived.seen(first_BQD))))


def _rate(drop_path: nn.Module) -> float:
    """How often a branch is left out."""
    return float(getattr(drop_path, "drop_prob", 0.0)) if drop_path.training else 0.0


class Residual:
    """A branch beside the identity, left out of some images (stochastic depth, Huang et al. 2016) and larger in the others for it.

    A processor does not compute what is left out. A GPU multiplies it by zero: to gather the others, the host would have to wait for it.
    """

    def __init__(self, mask_B: torch.Tensor | None, kept_B: torch.Tensor | None, share: float) -> None:
        self._mask_B, self._kept_B, self._share = mask_B, kept_B, share

    @classmethod
    def draw(cls, tokens_BTD: torch.Tensor, rate: float) -> Residual:
        """Leave each image of a batch out with probability `rate`."""
        if rate == 0:
            return cls(None, None, 1.0)
        mask_B = torch.rand(len(tokens_BTD), device=tokens_BTD.device) >= rate
        return cls(mask_B, mask_B.nonzero()[:, 0] if gathers_on(tokens_BTD.device) else None, 1 - rate)

    def seen(self, tokens_BTD: torch.Tensor) -> torch.Tensor:
        """The tokens that the branch is to compute on."""
        return tokens_BTD if self._kept_B is None else tokens_BTD.index_select(0, self._kept_B)

    def add(self, tokens_BTD: torch.Tensor, branch_BTD: torch.Tensor) -> torch.Tensor:
        """The tokens and the branch."""
        if self._mask_B is None:
            return tokens_BTD + branch_BTD
        if self._kept_B is None:
            return tokens_BTD + branch_BTD * (self._mask_B / self._share).to(branch_BTD.dtype)[:, None, None]
        return tokens_BTD.index_add(0, self._kept_B, branch_BTD.to(tokens_BTD.dtype), alpha=1 / self._share)


def gathers_on(device: torch.device) -> bool:
    """Whether branches are computed on the images that keep them alone; a compiled network wants one shape."""
    return device.type == "cpu" and not torch.compiler.is_compiling()


def attention(layer: Any, tokens_BTD: torch.Tensor, count: int) -> torch.Tensor:
    """What the first `count` tokens gather from all (B, Q, D).

    Args:
        layer: timm's attention, whose `qkv` projects to queries, keys and values, and `proj` back.
        tokens_BTD: after the norm.
        count: Q.
    """
    width = tokens_BTD.shape[2]
    if count == tokens_BTD.shape[1]:
        projected = _heads(layer, layer.qkv(tokens_BTD))
        queries_BNQE, keys_BNTE, values_BNTE = projected.unbind(0)
    else:
        weight, bias = layer.qkv.weight, layer.qkv.bias
        (queries_BNQE,) = _heads(layer, F.linear(tokens_BTD[:, :count], weight[:width], bias[:width]))
        keys_BNTE, values_BNTE = _heads(layer, F.linear(tokens_BTD, weight[width:], bias[width:])).unbind(0)
    gathered_BNQE = attend(queries_BNQE, keys_BNTE, values_BNTE)
    mixed: torch.Tensor = layer.proj(gathered_BNQE.transpose(1, 2).flatten(2))
    return mixed


def _heads(layer: Any, projected: torch.Tensor) -> torch.Tensor:
    """(kinds, B, N, T, E) of projections (B, T, kinds · N · E), in this order in memory too, which the products want."""
    batch, tokens, width = projected.shape
    kinds = width // (layer.num_heads * layer.head_dim)  # not -1: a batch may be empty
    parts = projected.view(batch, tokens, kinds, layer.num_heads, layer.head_dim).permute(2, 0, 3, 1, 4)
    return parts.contiguous() if parts.device.type == "cpu" else parts


def attend(queries_BNQE: torch.Tensor, keys_BNTE: torch.Tensor, values_BNTE: torch.Tensor) -> torch.Tensor:
    """softmax(q·kᵀ/√E)·v, (B, N, Q, E).

    PyTorch's fused form, except on a CPU in bfloat16, where two products and a softmax take two fifths of its time with 197 tokens, and
    an eighth with 37 (forward and backward, PyTorch 2.14 on AVX-512; in float32 both take as long).
    """
    tokens = keys_BNTE.shape[2]
    if keys_BNTE.device.type != "cpu" or keys_BNTE.dtype != torch.bfloat16 or tokens > MOST_TOKENS_OF_PLAIN_ATTENTION:
        return F.scaled_dot_product_attention(queries_BNQE, keys_BNTE, values_BNTE)
    scores_BNQT = (queries_BNQE / math.sqrt(queries_BNQE.shape[-1])) @ keys_BNTE.mT
    return scores_BNQT.softmax(dim=-1) @ values_BNTE
