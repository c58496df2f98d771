"""What the sections of scalars share: closed, immutable, lenient about text that stands for a value."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo

from dino4cells.config.values import is_empty, read_field_text


class Section(BaseModel):
    """A section of scalars: closed, immutable, lenient about text that stands for a value."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if not is_empty(value)}

    @field_validator("*", mode="before")
    @classmethod
    def _read_text(cls, value: object, info: ValidationInfo) -> object:
        field: FieldInfo = cls.model_fields[info.field_name or ""]
        return read_field_text(value, field.annotation)
