"""Keys that speak of the same thing: channels and the image mode, two sizes of positions, and what fills in what."""

from __future__ import annotations

import pytest

from dino4cells.config import load_config, parse_config
from dino4cells.config.model import IMAGE_MODE_CHANNELS, IMAGE_MODES
from dino4cells.errors import ConfigError


def test_an_image_mode_wins_over_the_number_of_channels_and_both_are_told() -> None:
    config = parse_config("model:\n  image_mode: normalized_4_channels\n  num_channels: 5", "mine.yaml")
    assert config.model.num_channels == 4
    assert config.warnings == [
        "mine.yaml, line 3: model.num_channels is 5, and model.image_mode normalized_4_channels gives 4 (mine.yaml, line 2); 4 is used"
    ]


@pytest.mark.parametrize(("mode", "number"), IMAGE_MODE_CHANNELS.items())
def test_the_number_that_an_image_mode_gives_is_no_contradiction(mode: str, number: int) -> None:
    config = parse_config(f"model:\n  image_mode: {mode}\n  num_channels: '{number}'")
    assert (config.model.num_channels, config.warnings) == (number, [])
    assert load_config(overrides={"image_mode": mode}).model.num_channels is None


def test_every_image_mode_but_the_open_one_says_how_many_channels_it_gives() -> None:
    assert set(IMAGE_MODES) - set(IMAGE_MODE_CHANNELS) == {"normalized"}


def test_the_tiles_of_a_strip_are_counted_without_regard_to_the_image_mode() -> None:
    config = parse_config("model:\n  datatype: CellPainting\n  image_mode: normalized_4_channels\n  num_channels: 5")
    assert (config.model.num_channels, config.warnings) == (5, [])


def test_one_channel_is_no_contradiction_where_normalization_keeps_one() -> None:
    keeps_one = "normalization:\n  Get_specific_channel: [True, {c: 1}]\nmodel:\n  image_mode: normalized_4_channels\n  num_channels: 1"
    assert parse_config(keeps_one).warnings == []
    assert len(parse_config(keeps_one.replace("True", "False")).warnings) == 1


def test_channel_names_are_counted_only_where_all_channels_are_used() -> None:
    names = "  channels: [a, b, c, d]\n"
    assert parse_config(f"model:\n{names}  image_mode: single_channel_g\n  num_channels: 3").model.channels == ["a", "b", "c", "d"]
    with pytest.raises(ConfigError, match=r"model\.channels must have as many names as num_channels says \(3\)"):
        parse_config(f"model:\n{names}  image_mode: normalized_3_channels\n  num_channels: 3")


def test_positions_are_made_for_the_handbooks_image_size() -> None:
    assert parse_config("embedding:\n  image_size: 128").model.image_size == 128
    assert parse_config("embedding:\n  image_size: 128\nmodel:\n  image_size: 64").model.image_size == 64
    assert load_config(preset="small").model.image_size == 64
    assert parse_config("preset: small\nembedding:\n  image_size: 128").model.image_size == 128
    assert parse_config("embedding:\n  image_size: 128", overrides={"model.image_size": 32}).model.image_size == 32
    assert parse_config("embedding:\n  image_size:").model.image_size == 224


def test_a_size_of_positions_that_does_not_fit_is_told_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"mine.yaml, line 2: model\.image_size must be a multiple of patch_size \(16\), not 100"):
        parse_config("embedding:\n  image_size: 100", "mine.yaml")


def test_a_scale_of_a_preset_below_the_preset_gives_way_to_local_crops_scale() -> None:
    config = load_config(preset="small-fluorescence", overrides={"local_crops_scale": "0.2 0.5"})
    assert dict(config.section("local_transfo"))["RandomResizedCrop"] == {"size": 24, "scale": [0.2, 0.5]}
    assert config.warnings == []
