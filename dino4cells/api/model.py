"""A trained model in Python: images in memory to features, as extraction computes them from files.

Dimensions: N images, B batch, C channels, H height, W width, D features.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dino4cells import steps
from dino4cells.api.images import Images, batch_of, chosen, images_of, positions
from dino4cells.api.settings import Settings, keys, resolved
from dino4cells.artifacts import SingleFile
from dino4cells.augment.draws import sample_keys
from dino4cells.augment.views import ViewKind
from dino4cells.data.layout import Layout
from dino4cells.data.modes import mode_for, stretch
from dino4cells.data.source import ImageSource
from dino4cells.data.stored import StoredImages
from dino4cells.errors import DataError
from dino4cells.features.embedding import arithmetic
from dino4cells.features.extract import check_network
from dino4cells.features.shown import ShownChannels
from dino4cells.features.tokens import TokenChoice
from dino4cells.features.values import CellValues
from dino4cells.models.artifact import NetworkCard, TrainedModel
from dino4cells.steps.extraction import seen_as_learnt
from dino4cells.steps.inputs import trained_model
from dino4cells.training.distributed import device_of


@dataclass(frozen=True)
class Model:
    """A trained network, ready to embed images. Get one by `load_model`.

    Attributes:
        trained: card, configuration, network and files, as the other parts of dino4cells use them.
        cells: how features are computed: the transforms of extraction, device, precision, tokens, channels that are shown.
    """

    trained: TrainedModel
    cells: CellValues

    @property
    def card(self) -> NetworkCard:
        """What the model is, and (of a model artifact) what it was trained on: `model.json`."""
        return self.trained.card

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that an image must have, in order; `channel_0` … where the training data had no names."""
        return self.card.channels

    def embed(
        self, images: Images, *, channels: Sequence[str] | None = None, white: float | None = None, batch_size: int = 128
    ) -> NDArray[np.float32]:
        """Features of images in memory: what `extract` writes for the same images in files.

        Images are normalized as the model has learnt to see them; give them as the camera did. The same images give the same features,
        in a batch of any size up to rounding.

        Args:
            images: numpy or torch, (N, C, H, W), or one image (C, H, W), or a list of images (C, H, W) whose sizes may differ. Integers
                mean 1 where they are the largest of their type: 255 of uint8, 65535 of uint16, 32767 of int16. Floating point numbers
                lie in [0, 1].
            channels: names of the images' channels, in their order; the model's are found among them by name. None: they are the
                model's (`channels`), in its order.
            white: the value that means 1, such as 4095 of a camera with 12 bits; needed for integers of 32 and 64 bits.
            batch_size: images that are looked at together, at most; bounds the memory that is needed.

        Returns:
            (N, D) float32; one row for one image.

        Raises:
            DataError: another number of channels, values outside of the range, or images smaller than the network takes.

        Example:
            >>> import dino4cells
            >>> dino4cells.load_model("model").embed(images).shape  # doctest: +SKIP
            (100, 192)
        """
        pixels = self._taken(images, channels, white)
        source = _source(self.card, len(pixels))
        cells = replace(self.cells, source=source, most_at_once=batch_size)
        features_ND = np.empty((len(pixels), cells.dim), np.float32)
        batches = (
            batch_of(pixels[first : first + batch_size], first, source.batch_channels).to(cells.device)
            for first in range(0, len(pixels), batch_size)
        )
        for values in cells.of(batches):
            if values.failures:
                raise DataError(values.failures[0][1])
            features_ND[list(values.rows)] = values.table
        return features_ND

    @torch.inference_mode()
    def attention(self, images: Images, *, channels: Sequence[str] | None = None, white: float | None = None) -> NDArray[np.float32]:
        """Where the class token of the last block looks in each image (Caron et al. 2021, figure 1); of vision transformers.

        Args:
            images, channels, white: as `embed` takes them; all images of one size.

        Returns:
            (N, heads, rows, columns) float32, a row and a column for each patch; a map sums to at most 1. In image modes that show the
            network one channel after the other, the heads of each stand side by side.

        Raises:
            ConfigError: the network is no vision transformer.
            DataError: as `embed`, or images of several sizes.
        """
        pixels = self._taken(images, channels, white)
        sizes = {tuple(image.shape[1:]) for image in pixels}
        if len(sizes) != 1:
            found = " and ".join(f"{height}×{width}" for height, width in sorted(sizes)[:2]) or "none"
            raise DataError(f"images: attention maps are made of images of one size, and these have {found}; give one size at a time.")
        maps: list[NDArray[np.float32]] = []
        view, shown = self.cells.view, self.cells.shown
        for first, image in enumerate(pixels):
            batch = batch_of([image], first, image.shape[0]).to(self.cells.device)
            images_1CHW = shown.of(batch.images_BCHW)
            keys_11 = sample_keys(self.card.seed, batch.epoch_B, batch.index_B, torch.zeros_like(batch.index_B))[:, None]
            views = (view.make(images_1CHW[:, list(given)], batch.sizes_B2, keys_11)[0] for given in shown.inputs)
            parts = [self.trained.attention_maps(view_1CHW) for view_1CHW in views]
            maps.append(torch.cat(parts, dim=1).float().cpu().numpy())
        return np.concatenate(maps)

    def _taken(self, images: Images, channels: Sequence[str] | None, white: float | None) -> list[torch.Tensor]:
        """The channels of each image that the image mode uses, as extraction reads them."""
        places = positions(channels, self.channels)
        mode = self.cells.source.mode
        taken = []
        for number, image in enumerate(images_of(images, white)):
            known = chosen(image, places, channels, self.channels, f"image {number}")
            kept = known if mode.kept == tuple(range(len(known))) else known[list(mode.kept)]
            taken.append(stretch(kept) if mode.stretched else kept)
        return taken


def load_model(url: str | os.PathLike[str], config: Settings | None = None, *, device: str = "auto", **keywords: object) -> Model:
    """A trained model: its card, its channels, and `embed` for images in memory.

    Args:
        url: directory or URL of a model artifact, or a checkpoint (`.pth`) of DINO4Cells or DINO.
        config: path, mapping or Config; None: the model's own. A checkpoint holds neither its transforms nor its image mode and channels:
            for it the handbook's when None.
        device: `auto` (a GPU where there is one), `cpu` or `cuda`.
        keywords: keys of the configuration, those of `embedding` first: `precision="float32"`, where `auto` computes the products of a
            model artifact in bfloat16 if the hardware has it, or `tokens="patches"`, `keep_channels=["nucleus"]`.

    Raises:
        ArtifactError: no complete model there.
        CheckpointError: a file that is no network of a known architecture.
        ConfigError: a value is wrong.

    Example:
        >>> model = load_model("model")  # doctest: +SKIP
        >>> model.channels  # doctest: +SKIP
        ('microtubules', 'protein', 'nucleus', 'ER')
    """
    place = os.fspath(url)
    asked = keys(keywords, "embedding")
    settings = resolved(config, "embedding", asked) if config is not None else steps.configuration_of(place, asked)
    trained = trained_model(place, settings)
    settings = seen_as_learnt(settings, trained)
    view = ViewKind.from_sections(settings, ("testing_transfo",))
    here = device_of(device, 0, 1)
    source = _source(trained.card, 0)
    check_network(trained, source, view)
    shown = ShownChannels.from_config(settings, source, trained.card.channels)
    choice = TokenChoice.from_config(settings, trained.backbone, trained.card.arch)
    precision = arithmetic(settings, trained.card, isinstance(trained.artifact, SingleFile), here)
    networks = (trained.backbone.to(here),)
    return Model(trained, CellValues(source, view, networks, trained.card, here, precision, settings.embedding.batch_size, choice, shown))


def _source(card: NetworkCard, count: int) -> ImageSource:
    """Images that have all channels of the model, in its order, called by their numbers."""
    mode = mode_for(card.image_mode, card.channels, where="images", counted=False)
    names = tuple(f"image {number}" for number in range(count))
    return ImageSource(StoredImages("images", names, card.channels, Layout()), tuple(range(len(card.channels))), mode, whole=True)
