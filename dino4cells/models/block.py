"""The vision transformer's block (Dosovitskiy et al. 2021, §3.1), computed in the form that is fast on the device.

Parameters have DINO's names, which are timm's too. Dimensions: B batch, T tokens (class token first), Q tokens that are asked for,
D embedding, N heads, E embedding of a head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

# Beyond so many tokens, the weights of attention between all pairs are larger than anything else in the network.
MOST_TOKENS_OF_PLAIN_ATTENTION = 2048


NORM_EPSILON = 1e-6
PERCEPTRON_RATIO = 4  # its hidden units for each of D


class Block(nn.Module):
    """Attention and perceptron, each added to what it sees.

    Args:
        width: D.
        heads: N, a divisor of D.
        drop_path_rate: how often each of the two is left out of an image while training (stochastic depth, Huang et al. 2016).
    """

    def __init__(self, width: int, heads: int, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, NORM_EPSILON), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, NORM_EPSILON), Perceptron(width)
        self.drop_path_rate = drop_path_rate

    def forward(self, tokens_BTD: torch.Tensor) -> torch.Tensor:
        """All tokens (B, T, D)."""
        return self._tokens(tokens_BTD, tokens_BTD.shape[1])

    def class_token(self, tokens_BTD: torch.Tensor) -> torch.Tensor:
        """The class token (B, D), as it is among the tokens of `forward`.

        No other token of a last block is used. Their keys and values are; their queries, attention and perceptron are left out.
        """
        return self._tokens(tokens_BTD, 1)[:, 0]

    def _tokens(self, tokens_BTD: torch.Tensor, count: int) -> torch.Tensor:
        """The first `count` tokens (B, Q, D) after the block."""
        rate = self.drop_path_rate if self.training else 0.0
        attended = Residual.draw(tokens_BTD, rate)
        first_BQD = attended.add(tokens_BTD[:, :count], self.attn(self.norm1(attended.seen(tokens_BTD)), count))
        perceived = Residual.draw(first_BQD, rate)
        return perceived.add(first_BQD, self.mlp(self.norm2(perceived.seen(first_BQD))))


class Perceptron(nn.Module):
    """Two linear layers and a GELU, of every token by itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, PERCEPTRON_RATIO * width), nn.Linear(PERCEPTRON_RATIO * width, width)

    def forward(self, tokens_BQD: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.fc2(F.gelu(self.fc1(tokens_BQD)))
        return mixed


class Attention(nn.Module):
    """Of N heads, each over all tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, width // heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens_BTD: torch.Tensor, count: int) -> torch.Tensor:
        """What the first `count` tokens gather from all (B, Q, D); the tokens come from the norm."""
        width = tokens_BTD.shape[2]
        if count == tokens_BTD.shape[1]:
            queries_BNQE, keys_BNTE, values_BNTE = self._heads(self.qkv(tokens_BTD)).unbind(0)
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            (queries_BNQE,) = self._heads(F.linear(tokens_BTD[:, :count], weight[:width], bias[:width]))
            keys_BNTE, values_BNTE = self._heads(F.linear(tokens_BTD, weight[width:], bias[width:])).unbind(0)
        gathered_BNQE = attend(queries_BNQE, keys_BNTE, values_BNTE)
        mixed: torch.Tensor = self.proj(gathered_BNQE.transpose(1, 2).flatten(2))
        return mixed

    def scores(self, tokens_BTD: torch.Tensor) -> torch.Tensor:
        """q·kᵀ/√E of the class token (B, N, T)."""
        queries_BNTE, keys_BNTE, _ = self._heads(self.qkv(tokens_BTD)).unbind(0)
        scores_BN1T = queries_BNTE[:, :, :1] @ keys_BNTE.mT / math.sqrt(self.head_dim)
        return scores_BN1T[:, :, 0]

    def _heads(self, projected: torch.Tensor) -> torch.Tensor:
        """(kinds, B, N, T, E) of projections (B, T, kinds · N · E), in this order in memory too, which the products want."""
        batch, tokens, width = projected.shape
        kinds = width // (self.num_heads * self.head_dim)  # not -1: a batch may be empty
        parts = projected.view(batch, tokens, kinds, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        return parts.contiguous() if parts.device.type == "cpu" else parts


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
