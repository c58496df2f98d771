"""Normalization by the data's own mean and standard deviation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino4cells.augment.normalization import channel_statistics, with_data_statistics
from dino4cells.augment.views import MultiCrop
from dino4cells.config import Config, load_config, parse_config
from dino4cells.data.dataset import CellImages
from dino4cells.data.source import plain_source
from dino4cells.errors import DataError


@pytest.fixture
def pictures(tmp_path: Path) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    drawn = [random.integers(0, 256, (size, size + 3, 3), dtype=np.uint8) for size in (20, 31, 24)]
    for number, picture in enumerate(drawn):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    return drawn


def _images(directory: Path, count: int) -> CellImages:
    return CellImages(plain_source([str(directory / f"{number}.png") for number in range(count)], 3))


def test_the_statistics_are_those_of_all_pixels_without_padding(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in pictures]) / 255
    mean, deviation = channel_statistics(_images(tmp_path, 3))
    np.testing.assert_allclose(mean, pixels.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(deviation, pixels.std(axis=0), atol=1e-6)


def test_an_unreadable_image_does_not_count(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    without, _ = channel_statistics(_images(tmp_path, 3))
    with_broken, _ = channel_statistics(_images(tmp_path, 4))
    assert with_broken == without


def test_no_readable_image_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"None of 2 sampled images can be read"):
        channel_statistics(_images(tmp_path, 2))


def test_a_channel_without_contrast_is_not_divided_by_zero(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "0.png")
    assert channel_statistics(_images(tmp_path, 1)) == ([0.0] * 3, [1e-3] * 3)


def test_the_word_data_becomes_numbers_that_a_resolved_file_keeps(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    config = load_config(preset="small")
    resolved = with_data_statistics(config, _images(tmp_path, 3))
    MultiCrop.from_config(resolved)
    (name, parameters) = resolved.section("testing_transfo")[-1]
    assert name == "Normalize"
    assert isinstance(parameters, dict)
    np.testing.assert_allclose(parameters["mean"], channel_statistics(_images(tmp_path, 3))[0], atol=1e-5)
    assert parse_config(resolved.to_yaml()) == resolved


def test_the_word_data_may_be_given_by_position(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    by_position, by_name = (
        with_data_statistics(Config.model_validate({"normalization": {"Normalize": [True, given]}}), _images(tmp_path, 3))
        for given in (["data", "data"], {"mean": "data", "std": "data"})
    )
    assert by_position == by_name
    assert by_name.section("normalization") != []


@pytest.mark.parametrize("where", ["normalization", "global_transfo2"])
def test_a_channel_that_is_kept_alone_is_normalized_by_its_own_numbers(where: str, tmp_path: Path, pictures: list[np.ndarray]) -> None:
    crop = {"RandomResizedCrop": [True, {"size": 8}]}
    keep = {"Get_specific_channel": [True, {"c": 1}]}
    sections = {"global_transfo1": crop, "global_transfo2": crop, "normalization": {"Normalize": [True, {"mean": "data", "std": "data"}]}}
    kept = {name: {**keep, **sections[name]} for name in ((where,) if where == "normalization" else ("global_transfo1", where))}

    resolved = with_data_statistics(Config.model_validate({**sections, **kept, "local_crops_number": 0}), _images(tmp_path, 3))

    mean, deviation = channel_statistics(_images(tmp_path, 3))
    assert MultiCrop.from_config(resolved).channels_after(3) == 1
    assert resolved.section("normalization")[-1][1] == {"mean": [round(mean[1], 5)], "std": [round(deviation[1], 5)]}


def test_a_configuration_with_numbers_is_left_alone(tmp_path: Path) -> None:
    config = load_config(preset="small-fluorescence")
    assert with_data_statistics(config, _images(tmp_path, 0)) is config


def test_the_fluorescence_preset_is_the_small_one_but_for_normalization() -> None:
    small, fluorescence = load_config(preset="small"), load_config(preset="small-fluorescence")
    update = {name: getattr(small, name) for name in ("normalization", "testing_transfo")}
    assert fluorescence != small
    assert fluorescence.model_copy(update=update) == small
