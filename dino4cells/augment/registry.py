"""Transforms by their names in the handbook. Adding one is a class in `geometry` or `intensity` and a line here."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter, ValidationError

from dino4cells.augment import geometry, intensity
from dino4cells.errors import ConfigError

Transform = geometry.Geometric | intensity.Intensity

TRANSFORMS: dict[str, type[Transform]] = {
    "RandomResizedCrop": geometry.RandomResizedCrop,
    "RandomResizedCenterCrop": geometry.RandomResizedCenterCrop,
    "RandomHorizontalFlip": geometry.RandomHorizontalFlip,
    "RandomVerticalFlip": geometry.RandomVerticalFlip,
    "RandomRotation": geometry.RandomRotation,
    "rnd_dihedral": geometry.RandomDihedral,
    "Warp_cell": geometry.WarpCell,
    "Single_cell_centered": geometry.FitCentered,
    "Single_cell_Resize": geometry.Resize,
    "Change_brightness": intensity.ChangeBrightness,
    "Change_contrast": intensity.ChangeContrast,
    "remove_channel": intensity.RemoveChannel,
    "rescale_protein": intensity.RescaleProtein,
    "Threshold_protein": intensity.ThresholdProtein,
    "Solarization": intensity.Solarization,
    "Solarization_for_RGBA": intensity.Solarization,
    "GaussianBlur": intensity.GaussianBlur,
    "ColorJitter": intensity.ColorJitter,
    "Normalize": intensity.Normalize,
    "self_normalize": intensity.SelfNormalize,
    "ToTensor": intensity.ToTensor,
}

# Accepted and without effect: every view is resampled bilinearly, without antialiasing, as the handbook's pipeline does.
IGNORED_PARAMETERS = frozenset({"interpolation", "antialias"})


def build_transform(name: str, parameters: object, where: str) -> Transform:
    """The transform `name` with parameters as the handbook's files give them.

    Args:
        name: a key of `TRANSFORMS`.
        parameters: a mapping, a list in the order of the class's fields, one value, or None.
        where: the section, for messages.

    Raises:
        ConfigError: unknown name, unknown parameter or wrong value; names what is accepted.

    Example:
        >>> build_transform("RandomResizedCrop", {"size": 48, "scale": (0.4, 1.0)}, "global_transfo1").size
        48
    """
    if name not in TRANSFORMS:
        near = difflib.get_close_matches(name, TRANSFORMS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"available are {', '.join(TRANSFORMS)}."
        raise ConfigError(f"{where}: the transform '{name}' is not available; {hint}")
    kind = TRANSFORMS[name]
    fields = [field.name for field in dataclasses.fields(kind)]
    given = _by_name(parameters, fields)
    accepted = f"it takes {', '.join(fields) or 'no parameters'}."
    unknown = [key for key in given if key not in fields]
    if unknown:
        raise ConfigError(f"{where}: {name} does not take '{unknown[0]}'; {accepted}")
    try:
        transform: Transform = TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        raise ConfigError(f"{where}: {name}{_fault(error)}; {accepted}") from error
    return transform


def _fault(error: ValidationError) -> str:
    first = error.errors()[0]
    parameter = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f" needs a '{parameter}'"
    reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ").removeprefix("Tuple ")
    return f": '{parameter}' {reason} (given: {first['input']!r})" if parameter else f": {reason}"


def _by_name(parameters: object, fields: Sequence[str]) -> dict[str, object]:
    if parameters is None:
        return {}
    if isinstance(parameters, Mapping):
        return {str(key): value for key, value in parameters.items() if key not in IGNORED_PARAMETERS}
    values = list(parameters) if isinstance(parameters, (list, tuple)) else [parameters]
    # A list longer than the fields names its surplus by position, which the caller reports.
    names = [*fields, *(f"parameter {number}" for number in range(len(fields) + 1, len(values) + 1))]
    return dict(zip(names, values, strict=False))
