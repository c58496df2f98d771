"""The handbook's order of a view's transforms, compiled into as few resamplings as give the same view.

Geometric transforms that follow each other are composed and applied in one resampling. An intensity transform between two of them that
commutes with the second may wait for it: `remove_channel` before a crop is `remove_channel` after it, and a flip may be done before a
change of brightness. Where they do not commute (contrast before a crop: the mean is that of the whole image), a new stage begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dino4cells.augment.geometry import Geometric
from dino4cells.augment.intensity import Commutes, Intensity

Transform = Geometric | Intensity


@dataclass(frozen=True)
class Stage:
    """Geometric transforms in one resampling, then intensity transforms; each with its place in the handbook's order."""

    geometric: tuple[tuple[int, Geometric], ...] = ()
    intensity: tuple[tuple[int, Intensity], ...] = ()

    def takes(self, transform: Transform) -> bool:
        """Whether a transform that follows in the order may be done in this stage."""
        if isinstance(transform, Intensity):
            return True
        if self.geometric and transform.needs_pixels(side_after([geometric for _, geometric in self.geometric])):
            return False
        needed = Commutes.WITH_SYMMETRIES if transform.symmetry else Commutes.ALWAYS
        return all(waiting.commutes >= needed for _, waiting in self.intensity)

    def with_transform(self, position: int, transform: Transform) -> Stage:
        """This stage and a transform that it takes."""
        if isinstance(transform, Geometric):
            return Stage((*self.geometric, (position, transform)), self.intensity)
        return Stage(self.geometric, (*self.intensity, (position, transform)))


def stages(transforms: Iterable[Transform]) -> list[Stage]:
    """The transforms of a view, in the handbook's order, as stages."""
    compiled = [Stage()]
    for position, transform in enumerate(transforms):
        if not compiled[-1].takes(transform):
            compiled.append(Stage())
        compiled[-1] = compiled[-1].with_transform(position, transform)
    return compiled


def side_after(transforms: Iterable[Transform]) -> int | None:
    """Side in pixels of the square that every view is, or None where views keep something of the images' sizes."""
    side: int | None = None
    for transform in transforms:
        if isinstance(transform, Geometric):
            side = transform.side_after(side)
    return side
