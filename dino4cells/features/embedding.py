"""Embeddings of a batch of images: in steps that stay in a processor's cache, in bfloat16 where that is wanted.

Dimensions: B batch, X images of a step, V views of a kind, C channels, H height, W width, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from dino4cells.augment.draws import sample_keys
from dino4cells.augment.views import ViewKind
from dino4cells.config import Config
from dino4cells.data.dataset import Batch
from dino4cells.features.tokens import CLASS_TOKEN, TokenChoice
from dino4cells.models.artifact import NetworkCard
from dino4cells.models.backbone import Backbone
from dino4cells.training.precision import autocast_type, mixed_precision

PIXELS_AT_ONCE = 16 * 224**2
"""Pixels in a step on a CPU: 8 to 32 images of 224 px take the same time each, 64 a fifth more, since they are larger than the cache."""


def arithmetic(config: Config, card: NetworkCard, published: bool, device: torch.device) -> torch.dtype:
    """The type of the network's matrix products, as `embedding.precision` says; the class token and the norms are in float32 always.

    With `auto`, a model artifact is computed in bfloat16 where the hardware has it: its features have a cosine of 0.9999 with float32's
    (vit_small, measured; a test asks for 0.999), at 1.9 times the speed. Of a checkpoint, such as a published one, others have features
    too, which float32 gives again to 1e-4; so it does what is written in the published layout (`steps.extract`).

    Args:
        config: says what is wanted.
        card: the network.
        published: whether the model is a checkpoint and no artifact.
        device: what computes.
    """
    wanted = config.embedding.precision
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    return torch.float32 if published else autocast_type("auto", device, card.arch)


def images_at_once(size: tuple[int, int], device: torch.device, most: int) -> int:
    """Images of this height and width in a step; on a GPU, `most`."""
    return most if device.type != "cpu" else min(most, max(1, PIXELS_AT_ONCE // (size[0] * size[1])))


def seen_size(backbone: Backbone, view: ViewKind, size: tuple[int, int]) -> tuple[int, int]:
    """What the network sees of an image of this height and width; images that agree in it are embedded together."""
    if view.side is not None:
        return view.side, view.side
    return backbone.seen_size(*size) if _keeps_sizes(view) else size


def embed(
    backbone: Backbone,
    view: ViewKind,
    batch: Batch,
    seed: int,
    precision: torch.dtype = torch.float32,
    choice: TokenChoice = CLASS_TOKEN,
) -> torch.Tensor:
    """Embeddings (B, D), float32, of a batch on its device; those of an image are the same in any batch, up to rounding.

    Where `choice` is not the class token alone, D is so many times larger.

    Raises:
        ValueError: the batch is empty.
    """
    if not len(batch):
        raise ValueError("an empty batch has no embeddings")
    embedded_BD: torch.Tensor | None = None
    for rows_X, images_XCHW, (height, width) in _steps(backbone, view, batch):
        index_X, epoch_X = batch.index_B[rows_X], batch.epoch_B[rows_X]
        keys_XV = sample_keys(seed, epoch_X, index_X, torch.zeros_like(index_X))[:, None]
        views_XCHW = view.make(images_XCHW, batch.sizes_B2[rows_X], keys_XV)[0]
        if view.side is None and _keeps_sizes(view):
            views_XCHW = views_XCHW[:, :, :height, :width]
        with mixed_precision(views_XCHW.device, precision):
            tokens_XD = choice.of(backbone, views_XCHW).float()
        embedded_BD = tokens_XD.new_empty(len(batch), tokens_XD.shape[1]) if embedded_BD is None else embedded_BD
        embedded_BD[rows_X] = tokens_XD
    assert embedded_BD is not None
    return embedded_BD


def _keeps_sizes(view: ViewKind) -> bool:
    return not any(stage.geometric for stage in view.stages)


def _steps(backbone: Backbone, view: ViewKind, batch: Batch) -> Iterator[tuple[torch.Tensor, torch.Tensor, tuple[int, int]]]:
    """Rows of the batch that are embedded together, their images, and what the network sees of each."""
    device, count = batch.images_BCHW.device, len(batch)
    if view.side is not None:  # which sizes there are is not asked: the host would wait for a GPU
        size, at_once = (view.side, view.side), images_at_once((view.side, view.side), device, count)
        for start in range(0, count, at_once):
            rows_X = torch.arange(start, min(start + at_once, count), device=device)
            yield rows_X, batch.images_BCHW[rows_X], size
        return
    sizes: list[tuple[int, int]] = [(height, width) for height, width in batch.sizes_B2.tolist()]
    seen_of = {size: seen_size(backbone, view, size) for size in set(sizes)}
    groups: dict[tuple[int, int], list[int]] = {}
    for row, size in enumerate(sizes):
        groups.setdefault(seen_of[size], []).append(row)
    for seen, rows in groups.items():
        at_once = images_at_once(seen, device, count)
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            height, width = (max(sizes[row][side] for row in some) for side in range(2))
            rows_X = torch.tensor(some, device=device)
            yield rows_X, batch.images_BCHW[rows_X, :, :height, :width], seen
