"""Types of the parameters that transforms take, with the ranges that `registry.build_transform` holds a configuration to."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

Pixels = Annotated[int, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]


def _smaller_first(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 < pair[0] <= pair[1]:
        raise ValueError("must be two numbers above 0, the smaller first")
    return pair


def _at_most_one(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] > 1:
        raise ValueError("must be fractions of the image, at most 1")
    return pair


def _one_for_all(value: object) -> object:
    return (value,) if isinstance(value, int | float) else value


Ratios = Annotated[tuple[float, float], AfterValidator(_smaller_first)]
Fractions = Annotated[Ratios, AfterValidator(_at_most_one)]

PerChannel = Annotated[tuple[float, ...], Field(min_length=1), BeforeValidator(_one_for_all)]
PositivePerChannel = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1), BeforeValidator(_one_for_all)]
"""A number for each channel; one number stands for all channels."""
