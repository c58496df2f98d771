"""Transforms by name: what a section of the configuration may say, and what its mistakes are answered with."""

from __future__ import annotations

import pytest

from dino4cells.augment import geometry, intensity
from dino4cells.augment.registry import TRANSFORMS, build_transform
from dino4cells.config.values import TRANSFORM_NAMES
from dino4cells.errors import ConfigError


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_available_transform_is_one_that_a_configuration_may_name(name: str) -> None:
    assert name in TRANSFORM_NAMES
    built = build_transform(name, {"size": 32} if "size" in TRANSFORMS[name].__dataclass_fields__ else None, "local_aug")
    assert isinstance(built, geometry.Geometric | intensity.Intensity)


@pytest.mark.parametrize(
    "parameters",
    [
        {"size": 48, "scale": [0.4, 1]},
        {"size": "48", "scale": ("0.4", "1.0")},
        {"size": 48, "scale": [0.4, 1], "interpolation": "bicubic", "antialias": True},
        [48, [0.4, 1.0]],
        (48, (0.4, 1.0)),
    ],
)
def test_parameters_are_given_by_name_or_by_position_as_numbers_or_text(parameters: object) -> None:
    assert build_transform("RandomResizedCrop", parameters, "global_transfo1") == geometry.RandomResizedCrop(48, (0.4, 1.0))


@pytest.mark.parametrize("parameters", [{"p": 0.3}, [0.3], 0.3])
def test_a_single_parameter_needs_no_name(parameters: object) -> None:
    assert build_transform("GaussianBlur", parameters, "local_aug") == intensity.GaussianBlur(0.3, 0.1, 2.0)


@pytest.mark.parametrize("parameters", [None, {}, []])
def test_parameters_left_out_have_the_handbooks_values(parameters: object) -> None:
    assert build_transform("Change_brightness", parameters, "local_aug") == intensity.ChangeBrightness(0.5)


@pytest.mark.parametrize("parameters", [{"mean": 0.4, "std": 0.2}, [0.4, 0.2], {"mean": [0.4], "std": [0.2]}])
def test_one_number_normalizes_all_channels(parameters: object) -> None:
    assert build_transform("Normalize", parameters, "normalization") == intensity.Normalize((0.4,), (0.2,))


def test_rotation_takes_one_angle_or_two() -> None:
    assert build_transform("RandomRotation", {"degrees": 30}, "local_aug") == geometry.RandomRotation(30.0)
    assert build_transform("RandomRotation", {"degrees": [-10, 30]}, "local_aug") == geometry.RandomRotation((-10.0, 30.0))


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("RandomResizedCropp", None, "the transform 'RandomResizedCropp' is not available; did you mean 'RandomResizedCrop'?"),
        ("Kaleidoscope", None, "the transform 'Kaleidoscope' is not available; available are RandomResizedCrop, "),
        ("RandomResizedCrop", None, "RandomResizedCrop needs a 'size'; it takes size, scale, ratio."),
        ("RandomResizedCrop", {"sise": 32}, "RandomResizedCrop does not take 'sise'; it takes size, scale, ratio."),
        ("RandomResizedCrop", {"size": "big"}, "RandomResizedCrop: 'size' should be a valid integer"),
        ("RandomResizedCrop", {"size": 0}, "'size' should be greater than 0 (given: 0); it takes size, scale, ratio."),
        ("RandomResizedCrop", {"size": 32, "scale": 0.5}, "'scale' should be a valid tuple (given: 0.5)"),
        ("RandomResizedCrop", {"size": 32, "scale": [0.9, 0.1]}, "must be two numbers above 0, the smaller first (given: [0.9, 0.1])"),
        ("RandomResizedCrop", {"size": 32, "scale": [0, 1]}, "'scale' must be two numbers above 0"),
        ("RandomResizedCrop", {"size": 32, "scale": [0.5, 1.5]}, "'scale' must be fractions of the image, at most 1"),
        ("RandomResizedCrop", [32, [0.1, 0.4], [1, 1], 4], "does not take 'parameter 4'"),
        ("RandomHorizontalFlip", {"p": 1.5}, "'p' should be less than or equal to 1 (given: 1.5); it takes p."),
        ("RandomVerticalFlip", {"p": "often"}, "'p' should be a valid number"),
        ("Change_contrast", {"p": -1}, "'p' should be greater than or equal to 0"),
        ("GaussianBlur", {"radius_min": 3, "radius_max": 1}, "radius_min (3.0) must be at most radius_max (1.0); it takes p, radius_min"),
        ("Normalize", {"mean": [0.5], "std": [0]}, "should be greater than 0 (given: 0); it takes mean, std."),
        ("Normalize", {"mean": [], "std": [1]}, "'mean' should have at least 1 item"),
        ("ColorJitter", {"hue": 0.1}, "ColorJitter does not take 'hue'; it takes brightness, contrast, saturation, p."),
        ("self_normalize", [1], "self_normalize does not take 'parameter 1'; it takes no parameters."),
    ],
)
def test_a_mistake_is_answered_with_the_section_and_what_is_accepted(name: str, parameters: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_transform(name, parameters, "local_aug")

    assert str(caught.value).startswith("local_aug: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value)[-1] in ".?"
