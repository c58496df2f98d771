"""Single values of a configuration: text that stands for numbers and pairs, and the choice of a transform.

The handbook's files hold `1e6` (text in YAML 1.1), `'0.2 0.5'`, `None` and `Image.BICUBIC`; each means a value.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from typing import Final, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

Parameters = dict[str, object] | list[object] | None

TRANSFORM_NAMES: Final = (
    "Warp_cell",
    "RandomResizedCrop",
    "RandomResizedCenterCrop",
    "RandomHorizontalFlip",
    "RandomVerticalFlip",
    "RandomRotation",
    "rnd_dihedral",
    "Rotate_dihedral",
    "remove_channel",
    "rescale_protein",
    "Change_brightness",
    "Change_contrast",
    "Threshold_protein",
    "Solarization",
    "Solarization_for_RGBA",
    "GaussianBlur",
    "ColorJitter",
    "ColorJitter_for_RGBA",
    "RandomGrayscale_for_RGBA",
    "Jigsaw",
    "RandomResizedCrop_for_5_channels",
    "Solarization_for_5_channels",
    "GaussianBlur_for_5_channels",
    "ColorJitter_for_5_channels",
    "RandomGrayscale_for_5_channels",
    "Jigsaw_for_5_channels",
    "Single_cell_centered",
    "Single_cell_Mirror",
    "Single_cell_Resize",
    "Single_cell_Resize_keep_aspect_ratio",
    "Single_cell_random_resize",
    "FA_resize",
    "Get_specific_channel",
    "ToTensor",
    "Normalize",
    "self_normalize",
    "self_normalize_without_black_pixels",
)
"""Every transform of the handbook, and two more that its users' files name; those not built yet are known names too."""

_NUMBER: Final = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBERS: Final = re.compile(rf"[(\[]?\s*({_NUMBER}(?:(?:\s*,\s*|\s+){_NUMBER})*)\s*[)\]]?")


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the known name nearest to `name`, or nothing; case does not count."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    nearest = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[nearest[0]]}?" if nearest else ""


def check_transform_name(name: str) -> str:
    """Passes a known transform name on; ValueError with the nearest known one otherwise."""
    if name not in TRANSFORM_NAMES:
        raise ValueError(f"is no transform that is known here{suggestion(name, TRANSFORM_NAMES)}")
    return name


def is_empty(value: object) -> bool:
    """Whether a key was written without a value: nothing, empty text, or Python's None as text."""
    return value is None or (isinstance(value, str) and value.strip() in ("", "None"))


def read_number(text: str) -> int | float | None:
    """The number that a text stands for (`1e6`, `3`), or None. An integer only where no point and no exponent is written."""
    text = text.strip()
    if re.fullmatch(_NUMBER, text) is None:
        return None
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)


def read_numbers(text: str) -> list[int | float] | None:
    """The numbers of `0.2 0.5`, `0.2, 0.5`, `(0.2, 0.5)` or `[0.2, 0.5]`; None where the text is anything else."""
    match = _NUMBERS.fullmatch(text.strip())
    if match is None:
        return None
    numbers = [read_number(part) for part in re.split(r"[\s,]+", match[1])]
    return [number for number in numbers if number is not None]


def read_pair(value: object) -> object:
    """Two numbers, out of text or a list; nothing stays nothing."""
    if value is None:
        return None
    numbers = read_numbers(value) if isinstance(value, str) else value
    if isinstance(numbers, list | tuple) and len(numbers) == 2 and all(type(number) in (int, float) for number in numbers):
        return tuple(numbers)
    raise ValueError("must be two numbers such as '0.2 0.5'")


def read_names(value: object) -> object:
    """A list of names, out of `a, b` or of names that look like numbers; any other value unchanged, for the model to judge."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple):
        return value
    if any(isinstance(name, bool) for name in names):  # the YAML of a channel named NO or ON
        raise ValueError("must have its names in quotes where one of them is on, off, yes, no, true or false")
    if not all(isinstance(name, str | int | float) for name in names):
        raise ValueError("must be a list of names")
    return [str(name).strip() for name in names if str(name).strip()]


def read_names_or_false(value: object) -> object:
    """Names, or False for none."""
    if value is False or (isinstance(value, str) and value.strip().lower() == "false"):
        return False
    names = read_names(value)
    if not isinstance(names, list):
        raise ValueError("must be false or a list of column names")
    return names or False


def read_field_text(value: object, annotation: object) -> object:
    """What a value of the file means for a field of this type: numbers out of text, lists out of `a, b`, names out of numbers."""
    kinds = get_args(annotation) if get_origin(annotation) is not None else (annotation,)
    numeric = int in kinds or float in kinds or (get_origin(annotation) is Literal and isinstance(kinds[0], int))
    if numeric and isinstance(value, bool):
        raise ValueError("must be a number")
    if numeric and isinstance(value, str):
        number = read_number(value)
        value = value if number is None else number
    if numeric and isinstance(value, float) and value.is_integer() and float not in kinds:
        return int(value)
    if list[str] in kinds and Literal[False] not in kinds:
        return read_names(value)
    if str in kinds and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


def read_parameter(value: object) -> object:
    """A transform's parameter: numbers, pairs, booleans and nothing out of text; `Image.BICUBIC` becomes `bicubic`."""
    if isinstance(value, dict):
        return {str(key): read_parameter(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [read_parameter(item) for item in value]
    if not isinstance(value, str):
        return _finite(value)
    if value in ("None", "True", "False"):
        return {"None": None, "True": True, "False": False}[value]
    if match := re.fullmatch(r"(?:PIL\.)?(?:Image|InterpolationMode)\.(?:Resampling\.)?([A-Z]+)", value):
        return match[1].lower()
    numbers = read_numbers(value)
    if numbers is None:
        return value
    for number in numbers:
        _finite(number)
    return numbers[0] if len(numbers) == 1 and read_number(value) is not None else numbers


def _finite(value: object) -> object:
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(f"must have parameters that are finite numbers, texts, lists, true or false, and not {value!r}")


class TransformChoice(BaseModel):
    """A transform of a section: whether it acts, and its parameters (by name, by position, or none).

    Read from the handbook's `[True, {p: 0.5}]`, `[True, null]`, `[True]` or a bare boolean, and written back as the two-item list.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    active: bool
    parameters: Parameters = None

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: object) -> object:
        if isinstance(value, TransformChoice):
            return {"active": value.active, "parameters": value.parameters}
        if isinstance(value, bool):
            return {"active": value}
        if isinstance(value, list | tuple) and 1 <= len(value) <= 2:
            value = dict(zip(("active", "parameters"), value, strict=False))
        if not isinstance(value, dict) or not set(value) <= {"active", "parameters"}:
            raise ValueError("must be a list of two, active or not and the parameters, such as [True, {p: 0.5}]")
        parameters = read_parameter(value.get("parameters"))
        if parameters is not None and not isinstance(parameters, dict | list):
            raise ValueError("must have parameters that are a mapping, a list or nothing, such as [True, {p: 0.5}]")
        return {**value, "parameters": parameters}

    @model_serializer
    def _as_list(self) -> list[object]:
        return [self.active, self.parameters]
