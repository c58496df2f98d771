"""Pictures of cells read for a page: a few of each class, drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dino4cells.config import ModelConfig
from dino4cells.data.dataset import CellImages
from dino4cells.data.metadata import Metadata
from dino4cells.data.source import image_source, source_for_model
from dino4cells.features.store import FeaturesCard
from dino4cells.report.cells import stretch_limits
from dino4cells.report.labels import by_number
from dino4cells.report.pictures import CellPictures
from dino4cells.report.sheet import MOST_EXAMPLES

SCALED_BY = 4  # examples of each class whose intensities say what black and white are


def draw_examples(rows: np.ndarray, labels: np.ndarray) -> dict[str, list[int]]:
    """A few rows of each class, at random: even steps through a table would meet the same line or plate again and again.

    Args:
        rows: (M,) int, of the table.
        labels: (M,) str, their classes.
    """
    random = np.random.default_rng(0)
    chosen: dict[str, list[int]] = {}
    for name in sorted(set(labels.tolist()), key=by_number):
        members = rows[labels == name]
        chosen[name] = [int(row) for row in random.choice(members, min(MOST_EXAMPLES, len(members)), replace=False)]
    return chosen


def example_reader(metadata: Metadata, card: FeaturesCard) -> CellImages:
    """The images of a table with the channels of the model, or, where nobody knows the model, with all they have.

    Raises:
        Dino4CellsError: the first images cannot be read, or their channels are not the model's.
    """
    if not card.channels:
        return CellImages(image_source(metadata, ModelConfig()))
    mapping = card.channels_of_data if card.channels_of_data != card.channels else None
    return CellImages(source_for_model(metadata, card.channels, "normalized", mapping=mapping, named=card.channels_of_data))


def read_examples(images: CellImages, chosen: Mapping[str, Sequence[int]]) -> dict[str, list[np.ndarray]]:
    """The images (C, H, W) of the chosen rows; one that cannot be read is left out."""
    examples: dict[str, list[np.ndarray]] = {}
    for name, indices in chosen.items():
        batch = images.__getitems__([(0, index) for index in indices])
        pictures = zip(batch.images_BCHW, batch.sizes_B2.tolist(), strict=True)
        examples[name] = [image[:, :height, :width].numpy() for image, (height, width) in pictures]
    return examples


def cell_pictures(images: CellImages, channels: Sequence[str], examples: Mapping[str, Sequence[np.ndarray]]) -> CellPictures | None:
    """All images on the scale of intensity of the examples; None where no example could be read."""
    some = [picture for pictures in examples.values() for picture in pictures[:SCALED_BY]]
    return CellPictures(images, channels, stretch_limits(some, channels)) if some else None
