"""What a classifier is fed with: features in memory, or images that pass the views of the configuration.

Dimensions: B batch, N cells, C channels, H, W, D features.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dino4cells.augment.draws import sample_keys
from dino4cells.augment.views import ViewKind
from dino4cells.classify.cells import ImageCells
from dino4cells.classify.classifier import Classifier
from dino4cells.config import Config
from dino4cells.data.dataset import Batch, CellImages
from dino4cells.data.loading import BatchLoader, load_batches
from dino4cells.data.sampler import SampleStream
from dino4cells.data.source import ImageSource
from dino4cells.errors import ConfigError, DataError
from dino4cells.features.embedding import embed
from dino4cells.features.parts import Batches, Rows
from dino4cells.models.artifact import NetworkCard

TRAINING_SECTIONS = ("global_transfo1", "flip_and_color_jitter_transforms", "global_aug1", "normalization")
"""A training image is the first global view of self-supervised training, as in the paper's script."""
LISTED_FAILURES = 20
FEATURES_AT_ONCE = 4096
logger = logging.getLogger(__name__)

Share = tuple[torch.Tensor, torch.Tensor]
"""What a process has of a step or of a pass over the cells: a tensor of B rows, and the B numbers of their cells."""


class Inputs(Protocol):
    """Cells by number, as a classifier takes them."""

    def __len__(self) -> int: ...

    def steps(self, stream: SampleStream) -> Iterator[Share]:
        """What the classifier's `forward` takes, and the cells, of each training step; fewer where images cannot be read."""

    def features(self, classifier: Classifier, start: int, stop: int) -> Iterator[Share]:
        """The features of the cells `start` … `stop` − 1 in evaluation, in batches; without those whose image cannot be read."""


@dataclass(frozen=True)
class LabelledInputs:
    """Cells and what is known about them.

    Attributes:
        targets_NK: float32 zeros and ones.
        known_N: whether a cell's label is known; others are predicted and not judged.
    """

    inputs: Inputs
    targets_NK: NDArray[np.float32]
    known_N: NDArray[np.bool_]


class FeatureInputs:
    """Features (N, D) on the device of the classifier."""

    def __init__(self, values_ND: NDArray[np.float32], device: torch.device) -> None:
        self.values_ND = torch.from_numpy(values_ND).to(device)

    def __len__(self) -> int:
        return len(self.values_ND)

    def steps(self, stream: SampleStream) -> Iterator[Share]:
        for keys in stream:
            rows_B = torch.tensor([row for _, row in keys], dtype=torch.int64, device=self.values_ND.device)
            yield self.values_ND[rows_B], rows_B

    def features(self, classifier: Classifier, start: int, stop: int) -> Iterator[Share]:
        for first in range(start, stop, FEATURES_AT_ONCE):
            rows_B = torch.arange(first, min(first + FEATURES_AT_ONCE, stop), device=self.values_ND.device)
            yield self.values_ND[rows_B], rows_B


class ImageInputs:
    """Images, augmented in training.

    Args:
        cells: the table.
        source: the images of its rows.
        config: `model` and the sections of transforms; `classification` for the batch and the workers.
        device: where views are made.

    Raises:
        ConfigError: a training view has no transform that fits images to one size.
    """

    def __init__(self, cells: ImageCells, source: ImageSource, config: Config, device: torch.device) -> None:
        self.cells, self.device = cells, device
        self.images = CellImages(source)
        self.training_view = ViewKind.from_sections(config, TRAINING_SECTIONS)
        self.testing_view = ViewKind.from_sections(config, ("testing_transfo",))
        if self.training_view.side is None:
            raise ConfigError("global_transfo1: no active transform fits the images to one size; add RandomResizedCrop with a 'size'.")
        self.seed, self.limit = config.classification.seed, config.model.max_bad_images
        self.batch_size = config.embedding.batch_size
        self.workers = config.classification.num_workers if device.type == "cuda" else 0
        self.failures: dict[int, str] = {}
        self._loaders: dict[tuple[int, int], BatchLoader] = {}

    def __len__(self) -> int:
        return len(self.images)

    def check_channels(self, card: NetworkCard) -> None:
        """Refuse views that give the backbone another number of channels than it takes.

        Raises:
            ConfigError: says both numbers.
        """
        taken = card.in_channels or len(card.channels)
        for section, view in (("global_transfo1", self.training_view), ("testing_transfo", self.testing_view)):
            given = view.channels_after(self.images.source.in_channels)
            if given != taken:
                raise ConfigError(
                    f"{section}: gives the network {given} channels and it takes {taken}; use the transforms of its training."
                )

    def steps(self, stream: SampleStream) -> Iterator[Share]:
        with iter(load_batches(self.images, stream, self.workers, self.device)) as batches:
            for batch in batches:
                self._note_failures(batch)
                keys_BV = sample_keys(self.seed, batch.epoch_B, batch.index_B, torch.zeros_like(batch.index_B))[:, None]
                yield self.training_view.make(batch.images_BCHW, batch.sizes_B2, keys_BV)[0], batch.index_B

    def features(self, classifier: Classifier, start: int, stop: int) -> Iterator[Share]:
        if classifier.backbone is None:
            raise ValueError("images need a classifier with a backbone")
        with iter(self._in_order(start, stop)) as batches:
            for batch in batches:
                self._note_failures(batch)
                if len(batch):
                    yield embed(classifier.backbone, self.testing_view, batch, self.seed), batch.index_B

    def _in_order(self, start: int, stop: int) -> BatchLoader:
        """Batches of these rows; the processes that read them stay for the next epoch's validation."""
        if (start, stop) not in self._loaders:
            batches = Batches([Rows(number=0, start=start, stop=stop)], self.batch_size)
            self._loaders[start, stop] = load_batches(self.images, batches, self.workers, self.device)
        return self._loaders[start, stop]

    def _note_failures(self, batch: Batch) -> None:
        for row, reason in batch.failures:
            if row not in self.failures:
                self.failures[row] = reason
                if len(self.failures) <= LISTED_FAILURES:
                    logger.warning("Skipped: %s", reason)
        if len(self.failures) > (max(1, int(self.limit * len(self))) if self.limit else 0):
            raise DataError(
                f"{len(self.failures)} of {len(self)} images in {self.cells.source} cannot be read, more than model.max_bad_images "
                f"({self.limit:.1%}) allows; mend them or raise the limit; the first says: {next(iter(self.failures.values()))}"
            )
