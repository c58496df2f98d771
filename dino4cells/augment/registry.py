"""Transforms by their names in the handbook. Adding one is a class and a line here (and its name in `config.values.TRANSFORM_NAMES`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from pydantic import TypeAdapter, ValidationError

from dino4cells.augment import brightness, channels, colour, crops, fitting, geometry, intensity, scaling, tiles
from dino4cells.augment.description import Description, Parameter, describe_transform
from dino4cells.augment.parameters import BY_DATA
from dino4cells.augment.stages import Transform
from dino4cells.config import TRANSFORM_SECTIONS, Config
from dino4cells.config.values import read_parameter, suggestion
from dino4cells.errors import ConfigError

TRANSFORMS: dict[str, type[Transform]] = {
    "Warp_cell": geometry.WarpCell,
    "RandomResizedCrop": crops.RandomResizedCrop,
    "RandomResizedCenterCrop": crops.RandomResizedCenterCrop,
    "RandomHorizontalFlip": geometry.RandomHorizontalFlip,
    "RandomVerticalFlip": geometry.RandomVerticalFlip,
    "RandomRotation": geometry.RandomRotation,
    "rnd_dihedral": geometry.RandomDihedral,
    "Rotate_dihedral": geometry.RandomDihedral,
    "remove_channel": channels.RemoveChannel,
    "rescale_protein": channels.RescaleProtein,
    "Change_brightness": brightness.ChangeBrightness,
    "Change_contrast": brightness.ChangeContrast,
    "Threshold_protein": channels.ThresholdProtein,
    "Solarization": brightness.Solarization,
    "Solarization_for_RGBA": brightness.Solarization,
    "GaussianBlur": brightness.GaussianBlur,
    "ColorJitter": colour.ColorJitter,
    "ColorJitter_for_RGBA": colour.ColorJitterOfThree,
    "RandomGrayscale_for_RGBA": channels.RandomGrayscale,
    "Jigsaw": tiles.Jigsaw,
    "RandomResizedCrop_for_5_channels": crops.RandomResizedCrop,
    "Solarization_for_5_channels": brightness.SolarizationOfFour,
    "GaussianBlur_for_5_channels": brightness.GaussianBlurOfFour,
    "ColorJitter_for_5_channels": colour.ColorJitterOfThreeOfFour,
    "RandomGrayscale_for_5_channels": channels.RandomGrayscaleOfFour,
    "Jigsaw_for_5_channels": tiles.Jigsaw,
    "Single_cell_centered": fitting.FitCentered,
    "Single_cell_Mirror": fitting.FitMirrored,
    "Single_cell_Resize": fitting.Resize,
    "Single_cell_Resize_keep_aspect_ratio": fitting.FitKeepingAspectRatio,
    "Single_cell_random_resize": fitting.FitAtRandomSize,
    "FA_resize": fitting.Resize,
    "Get_specific_channel": channels.GetSpecificChannel,
    "ToTensor": intensity.ToTensor,
    "Normalize": scaling.Normalize,
    "self_normalize": scaling.SelfNormalize,
    "self_normalize_without_black_pixels": scaling.SelfNormalizeWithoutBlackPixels,
}

# Accepted by every transform and without effect: every view is resampled bilinearly, without antialiasing, and nothing is done in place.
IGNORED_PARAMETERS = frozenset({"interpolation", "antialias", "inplace"})

Where = Callable[..., str]
"""Where a transform, or one of its parameters, is given: `where()`, `where("scale")`."""


def check_transforms(config: Config) -> None:
    """Build every active transform of every section.

    Raises:
        ConfigError: a transform's parameters are wrong; says where, and what is accepted.
    """
    for section in TRANSFORM_SECTIONS:
        for name, parameters in config.section(section):
            build_transform(name, _with_numbers_for_data(name, parameters), _place(config, section, name))


def describe() -> dict[str, Description]:
    """What each transform does and takes, by name, for a reference page."""
    return {name: describe_transform(kind) for name, kind in TRANSFORMS.items()}


def active_transforms(config: Config, section: str) -> list[tuple[str, Transform]]:
    """The active transforms of one section, in order, each with the place where the configuration gives it.

    Raises:
        ConfigError: a transform's parameters are wrong; says where, and what is accepted.
    """
    return [
        (config.where(section, name), build_transform(name, parameters, _place(config, section, name)))
        for name, parameters in config.section(section)
    ]


def _place(config: Config, section: str, name: str) -> Where:
    return lambda *parameter: config.where(section, name, *parameter)


def build_transform(name: str, parameters: object, where: Where) -> Transform:
    """The transform `name` with parameters as the handbook's files give them.

    Args:
        name: a key of `TRANSFORMS`.
        parameters: a mapping, a list in the order of the class's fields, the first parameter alone, or None.
        where: the place, for messages.

    Raises:
        ConfigError: unknown name, unknown parameter or wrong value; names what is accepted.

    Example:
        >>> build_transform("RandomResizedCrop", {"size": 48, "scale": (0.4, 1.0)}, lambda *_: "global_transfo1").size
        48
    """
    if name not in TRANSFORMS:
        near = suggestion(name, TRANSFORMS) or f"; available are {', '.join(TRANSFORMS)}"
        raise ConfigError(f"{where()}: the transform {name} is not known{near}")
    kind = TRANSFORMS[name]
    description = describe_transform(kind)
    fields = [parameter.name for parameter in description.parameters]
    parameters = read_parameter(parameters)
    try:
        return _built(name, kind, _by_name(parameters, fields), description, where)
    except ConfigError as refused:
        # `RandomRotation: [True, [-30, 30]]`: the list is not all parameters but the first one.
        if isinstance(parameters, list | tuple) and fields:
            with suppress(ConfigError):
                return _built(name, kind, {fields[0]: parameters}, description, where)
        raise refused


def _built(name: str, kind: type[Transform], given: Mapping[str, object], description: Description, where: Where) -> Transform:
    takes = f"{name} takes {description.accepted}"
    fields = {parameter.name: parameter for parameter in description.parameters}
    for key in given:
        if key not in fields:
            raise ConfigError(f"{where(key)}: {takes}, not {key}{suggestion(key, fields)}")
    try:
        transform: Transform = TypeAdapter(kind).validate_python(dict(given))
    except ValidationError as error:
        raise ConfigError(f"{_fault(error, name, given, fields, where)}; {takes}") from error
    return transform


def _fault(error: ValidationError, name: str, given: Mapping[str, object], fields: Mapping[str, Parameter], where: Where) -> str:
    problem = error.errors()[0]
    if not problem["loc"]:  # parameters that contradict each other
        return f"{where()}: {problem['msg'].removeprefix('Value error, ')}"
    parameter = str(problem["loc"][0])
    if problem["type"] == "missing":
        return f"{where()}: {name} needs a {parameter}"
    return f"{where(parameter)}: {parameter} must be {fields[parameter].type}, not {given[parameter]!r}"


def _by_name(parameters: object, fields: list[str]) -> dict[str, object]:
    if parameters is None:
        return {}
    if isinstance(parameters, Mapping):
        return {str(key): value for key, value in parameters.items() if key in fields or key not in IGNORED_PARAMETERS}
    values = list(parameters) if isinstance(parameters, list | tuple) else [parameters]
    # A list longer than the fields names its surplus by position, which the caller reports.
    names = [*fields, *(f"parameter {number}" for number in range(len(fields) + 1, len(values) + 1))]
    return dict(zip(names, values, strict=False))


def _with_numbers_for_data(name: str, parameters: object) -> object:
    """Parameters with a number where those of `Normalize` say `data`: its own numbers come once the data are seen."""
    if TRANSFORMS.get(name) is not scaling.Normalize:
        return parameters
    if isinstance(parameters, Mapping):
        return {key: 1.0 if value == BY_DATA else value for key, value in parameters.items()}
    return [1.0 if value == BY_DATA else value for value in parameters] if isinstance(parameters, list | tuple) else parameters
