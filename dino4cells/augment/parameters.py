"""Types of the parameters that transforms take: the values each accepts, and the words that tell a user so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

BY_DATA = "data"
"""The word that stands for the mean or deviation of the data."""


@dataclass(frozen=True)
class Says:
    """What a parameter must be, as a user reads it after `must be`."""

    text: str


def _no_truth_value(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("is no number")
    return value


def _one_side(value: object) -> object:
    """The handbook's sizes are one number, or a list of one or two; views are squares."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) in (1, 2) and len(set(value)) == 1:
        return value[0]
    return value


def _one_for_all(value: object) -> object:
    return (value,) if isinstance(value, int | float) else value


def _smaller_first(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the smaller first")
    return pair


def _pair_smaller_first(value: float | tuple[float, float]) -> float | tuple[float, float]:
    return _smaller_first(value) if isinstance(value, tuple) else value


Number = Annotated[float, BeforeValidator(_no_truth_value), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0), Says("a number of at least 0")]
Probability = Annotated[Number, Field(ge=0, le=1), Says("a number from 0 to 1")]
Whole = Annotated[int, BeforeValidator(_no_truth_value)]
Pixels = Annotated[Whole, Field(gt=0), BeforeValidator(_one_side), Says("pixels, a whole number above 0")]
Count = Annotated[Whole, Field(gt=1), Says("a whole number above 1")]
Channel = Annotated[Whole, Field(ge=0), Says("the number of a channel, counted from 0")]

Ratios = Annotated[tuple[Positive, Positive], AfterValidator(_smaller_first), Says("two numbers above 0, the smaller first")]
_Fraction = Annotated[Number, Field(gt=0, le=1)]
Fractions = Annotated[
    tuple[_Fraction, _Fraction], AfterValidator(_smaller_first), Says("two fractions above 0 and at most 1, the smaller first")
]

Degrees = Annotated[
    Annotated[Number, Field(ge=0)] | tuple[Number, Number],
    AfterValidator(_pair_smaller_first),
    Says("an angle of at least 0, or two angles, the smaller first"),
]
Strength = Annotated[
    NotNegative | tuple[NotNegative, NotNegative],
    AfterValidator(_pair_smaller_first),
    Says("a number of at least 0, or two, the smaller first"),
]
_HalfTurn = Annotated[Number, Field(ge=-0.5, le=0.5)]
HueShift = Annotated[
    Annotated[Number, Field(ge=0, le=0.5)] | tuple[_HalfTurn, _HalfTurn],
    AfterValidator(_pair_smaller_first),
    Says("a number from 0 to 0.5, or two from -0.5 to 0.5, the smaller first"),
]

PerChannel = Annotated[
    tuple[Number, ...],
    Field(min_length=1),
    BeforeValidator(_one_for_all),
    Says("a number for each channel or one for all, or data"),
]
PositivePerChannel = Annotated[
    tuple[Positive, ...],
    Field(min_length=1),
    BeforeValidator(_one_for_all),
    Says("a number above 0 for each channel or one for all, or data"),
]
"""A number for each channel; one number stands for all channels."""

Interpolation = Annotated[
    Literal["nearest", "nearest_exact", "nearest-exact", "box", "bilinear", "hamming", "bicubic", "lanczos"],
    Says("an interpolation such as bilinear, without effect"),
]
Flag = Annotated[bool, Says("true or false")]
