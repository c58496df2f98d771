"""Transforms by name: what a section of the configuration may say, and what its mistakes are answered with."""

from __future__ import annotations

import pytest

from dino4cells.augment import brightness, channels, crops, geometry, scaling
from dino4cells.augment.registry import TRANSFORMS, active_transforms, build_transform, check_transforms, describe
from dino4cells.augment.stages import Transform
from dino4cells.config import Config, load_config, parse_config
from dino4cells.config.file import preset_names
from dino4cells.config.values import TRANSFORM_NAMES
from dino4cells.errors import ConfigError

REQUIRED = {"RandomResizedCrop": {"size": 32}, "RandomResizedCenterCrop": {"size": 32}, "Get_specific_channel": {"c": 0}}
REQUIRED |= {"RandomResizedCrop_for_5_channels": {"size": 32}, "Normalize": {"mean": 0.5, "std": 0.5}}

# Every entry of the published configurations, as they are written there.
PUBLISHED = """
flip_and_color_jitter_transforms:
  RandomRotation: [True, {degrees: 90, expand: False}]
  RandomHorizontalFlip: [True, {p: 0.5}]
  RandomVerticalFlip: [True, {p: 0.5}]
  Change_brightness: [True, {p: 0.5}]
  Change_contrast: [True, {p: 0.5}]
  GaussianBlur: [True, {p: 1.0}]
  ColorJitter: [True, {brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1}]
  ColorJitter_for_RGBA: [True, {brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1}]
normalization:
  Get_specific_channel: [True, {c: 0}]
  ToTensor:
   - True
   - # no params
  Normalize: [True, {mean: [0.1450534, 0.11360057, 0.1231717, 0.14919987], std: [0.18122554, 0.14004277, 0.18840286, 0.17790672]}]
  self_normalize: [True]
global_transfo1:
  Warp_cell: [True]
  Single_cell_centered: [True]
  Single_cell_random_resize: [True]
  FA_resize: [True, {size: 512}]
  Single_cell_Resize: [True]
  Single_cell_Mirror: [True]
  remove_channel: [True, {p: 0.2}]
  rescale_protein: [True, {p: 0.2}]
  RandomResizedCrop: [True, {size: 224, scale: [0.4, 1]}]
  Threshold_protein: [True, {p: 0.8, interpolation: Image.BICUBIC}]
  RandomResizedCenterCrop: [True, {size: 224, scale: [0.5, 1], depth: 1e6, s: 0.7}]
global_aug1:
  GaussianBlur: [True, {p: 1.0}]
  Solarization: [True, {p: 0.2}]
  Solarization_for_RGBA: [True, {p: 0.2}]
  rnd_dihedral: [True]
testing_transfo:
  Rotate_dihedral: [True]
"""


def built(name: str, parameters: object) -> Transform:
    return build_transform(name, parameters, lambda *parameter: ".".join(("local_aug", name, *parameter)))


def refusal(name: str, parameters: object) -> str:
    with pytest.raises(ConfigError) as caught:
        built(name, parameters)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_name_of_the_handbook_is_available_and_no_other() -> None:
    assert set(TRANSFORMS) == set(TRANSFORM_NAMES)


@pytest.mark.parametrize("name", TRANSFORM_NAMES)
def test_every_transform_is_built_by_its_name_and_says_what_it_does(name: str) -> None:
    transform = built(name, REQUIRED.get(name))
    description = describe()[name]

    assert isinstance(transform, TRANSFORMS[name])
    assert description.summary.endswith(".")
    assert "\n" not in description.summary
    for parameter in description.parameters:
        assert parameter.type
        assert hasattr(transform, parameter.name)
        assert (parameter.default is None) == (parameter.name in REQUIRED.get(name, {}))


@pytest.mark.parametrize("name", TRANSFORM_NAMES)
def test_a_default_that_is_said_may_be_given(name: str) -> None:
    said = {parameter.name: parameter.default for parameter in describe()[name].parameters if parameter.default is not None}

    given, left_out = built(name, {**REQUIRED.get(name, {}), **said}), built(name, REQUIRED.get(name))

    assert given == left_out or name.startswith("RandomResizedCrop")  # 4/3 is said as 1.33


def test_the_published_files_are_accepted() -> None:
    config = parse_config(PUBLISHED)

    check_transforms(config)
    crop = dict(zip((name for name, _ in config.section("global_transfo1")), active_transforms(config, "global_transfo1"), strict=True))
    assert crop["RandomResizedCenterCrop"][1] == crops.RandomResizedCenterCrop(224, (0.5, 1.0), depth=1_000_000, s=0.7)
    assert crop["Threshold_protein"][1] == channels.ThresholdProtein(0.8, "bicubic")
    assert [getattr(crop[name][1], "size", None) for name in ("Single_cell_centered", "Single_cell_Resize", "FA_resize")] == [224, 224, 512]


@pytest.mark.parametrize("preset", [name for name in preset_names() if name != "none"])
def test_the_presets_are_accepted_before_the_data_are_seen(preset: str) -> None:
    check_transforms(load_config(preset=preset))


# Parameters


@pytest.mark.parametrize(
    "parameters",
    [
        {"size": 48, "scale": [0.4, 1]},
        {"size": "48", "scale": ("0.4", "1.0")},
        {"size": 48.0, "scale": "0.4 1"},
        {"size": [48, 48], "scale": "(0.4, 1)"},
        {"size": 48, "scale": [0.4, 1], "antialias": True},
        [48, [0.4, 1.0]],
        (48, (0.4, 1.0)),
        [[48], [0.4, 1.0], [0.75, 4 / 3]],
    ],
)
def test_parameters_are_given_by_name_or_by_position_as_numbers_or_text(parameters: object) -> None:
    assert built("RandomResizedCrop", parameters) == crops.RandomResizedCrop(48, (0.4, 1.0))


@pytest.mark.parametrize("name", TRANSFORM_NAMES)
@pytest.mark.parametrize("interpolation", ["Image.BICUBIC", "InterpolationMode.NEAREST", "bilinear"])
def test_an_interpolation_is_accepted_everywhere(name: str, interpolation: str) -> None:
    given = built(name, {**REQUIRED.get(name, {}), "interpolation": interpolation})

    assert given == built(name, REQUIRED.get(name)) or given.interpolation == interpolation.split(".")[-1].lower()


def test_an_interpolation_keeps_its_position_of_the_published_code() -> None:
    assert built("RandomResizedCenterCrop", [48, [0.5, 1], "Image.BILINEAR", "1e6", 0.7]) == crops.RandomResizedCenterCrop(
        48, (0.5, 1.0), "bilinear", 1_000_000, 0.7
    )
    assert built("RandomRotation", [90, "Image.BICUBIC", True]) == geometry.RandomRotation(90.0, "bicubic", expand=True)


@pytest.mark.parametrize("parameters", [{"p": 0.3}, [0.3], 0.3, {"p": "0.3"}, "0.3"])
def test_a_single_parameter_needs_no_name(parameters: object) -> None:
    assert built("GaussianBlur", parameters) == brightness.GaussianBlur(0.3, 0.1, 2.0)


@pytest.mark.parametrize("parameters", [None, {}, []])
def test_parameters_left_out_have_the_originals_values(parameters: object) -> None:
    assert built("Change_brightness", parameters) == brightness.ChangeBrightness(0.2)


@pytest.mark.parametrize("parameters", [{"mean": 0.4, "std": 0.2}, [0.4, 0.2], {"mean": [0.4], "std": [0.2]}, [[0.4], [0.2]]])
def test_one_number_normalizes_all_channels(parameters: object) -> None:
    assert built("Normalize", parameters) == scaling.Normalize((0.4,), (0.2,))


@pytest.mark.parametrize(
    ("parameters", "degrees"),
    [
        ({"degrees": 30}, 30.0),
        (30, 30.0),
        ([30], 30.0),
        ({"degrees": [-10, 30]}, (-10.0, 30.0)),
        ([[-10, 30]], (-10.0, 30.0)),
        ([-30, 30], (-30.0, 30.0)),
        ([0, 2], (0.0, 2.0)),
        ("-30 30", (-30.0, 30.0)),
    ],
)
def test_rotation_takes_one_angle_or_two_in_a_list_of_their_own_or_bare(parameters: object, degrees: object) -> None:
    assert built("RandomRotation", parameters) == geometry.RandomRotation(degrees)  # type: ignore[arg-type]


def test_a_bare_list_in_a_file_is_the_pair_of_angles() -> None:
    config = parse_config("local_aug:\n  RandomRotation: [True, [-30, 30]]\n")

    [(place, transform)] = active_transforms(config, "local_aug")
    assert place == "config.yaml, line 2: local_aug.RandomRotation"
    assert transform == geometry.RandomRotation((-30.0, 30.0))


# Mistakes


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("RandomResizedCrop", {"sise": 32}, "local_aug.RandomResizedCrop.sise: RandomResizedCrop takes size (pixels, a "),
        ("RandomResizedCrop", {"sise": 32}, "not sise; did you mean size?"),
        ("RandomResizedCrop", {"size": 32, "p": 1}, " (an interpolation such as bilinear, without effect; default bilinear), not p"),
        ("RandomResizedCrop", None, "local_aug.RandomResizedCrop: RandomResizedCrop needs a size; RandomResizedCrop takes size ("),
        ("RandomResizedCrop", {"size": "big"}, "RandomResizedCrop.size: size must be pixels, a whole number above 0, not 'big'; "),
        ("RandomResizedCrop", {"size": 0}, "size must be pixels, a whole number above 0, not 0; RandomResizedCrop takes size (pixels, "),
        ("RandomResizedCrop", {"size": 1.5}, "size must be pixels, a whole number above 0, not 1.5"),
        ("RandomResizedCrop", {"size": True}, "size must be pixels, a whole number above 0, not True"),
        ("RandomResizedCrop", {"size": [32, 48]}, "size must be pixels, a whole number above 0, not [32, 48]"),
        ("RandomResizedCrop", {"size": 32, "scale": 0.5}, "scale must be two fractions above 0 and at most 1, the smaller first, not 0.5"),
        ("RandomResizedCrop", {"size": 32, "scale": [0.9, 0.1]}, "the smaller first, not [0.9, 0.1]"),
        ("RandomResizedCrop", {"size": 32, "scale": [0, 1]}, "and at most 1, the smaller first, not [0, 1]"),
        ("RandomResizedCrop", {"size": 32, "scale": [0.5, 1.5]}, "and at most 1, the smaller first, not [0.5, 1.5]"),
        ("RandomResizedCrop", {"size": 32, "interpolation": "cubism"}, "such as bilinear, without effect, not 'cubism'"),
        ("RandomResizedCrop", [32, [0.1, 0.4], [1, 1], "bicubic", 5], "local_aug.RandomResizedCrop.parameter 5: "),
        ("RandomHorizontalFlip", {"p": 1.5}, "not 1.5; RandomHorizontalFlip takes p (a number from 0 to 1; default 0.5)"),
        ("RandomVerticalFlip", {"p": "often"}, "p must be a number from 0 to 1, not 'often'"),
        ("Change_contrast", {"p": -1}, "p must be a number of at least 0, not -1"),
        ("RandomRotation", {"degrees": -5}, "degrees must be an angle of at least 0, or two angles, the smaller first, not -5"),
        ("RandomRotation", [30, -30], "the smaller first"),
        ("GaussianBlur", {"radius_min": 3, "radius_max": 1}, "local_aug.GaussianBlur: radius_min (3) must be at most radius_max (1); "),
        ("Normalize", {"mean": [0.5], "std": [0]}, "std must be a number above 0 for each channel or one for all, or data, not [0]"),
        ("Normalize", {"mean": [], "std": [1]}, "mean must be a number for each channel or one for all, or data, not []"),
        ("Normalize", None, "Normalize needs a mean"),
        ("ColorJitter", {"hue": 0.7}, "hue must be a number from 0 to 0.5, or two from -0.5 to 0.5, the smaller first, not 0.7"),
        ("ColorJitter", {"colour": 0.1}, "and p (a number from 0 to 1; default 0.8), not colour"),
        ("Get_specific_channel", {"c": -1}, "c must be the number of a channel, counted from 0, not -1"),
        ("self_normalize", [1], "local_aug.self_normalize.parameter 1: self_normalize takes no parameters, not parameter 1"),
        ("Jigsaw", {"q": 1}, "Jigsaw takes p (a number from 0 to 1; default 0.2), not q"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_its_place_and_what_is_accepted(name: str, parameters: object, message: str) -> None:
    assert message in refusal(name, parameters)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "RandomResizedCropp",
            "local_aug.RandomResizedCropp: the transform RandomResizedCropp is not known; did you mean RandomRes",
        ),
        ("Kaleidoscope", "the transform Kaleidoscope is not known; available are Warp_cell, RandomResizedCrop, "),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_or_all(name: str, message: str) -> None:
    assert message in refusal(name, None)


def test_a_mistake_in_a_file_is_told_with_its_line() -> None:
    config = parse_config("local_aug:\n  Jigsaw: [True]\n  GaussianBlur:\n    - True\n    - p: 0.5\n      radius: 1\n")

    with pytest.raises(ConfigError, match=r"^config.yaml, line 6: local_aug.GaussianBlur.radius: .*did you mean radius_m"):
        check_transforms(config)


@pytest.mark.parametrize("section", ["testing_transfo", "local_aug", "global_transfo2", "normalization"])
def test_a_mistake_is_found_in_every_section_and_only_where_it_acts(section: str) -> None:
    def config(*, active: bool) -> Config:
        return Config.model_validate({section: {"Jigsaw": [active, {"p": 2}]}})

    with pytest.raises(ConfigError, match=f"^{section}.Jigsaw.p: p must be a number from 0 to 1, not 2"):
        check_transforms(config(active=True))
    check_transforms(config(active=False))


def test_statistics_of_the_data_are_numbers_before_views_are_made() -> None:
    config = Config.model_validate({"normalization": {"Normalize": [True, {"mean": "data", "std": "data"}]}})

    check_transforms(config)
    with pytest.raises(ConfigError, match=r"^normalization.Normalize.mean: "):
        active_transforms(config, "normalization")
