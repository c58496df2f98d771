"""Batches of images: what is in them, what is done about images that cannot be read, and where the time and memory go."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from dino4cells import storage
from dino4cells.config import ModelConfig
from dino4cells.data.dataset import Batch, CellImages, to_unit_range
from dino4cells.data.metadata import Metadata
from dino4cells.data.source import image_source, plain_source
from dino4cells.errors import ConfigError, DataError

SIZES = [(8, 8), (5, 9), (12, 4), (8, 8), (1, 1), (7, 3)]


def picture(row: int, channels: int = 3) -> NDArray[np.uint8]:
    shape = (*SIZES[row % len(SIZES)], channels)
    return np.random.default_rng(row).integers(1, 256, shape, dtype=np.uint8)


def png(array: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def tiff_of_16_bits(array: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.moveaxis(array.astype(np.uint16) * 257, -1, 0), photometric="minisblack")
    return buffer.getvalue()


def written(directory: str | Path, count: int, channels: int = 3) -> list[str]:
    urls = [storage.join(str(directory), f"cell {row} #1.png") for row in range(count)]
    for row, url in enumerate(urls):
        storage.write_bytes(url, png(picture(row, channels)))
    return urls


def expect_rows(batch: Batch, rows: Sequence[int]) -> None:
    """The batch holds these pictures, each in the upper left corner, with zeros around."""
    assert batch.index_B.tolist() == list(rows)
    for image, size, row in zip(batch.images_BCHW, batch.sizes_B2.tolist(), rows, strict=True):
        array = np.moveaxis(picture(row), -1, 0)
        assert tuple(size) == array.shape[1:]
        assert torch.equal(image[:, : size[0], : size[1]], torch.from_numpy(array.copy()))
        assert int((image > 0).sum()) == array.size


def metadata(urls: list[str], channels: tuple[str, ...] | None = None) -> Metadata:
    return Metadata(pd.DataFrame({"file": urls}), "cells/metadata.csv", "", channels, "0")


def channels_of(metadata: Metadata, number: int | None, names: list[str] | None) -> tuple[str, ...]:
    return image_source(
        metadata, ModelConfig.model_construct(**{**ModelConfig().model_dump(), "num_channels": number, "channels": names})
    ).channels


# What is in a batch


def test_images_of_different_sizes_are_padded_and_their_true_sizes_kept(tmp_path: Path) -> None:
    batch = CellImages(plain_source(written(tmp_path, 6), 3)).__getitems__([(2, row) for row in range(6)])

    assert batch.images_BCHW.shape == (6, 3, 12, 9)
    assert batch.images_BCHW.dtype == torch.uint8
    assert batch.epoch_B.tolist() == [2] * 6
    assert batch.failures == ()
    expect_rows(batch, range(6))


def test_a_batch_keeps_the_order_and_the_repetitions_that_were_asked_for(tmp_path: Path) -> None:
    batch = CellImages(plain_source(written(tmp_path, 4), 3)).__getitems__([(0, 3), (0, 1), (1, 3), (1, 0)])

    assert batch.epoch_B.tolist() == [0, 0, 1, 1]
    expect_rows(batch, [3, 1, 3, 0])


def test_one_image_is_a_batch_of_one(tmp_path: Path) -> None:
    images = CellImages(plain_source(written(tmp_path, 2), 3))

    assert len(images) == 2
    expect_rows(images[(0, 1)], [1])


def test_images_are_read_from_an_object_store() -> None:
    urls = written("memory://test-dataset/plate", 3)

    expect_rows(CellImages(plain_source(urls, 3)).__getitems__([(0, 0), (0, 1), (0, 2)]), range(3))


def test_a_batch_of_eight_and_sixteen_bit_images_lies_between_zero_and_one(tmp_path: Path) -> None:
    urls = written(tmp_path, 2)
    storage.write_bytes(urls[1], tiff_of_16_bits(picture(1)))

    batch = CellImages(plain_source(urls, 3)).__getitems__([(0, 0), (0, 1)])

    assert batch.images_BCHW.dtype == torch.float32
    for row in range(2):
        height, width = batch.sizes_B2[row].tolist()
        expected = torch.from_numpy(np.moveaxis(picture(row), -1, 0) / 255).float()
        torch.testing.assert_close(batch.images_BCHW[row, :, :height, :width], expected)
    assert torch.equal(to_unit_range(batch.images_BCHW), batch.images_BCHW)


def test_a_batch_of_sixteen_bit_images_is_as_stored(tmp_path: Path) -> None:
    urls = [str(tmp_path / f"{row}.tif") for row in range(2)]
    for row, url in enumerate(urls):
        storage.write_bytes(url, tiff_of_16_bits(picture(row)))

    batch = CellImages(plain_source(urls, 3)).__getitems__([(0, 0), (0, 1)])

    assert batch.images_BCHW.dtype == torch.uint16
    for row in range(2):
        height, width = batch.sizes_B2[row].tolist()
        expected = torch.from_numpy(np.moveaxis(picture(row), -1, 0).astype(np.uint16) * 257)
        assert torch.equal(batch.images_BCHW[row, :, :height, :width], expected)
        assert int(batch.images_BCHW[row].long().count_nonzero()) == picture(row).size  # zeros around it


# What cannot be read


def test_images_that_cannot_be_read_are_rows_with_reasons_and_the_others_are_there(tmp_path: Path) -> None:
    urls = written(tmp_path, 6)
    storage.remove(urls[0])
    storage.write_bytes(urls[2], b"")
    storage.write_bytes(urls[3], png(picture(3))[:60])
    storage.write_bytes(urls[5], png(picture(5, channels=4)))

    batch = CellImages(plain_source(urls, 3)).__getitems__([(0, row) for row in range(6)])

    expect_rows(batch, [1, 4])
    reasons = dict(batch.failures)
    assert list(reasons) == [0, 2, 3, 5]
    assert all(reasons[row].startswith(urls[row]) for row in reasons)
    assert "the file is empty" in reasons[2]
    assert "not an image that can be read" in reasons[3]
    assert "has 4 channels where 3 are expected" in reasons[5]


def test_a_batch_without_a_readable_image_is_empty_and_says_why(tmp_path: Path) -> None:
    batch = CellImages(plain_source([str(tmp_path / "nowhere.png")] * 3, 3)).__getitems__([(0, 0), (0, 1), (0, 2)])

    assert len(batch) == 0
    assert batch.images_BCHW.shape[:2] == (0, 3)
    assert batch.sizes_B2.shape == (0, 2)
    assert [row for row, _ in batch.failures] == [0, 1, 2]


def test_a_failure_is_tried_again_in_the_next_epoch(tmp_path: Path) -> None:
    urls = written(tmp_path, 2)
    content = storage.read_bytes(urls[1])
    storage.remove(urls[1])
    images = CellImages(plain_source(urls, 3))
    assert [row for row, _ in images.__getitems__([(0, 0), (0, 1)]).failures] == [1]

    storage.write_bytes(urls[1], content)

    expect_rows(images.__getitems__([(1, 0), (1, 1)]), [0, 1])


# Memory


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """URLs that were asked for, in order."""
    asked: list[str] = []
    read_many = storage.read_many

    def counted(urls: Sequence[str], *how: object) -> list[bytes | storage.StorageError]:
        asked.extend(urls)
        return read_many(urls, *how)

    monkeypatch.setattr(storage, "read_many", counted)
    return asked


def test_an_image_is_read_once_as_long_as_it_fits_into_memory(tmp_path: Path, reads: list[str]) -> None:
    urls = written(tmp_path, 6)
    images = CellImages(plain_source(urls, 3))

    for epoch in range(3):
        expect_rows(images.__getitems__([(epoch, row) for row in range(6)]), range(6))

    assert reads == urls


@pytest.mark.parametrize("budget", [0, 191, 192, 400, 10_000])
def test_the_images_that_are_kept_stay_within_the_budget(tmp_path: Path, reads: list[str], budget: int) -> None:
    urls = written(tmp_path, 6)
    images = CellImages(plain_source(urls, 3), cache_bytes=budget)
    images.__getitems__([(0, row) for row in range(6)])
    reads.clear()

    expect_rows(images.__getitems__([(1, row) for row in range(6)]), range(6))

    kept = [row for row in range(6) if urls[row] not in reads]
    sizes = [picture(row).size for row in range(6)]
    assert sum(sizes[row] for row in kept) <= budget
    assert (budget < min(sizes)) == (not kept)
    assert (budget >= sum(sizes)) == (len(kept) == 6)


def test_what_is_done_to_a_batch_does_not_reach_the_images_in_memory(tmp_path: Path) -> None:
    images = CellImages(plain_source(written(tmp_path, 2), 3))
    images.__getitems__([(0, 0), (0, 1)]).images_BCHW.zero_()

    expect_rows(images.__getitems__([(1, 0), (1, 1)]), [0, 1])


def test_a_batch_moves_to_a_device_whole() -> None:
    batch = Batch(torch.ones(2, 1, 3, 3), torch.full((2, 2), 3), torch.arange(2), torch.zeros(2), failures=((7, "why"),))

    moved = batch.to(torch.device("meta"))

    assert {tensor.device.type for tensor in (moved.images_BCHW, moved.sizes_B2, moved.index_B, moved.epoch_B)} == {"meta"}
    assert moved.failures == batch.failures


# Names of channels


def test_channels_are_named_by_the_configuration_then_by_the_data_then_by_number(tmp_path: Path) -> None:
    urls = written(tmp_path, 1)

    assert channels_of(metadata(urls), 3, ["x", "y", "z"]) == ("x", "y", "z")
    assert channels_of(metadata(urls, ("a", "b", "c")), None, None) == ("a", "b", "c")
    assert channels_of(metadata(urls), None, None) == ("channel_0", "channel_1", "channel_2")


def test_channels_are_counted_on_the_first_image_that_can_be_read(tmp_path: Path) -> None:
    urls = [str(tmp_path / "nowhere.png"), *written(tmp_path, 1, channels=4)]

    assert len(channels_of(metadata(urls), None, None)) == 4


@pytest.mark.parametrize(
    ("number", "names", "in_data", "error", "message"),
    [
        (4, None, None, DataError, "has 3 channels and the configuration expects 4; correct model.num_channels or the images."),
        (None, ["x", "y"], None, DataError, "has 3 channels and the configuration expects 2"),
        (3, ["x", "y"], None, ConfigError, "model.channels names 2 channels (x, y) and model.num_channels is 3; make them agree."),
        (None, None, ("a", "b"), DataError, "has 3 channels and channels.txt names 2 (a, b); make them agree."),
    ],
)
def test_channels_that_do_not_agree_are_refused(
    tmp_path: Path, number: int | None, names: list[str] | None, in_data: tuple[str, ...] | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        channels_of(metadata(written(tmp_path, 1), in_data), number, names)

    assert message in str(caught.value)


def test_data_without_any_readable_image_are_refused_with_the_first_reason(tmp_path: Path) -> None:
    urls = [str(tmp_path / f"{row}.png") for row in range(30)]

    with pytest.raises(DataError, match=r"metadata\.csv: none of the first 20 images can be read; the first says: .*/0\.png"):
        channels_of(metadata(urls), None, None)


def test_images_of_more_than_twelve_channels_are_refused(tmp_path: Path) -> None:
    url = str(tmp_path / "many.tif")
    tifffile.imwrite(url, np.zeros((13, 20, 20), np.uint8), photometric="minisblack")

    with pytest.raises(DataError, match="more than 12 channels"):
        channels_of(metadata([url]), None, None)
