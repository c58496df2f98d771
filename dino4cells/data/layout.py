"""How a table of cells says where its images are: the handbook's data types, and file names made of columns.

HPA (and HPABalanced, which differs in its sampling alone) has a column `file`; CellPainting has `Image_Name` and `channel_width`, and its
images are strips of channels side by side. A file pattern takes the place of that column.
"""

from __future__ import annotations

import re
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from dino4cells.config import ModelConfig
from dino4cells.errors import ConfigError

CHANNEL = "{channel}"
"""Stands in a file name for the name of a channel where every channel has its own file."""

FILE, IMAGE_NAME, CHANNEL_WIDTH = "file", "Image_Name", "channel_width"

_FIELD = re.compile(r"\{([^{}]*)\}")


class Layout(BaseModel):
    """What the columns of a table mean for its images.

    Attributes:
        datatype: as `model.datatype`.
        file_pattern: as `model.file_pattern`.
        mask: as `model.mask`.
        files_outside_root: as `model.files_outside_root`.

    Example:
        >>> Layout(file_pattern="{plate}/{well}_{channel}.tif").columns
        ('plate', 'well')
    """

    model_config = ConfigDict(frozen=True)

    datatype: Literal["HPA", "HPABalanced", "CellPainting"] = "HPA"
    file_pattern: str | None = None
    mask: Literal["drop", "ignore", "apply"] = "drop"
    files_outside_root: bool = False

    @classmethod
    def of(cls, model: ModelConfig) -> Layout:
        """The layout that a configuration describes.

        Raises:
            ConfigError: the file pattern cannot be read, or does not go with strips.
        """
        layout = cls(datatype=model.datatype, file_pattern=model.file_pattern, mask=model.mask, files_outside_root=model.files_outside_root)
        pattern = model.file_pattern
        if pattern is None:
            return layout
        if "{" in _FIELD.sub("", pattern) or "}" in _FIELD.sub("", pattern) or "" in layout.columns:
            raise ConfigError(f"model.file_pattern: '{pattern}' has a brace without a name; write {{column}} or {CHANNEL}.")
        if not layout.columns:
            raise ConfigError(
                f"model.file_pattern: '{pattern}' names no column, so that every row would have the same file; add a {{column}}."
            )
        if layout.has_strips and CHANNEL in pattern:
            raise ConfigError(
                f"model.file_pattern: '{pattern}' gives each channel a file, and the images of datatype CellPainting are strips of all "
                f"channels; leave {CHANNEL} out, or set model.datatype to HPA."
            )
        return layout

    @property
    def has_strips(self) -> bool:
        """Whether an image is a strip of channels side by side."""
        return self.datatype == "CellPainting"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the names of files are made of."""
        if self.file_pattern is None:
            return (IMAGE_NAME if self.has_strips else FILE,)
        fields = dict.fromkeys(field.strip() for field in _FIELD.findall(self.file_pattern))
        return tuple(field for field in fields if field != CHANNEL.strip("{}"))

    def files(self, frame: pd.DataFrame) -> pa.Array:
        """(N,) names of the rows' files as Arrow's `large_string`; they hold `{channel}` where each channel has a file."""
        if self.file_pattern is None:
            return pa.array(frame[self.columns[0]], pa.large_string())
        # The pattern's texts and fields take turns.
        fields = (part.strip() for part in _FIELD.split(self.file_pattern)[1::2])
        cells = [
            pa.array(frame[field], pa.large_string()) if field in self.columns else pa.scalar(CHANNEL, pa.large_string())
            for field in fields
        ]
        texts = [pa.scalar(text, pa.large_string()) for text in _FIELD.split(self.file_pattern)[::2]]
        parts = [part for pair in zip(texts, cells, strict=False) for part in pair] + [texts[-1]]
        return pc.binary_join_element_wise(*parts, pa.scalar("", pa.large_string()))
