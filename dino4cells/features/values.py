"""What extraction computes of each image: features by one network or two, and intensity statistics.

Dimensions: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dino4cells.augment.views import ViewKind
from dino4cells.data.dataset import Batch
from dino4cells.data.images import LARGEST
from dino4cells.data.source import ImageSource
from dino4cells.features.embedding import embed, images_at_once, seen_size
from dino4cells.features.grouping import Size, SizeGroups, Values
from dino4cells.features.intensity import intensity_names, intensity_statistics
from dino4cells.features.shown import ShownChannels
from dino4cells.features.tokens import CLASS_TOKEN, TokenChoice
from dino4cells.models.artifact import NetworkCard
from dino4cells.models.backbone import Backbone


@dataclass(frozen=True)
class CellValues:
    """The columns of a row: features by each network side by side; with two networks, intensity statistics behind them.

    Attributes:
        source: the images.
        view: as the networks see them.
        networks: the trained one and, if baselines are wanted, the untrained one; on `device`.
        card: of the trained one.
        device: where is computed.
        precision: of the networks' matrix products.
        most_at_once: images in a step at most.
        choice: of the networks' tokens.
        only: which channels the networks are shown, where not all of them.
    """

    source: ImageSource
    view: ViewKind
    networks: tuple[Backbone, ...]
    card: NetworkCard
    device: torch.device
    precision: torch.dtype
    most_at_once: int
    choice: TokenChoice = CLASS_TOKEN
    only: ShownChannels | None = None

    @property
    def shown(self) -> ShownChannels:
        """Which channels the networks are shown, and which inputs of the image mode are left."""
        return self.only or ShownChannels.every(self.source)

    @property
    def dim(self) -> int:
        """Columns of one network: its embedding of every input."""
        return self.card.embedding_dim * self.choice.copies * len(self.shown.inputs)

    @property
    def intensities(self) -> tuple[str, ...]:
        """Names of the columns of intensity statistics."""
        if len(self.networks) < 2:
            return ()
        names = self.source.kept_channels
        return tuple(intensity_names([names[position] for position in self.shown.positions]))

    @property
    def columns(self) -> int:
        """How many there are."""
        return self.dim * len(self.networks) + len(self.intensities)

    def of(self, batches: Iterable[Batch]) -> Iterator[Values]:
        """Values of all rows of the batches. Rows come in another order where images wait for others of their size."""
        if self.view.side is not None:
            for batch in batches:
                yield from self._failed(batch)
                yield from map(self._computed, [batch] if len(batch) else [])
            return
        groups = SizeGroups(lambda size: seen_size(self.networks[0], self.view, size), self._enough)
        for read in batches:
            batch = self._without_tiny(read)
            yield from self._failed(batch)
            yield from map(self._computed, groups.add(batch))
        yield from map(self._computed, groups.rest())

    def _enough(self, size: Size) -> int:
        return images_at_once(size, self.device, self.most_at_once)

    @torch.inference_mode()
    def _computed(self, batch: Batch) -> Values:
        """Values of a batch that is not empty."""
        images_BCHW = self.shown.of(batch.images_BCHW)
        parts = [
            embed(network, self.view, replace(batch, images_BCHW=images_BCHW[:, list(given)]), self.card.seed, self.precision, self.choice)
            for network in self.networks
            for given in self.shown.inputs
        ]
        table = torch.cat(parts, dim=1).cpu().numpy()
        return Values(batch.index_B.tolist(), np.hstack([table, self._intensities(batch)]) if self.intensities else table)

    def _intensities(self, batch: Batch) -> NDArray[np.float32]:
        """Intensity statistics (B, columns) of images in [0, 1], of the channels that are shown."""
        images, sizes = batch.images_BCHW[:, list(self.shown.positions)].cpu(), batch.sizes_B2.tolist()
        statistics = [intensity_statistics(image[:, :height, :width].numpy()) for image, (height, width) in zip(images, sizes, strict=True)]
        return np.asarray(np.stack(statistics) / np.float32(LARGEST.get(images.dtype, 1)))

    def _failed(self, batch: Batch) -> Iterator[Values]:
        """The rows of a batch whose image cannot be used."""
        if batch.failures:
            rows = [row for row, _ in batch.failures]
            yield Values(rows, np.full((len(rows), self.columns), np.nan, np.float32), batch.failures)

    def _without_tiny(self, batch: Batch) -> Batch:
        """The batch without images that are too small for the network, such as one that holds no whole patch; they become failures."""
        smallest = self.networks[0].smallest_side
        fits_B = (batch.sizes_B2 >= smallest).all(dim=1)
        if bool(fits_B.all()):
            return batch
        tiny = tuple(
            (
                index,
                f"{self.source.where(index)}: is {height}×{width} px and the model takes {smallest} px and more; "
                "give larger images or resize in testing_transfo.",
            )
            for index, (height, width), fits in zip(batch.index_B.tolist(), batch.sizes_B2.tolist(), fits_B.tolist(), strict=True)
            if not fits
        )
        images, sizes, indices, epochs = (tensor[fits_B] for tensor in (batch.images_BCHW, batch.sizes_B2, batch.index_B, batch.epoch_B))
        return Batch(images, sizes, indices, epochs, failures=(*batch.failures, *tiny))
