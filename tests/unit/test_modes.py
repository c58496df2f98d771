"""The fifteen image modes: which channels a batch holds, for 1 to 12 channels, with names and without."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dino4cells.config import ModelConfig
from dino4cells.config.model import IMAGE_MODES, ImageMode
from dino4cells.data.dataset import CellImages, to_unit_range
from dino4cells.data.metadata import read_metadata
from dino4cells.data.modes import mode_for, stretch
from dino4cells.data.source import ImageSource, image_source, source_for_model
from dino4cells.errors import ConfigError, DataError

HPA = ("microtubules", "protein", "nucleus", "ER")
WHERE = "cells/metadata.csv"


def pixels(row: int, channels: int, bits: int = 8) -> NDArray[np.generic]:
    kind = np.uint8 if bits == 8 else np.uint16
    return np.random.default_rng((row, channels)).integers(1, 2**bits, (channels, 6, 5), dtype=kind)


def source(
    directory: Path, channels: int, names: tuple[str, ...] | None = None, rows: int = 3, bits: int = 8, **model: object
) -> ImageSource:
    for row in range(rows):
        np.save(directory / f"{row}.npy", pixels(row, channels, bits))
    (directory / "metadata.csv").write_text("file\n" + "".join(f"{row}.npy\n" for row in range(rows)))
    if names:
        (directory / "channels.txt").write_text("\n".join(names) + "\n")
    return image_source(read_metadata(str(directory)), ModelConfig.model_validate(model))


def batch(images: ImageSource, rows: int = 3, epoch: int = 0) -> torch.Tensor:
    read = CellImages(images).__getitems__([(epoch, row) for row in range(rows)])
    assert read.failures == ()
    return read.images_BCHW


def stored(rows: int, channels: int, *chosen: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([pixels(row, channels)[list(chosen)] for row in range(rows)]))


# All channels


@pytest.mark.parametrize("channels", range(1, 13))
def test_normalized_takes_any_number_of_channels(tmp_path: Path, channels: int) -> None:
    assert torch.equal(batch(source(tmp_path, channels)), stored(3, channels, *range(channels)))


@pytest.mark.parametrize(("mode", "number"), [("normalized_3_channels", 3), ("normalized_4_channels", 4), ("unnormalized_4_channels", 4)])
@pytest.mark.parametrize("channels", range(1, 13))
def test_modes_with_a_number_take_that_number(tmp_path: Path, mode: str, number: int, channels: int) -> None:
    if channels == number:
        assert source(tmp_path, channels, image_mode=mode).in_channels == number
        return
    with pytest.raises(DataError) as caught:
        source(tmp_path, channels, image_mode=mode)
    assert f"0.npy: the images have {channels} channels (channel_0" in str(caught.value)
    assert f"and model.image_mode {mode} takes {number}; " in str(caught.value)
    assert ("choose another mode." in str(caught.value)) == (channels < number)
    assert ("name those to use in model.channels" in str(caught.value)) == (channels > number)


@pytest.mark.parametrize("bits", [8, 16])
def test_normalized_images_lie_between_zero_and_one_by_their_bits(tmp_path: Path, bits: int) -> None:
    images = to_unit_range(batch(source(tmp_path, 4, bits=bits, image_mode="normalized_4_channels")))
    expected = np.stack([pixels(row, 4, bits) for row in range(3)]) / (2**bits - 1)
    torch.testing.assert_close(images, torch.from_numpy(expected).float())


@pytest.mark.parametrize("bits", [8, 16])
def test_unnormalized_channels_are_stretched_one_by_one(tmp_path: Path, bits: int) -> None:
    images = to_unit_range(batch(source(tmp_path, 4, bits=bits, image_mode="unnormalized_4_channels")))
    for row, image in enumerate(images.double()):
        array = pixels(row, 4, bits).astype(float)
        low, high = array.min(axis=(1, 2), keepdims=True), array.max(axis=(1, 2), keepdims=True)
        # As in the published code, 8 bits stay 8 bits: cut off to whole grey values.
        assert np.abs(image.numpy() - (array - low) / (high - low)).max() < (1 / 255 if bits == 8 else 1e-6)
        assert (image.amin(dim=(1, 2)) == 0).all()
        assert (image.amax(dim=(1, 2)) == 1).all()


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16, torch.float32])
def test_a_channel_without_contrast_becomes_zeros(kind: torch.dtype) -> None:
    image = torch.zeros(3, 4, 4, dtype=kind)
    image[1] = 1
    image[2, 0, 0] = 1
    stretched = stretch(image)
    assert stretched.dtype == (torch.uint8 if kind == torch.uint8 else torch.float32)
    assert not stretched[:2].any()
    assert stretched[2].sum() == stretched[2, 0, 0] == (255 if kind == torch.uint8 else 1)


# One channel by its role


@pytest.mark.parametrize(("letter", "place"), list(zip("rgby", range(4), strict=True)))
@pytest.mark.parametrize("copies", [1, 3])
def test_single_channels_follow_the_protein_atlas_where_channels_have_no_names(
    tmp_path: Path, letter: str, place: int, copies: int
) -> None:
    mode = f"single_channel_{letter}" + ("_no_triple" if copies == 1 else "")
    images = source(tmp_path, 4, image_mode=mode)
    assert images.in_channels == copies
    assert images.kept_channels == (f"channel_{place}",)
    assert torch.equal(batch(images), stored(3, 4, *[place] * copies))


@pytest.mark.parametrize(("letter", "name"), list(zip("rgby", HPA, strict=True)))
def test_names_say_which_channel_is_which_where_there_are_names(tmp_path: Path, letter: str, name: str) -> None:
    names = ("ER", "nucleus", "Protein", "microtubules")
    images = source(tmp_path, 4, names, image_mode=f"single_channel_{letter}_no_triple")
    assert images.channels == names
    assert images.kept_channels[0].lower() == name.lower()
    assert torch.equal(batch(images), stored(3, 4, [each.lower() for each in names].index(name.lower())))


@pytest.mark.parametrize(
    "names", [("red", "green", "blue", "yellow"), ("r", "g", "b", "y"), ("tubulin", "antibody", "DAPI", "endoplasmic reticulum")]
)
def test_the_names_of_colours_and_stains_are_understood(names: tuple[str, ...]) -> None:
    for place, letter in enumerate("rgby"):
        assert mode_for(f"single_channel_{letter}", names, where=WHERE).kept == (place,)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["single_channel_r", "protein_channel", "two_channels"])
def test_names_without_the_one_that_a_mode_takes_are_refused_with_both_lists(tmp_path: Path, mode: str) -> None:
    with pytest.raises(ConfigError) as caught:
        source(tmp_path, 3, ("DNA", "F-actin", "Mito"), image_mode=mode)
    assert f"the channels are DNA, F-actin, Mito, and model.image_mode {mode} takes the one that is called one of " in str(caught.value)
    assert ("r, red, microtubules" if mode.endswith("_r") else "g, green, protein") in str(caught.value)
    assert "rename the channel, or name it in model.channels and use the mode normalized" in str(caught.value)


def test_two_names_for_one_role_are_refused() -> None:
    with pytest.raises(ConfigError, match="of which there are several"):
        mode_for("single_channel_b", ("DAPI", "Hoechst"), where=WHERE)


@pytest.mark.parametrize(
    ("mode", "channels", "place"),
    [("single_channel_y", 3, 3), ("single_channel_b_no_triple", 2, 2), ("protein_channel", 1, 1), ("two_channels", 1, 1)],
)
def test_an_image_with_too_few_channels_is_refused_by_name_and_number(tmp_path: Path, mode: str, channels: int, place: int) -> None:
    with pytest.raises(DataError) as caught:
        source(tmp_path, channels, image_mode=mode)
    assert f"0.npy: the images have {channels} channels and model.image_mode {mode} takes channel {place} (" in str(caught.value)


def test_the_protein_is_channel_1(tmp_path: Path) -> None:
    assert torch.equal(batch(source(tmp_path, 4, image_mode="protein_channel")), stored(3, 4, 1))


# Random channels


def drawn(images: ImageSource, epoch: int, rows: int) -> list[tuple[int, ...]]:
    """Which channels of the image each row shows."""
    shown = []
    for row, image in enumerate(batch(images, rows, epoch)):
        whole = torch.from_numpy(pixels(row, len(images.channels)))
        shown.append(tuple(next(place for place, channel in enumerate(whole) if torch.equal(channel, one)) for one in image))
    return shown


@pytest.mark.parametrize("channels", [1, 2, 4, 12])
def test_one_channel_draws_every_channel_equally_often(tmp_path: Path, channels: int) -> None:
    images = source(tmp_path, channels, rows=40, image_mode="one_channel")
    counts = Counter(place for epoch in range(30) for (place,) in drawn(images, epoch, 40))
    assert images.in_channels == 1
    assert sorted(counts) == list(range(channels))
    expected = 1200 / channels
    assert all(abs(count - expected) < 4.5 * expected**0.5 for count in counts.values())


@pytest.mark.parametrize("channels", [2, 4, 12])
def test_two_channels_are_a_drawn_one_and_the_protein(tmp_path: Path, channels: int) -> None:
    images = source(tmp_path, channels, rows=40, image_mode="two_channels")
    pairs = Counter(pair for epoch in range(10) for pair in drawn(images, epoch, 40))
    assert images.in_channels == 2
    assert set(pairs) == {(place, 1) for place in range(channels)}


@pytest.mark.parametrize("mode", ["one_channel", "two_channels"])
def test_a_draw_depends_on_seed_epoch_and_row_alone(tmp_path: Path, mode: str) -> None:
    images = source(tmp_path, 4, rows=30, image_mode=mode, seed=3)
    together = [drawn(images, epoch, 30) for epoch in range(3)]
    np.random.seed(0)  # noqa: NPY002 - a global state must not matter
    torch.manual_seed(5)
    reader = CellImages(images)
    for epoch, row in [(2, 7), (0, 29), (1, 7), (2, 7), (0, 0)]:  # other batches, another order, images that are kept in memory
        alone = reader[(epoch, row)].images_BCHW[0]
        assert torch.equal(alone, torch.from_numpy(pixels(row, 4))[list(together[epoch][row])])
    assert len({tuple(epoch) for epoch in together}) == 3
    other = source(tmp_path, 4, rows=30, image_mode=mode, seed=4)
    assert drawn(other, 0, 30) != together[0]


# Extraction


@pytest.mark.parametrize("mode", IMAGE_MODES)
def test_extraction_reads_every_channel_of_a_mode_once(tmp_path: Path, mode: ImageMode) -> None:
    channels = 3 if "3" in mode else 4
    names = HPA[:channels]
    trained = source(tmp_path, channels, names, image_mode=mode)
    images = source_for_model(read_metadata(str(tmp_path)), names, mode)
    assert images.mode == trained.mode
    assert images.kept_channels == trained.kept_channels
    assert batch(images).shape[1] == len(images.kept_channels)
    blocks = [[images.kept_channels[place] for place in given] for given in images.mode.inputs]
    every = [name for block in blocks for name in block]
    if mode == "one_channel":
        assert blocks == [[name] for name in names]
    elif mode == "two_channels":  # the protein with itself too, as published features have it
        assert blocks == [[name, "protein"] for name in names]
    else:
        assert len(blocks) == 1
        assert set(every) == set(images.kept_channels)
