"""What `dino4cells data validate` reports."""

from __future__ import annotations

from pydantic import BaseModel, Field

EXAMPLES = 5


class Span(BaseModel):
    """Smallest, middle and largest of a number."""

    least: int
    median: float
    most: int


class LabelColumn(BaseModel):
    """A column that puts cells into classes."""

    name: str
    classes: dict[str, int] = Field(description="Cells of each class, the largest first.")
    empty: int = Field(description="Cells without a value.")


class Problem(BaseModel):
    """One kind of thing that is wrong."""

    kind: str = Field(description="missing, unreadable, channels, blank, same file, same content or configuration.")
    count: int = Field(description="Cells that it concerns.")
    meaning: str
    examples: list[str] = Field(description="The first few, each with its cell, counted from 1, and its file.")


class Findings(BaseModel):
    """What a table and its images are."""

    data: str = Field(description="URL of the table.")
    rows: int
    images_seen: bool = Field(default=True, description="Whether images were opened, or the table and the names of files alone looked at.")
    readable: int
    channel_names: list[str] | None = Field(description="In order; null where nobody names them.")
    channels: dict[int, int] = Field(description="Images with each number of channels.")
    heights: Span | None = Field(description="In pixels; null where no image can be read.")
    widths: Span | None
    distinct_sizes: int
    kinds: dict[str, int] = Field(description="Images of each type of file and number of bits.")
    constant_channels: dict[str, int] = Field(description="Images that are not blank and have no contrast in a channel, by channel.")
    labels: list[LabelColumn]
    binary_labels: dict[str, int] = Field(description="Cells with a 1 in each column of 0 and 1.")
    problems: list[Problem]
    seconds: float
    images_per_second: float

    @property
    def are_fine(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems
