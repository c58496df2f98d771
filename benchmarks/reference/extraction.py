"""From files to features in fp32, each image at its own size after its own normalization."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.reference.images import read_image, to_tensor
from benchmarks.reference.transforms import self_normalize


class NormalizedCells(Dataset[torch.Tensor]):
    """The image of each file after `testing_transfo`, which keeps its size."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self_normalize(to_tensor(read_image(self.paths[index])))


@torch.no_grad()
def extract(backbone: nn.Module, paths: Sequence[Path], batch_size: int = 64, workers: int = 2) -> NDArray[np.float32]:
    """Class tokens (N, D) of images of one size, in the order of the paths."""
    loader = DataLoader(NormalizedCells(paths), batch_size, num_workers=workers)
    return np.concatenate([backbone(images).numpy() for images in loader])
