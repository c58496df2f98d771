"""The handbook's image modes: which channels of an image are used, and what of them the network is given at a time.

Training draws one of a mode's inputs for each image and epoch; extraction goes through all of them and puts their features side by side.
The published code's r, g, b and y are the channels of the Human Protein Atlas in order; where the data name their channels, names decide.

Dimensions: C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from dino4cells.config.model import ImageMode
from dino4cells.data.channels import are_numbered
from dino4cells.errors import ConfigError, DataError

ROLES: Final = {
    "r": ("r", "red", "microtubules", "microtubule", "tubulin"),
    "g": ("g", "green", "protein", "antibody", "protein of interest"),
    "b": ("b", "blue", "nucleus", "nuclei", "dna", "dapi", "hoechst"),
    "y": ("y", "yellow", "er", "endoplasmic reticulum"),
}
"""Names of the Human Protein Atlas' channels, in its order, in small letters."""

PROTEIN: Final = "g"


@dataclass(frozen=True)
class Mode:
    """What an image mode takes of the data's channels.

    Attributes:
        name: of the mode.
        kept: channels that are used, as positions among the data's.
        inputs: what the network can be given, each a list of positions among the kept channels, all equally long.
        stretched: whether every channel of every image is stretched to the whole range.
    """

    name: ImageMode
    kept: tuple[int, ...]
    inputs: tuple[tuple[int, ...], ...]
    stretched: bool = False

    @property
    def in_channels(self) -> int:
        """Channels that the network is given at a time."""
        return len(self.inputs[0])


def mode_for(name: ImageMode, channels: tuple[str, ...], *, where: str, counted: bool = True) -> Mode:
    """The mode `name` on images with these channels.

    Args:
        name: as `model.image_mode`.
        channels: names of the images' channels, in order.
        where: what messages say about whose channels these are.
        counted: whether the number in `normalized_3_channels` and its like is a condition; the published code ignores it for strips.

    Raises:
        DataError: the images have too few or too many channels.
        ConfigError: no channel has the name that the mode asks for.
    """
    everything = tuple(range(len(channels)))
    if name in ("normalized_3_channels", "normalized_4_channels", "unnormalized_4_channels") and counted:
        _check_count(name, 3 if "3" in name else 4, channels, where)
    if name.startswith(("normalized", "unnormalized")):
        return Mode(name, everything, (everything,), stretched=name.startswith("un"))
    if name == "one_channel":
        return Mode(name, everything, tuple((channel,) for channel in everything))
    if name == "two_channels":
        # With the protein itself for one of them, as the published extraction has it: its features keep their places.
        protein = _position(PROTEIN, name, channels, where)
        return Mode(name, everything, tuple((channel, protein) for channel in everything))
    if name == "protein_channel":
        return Mode(name, (_position(PROTEIN, name, channels, where),), ((0,),))
    role = name.removeprefix("single_channel_")[0]
    copies = 1 if name.endswith("no_triple") else 3
    return Mode(name, (_position(role, name, channels, where),), ((0,) * copies,))


def _check_count(name: str, wanted: int, channels: tuple[str, ...], where: str) -> None:
    if len(channels) != wanted:
        mend = "choose another mode" if len(channels) < wanted else "name those to use in model.channels, or choose the mode normalized"
        raise DataError(
            f"{where}: the images have {len(channels)} channels ({', '.join(channels)}) and model.image_mode {name} takes {wanted}; {mend}."
        )


def _position(role: str, name: str, channels: tuple[str, ...], where: str) -> int:
    """Where the channel of a role is: by its name, or in the order of the Human Protein Atlas where channels have none."""
    place = list(ROLES).index(role)
    if are_numbered(channels):
        if place >= len(channels):
            raise DataError(
                f"{where}: the images have {len(channels)} channels and model.image_mode {name} takes channel {place} "
                f"({ROLES[role][1]}, counted from 0); choose another mode."
            )
        return place
    found = [position for position, channel in enumerate(channels) if channel.lower() in ROLES[role]]
    if len(found) != 1:
        raise ConfigError(
            f"{where}: the channels are {', '.join(channels)}, and model.image_mode {name} takes the one that is called one of "
            f"{', '.join(ROLES[role])}, of which there {'is none' if not found else 'are several'}; rename the channel, or name it in "
            "model.channels and use the mode normalized."
        )
    return found[0]


def stretch(image: torch.Tensor) -> torch.Tensor:
    """Every channel (C, H, W) from its own minimum and maximum to the whole range; a constant one becomes zeros.

    An 8-bit image stays one, cut off to whole grey values, as the published code has it; others lie in [0, 1].
    """
    values = image.to(torch.float64)
    low = values.amin(dim=(1, 2), keepdim=True)
    span = values.amax(dim=(1, 2), keepdim=True) - low
    scale = torch.where(span > 0, 1 / span, 0)
    if image.dtype == torch.uint8:
        # A grey value times 255 is exact, so that the brightest pixel is 255 and not the whole number below it.
        return torch.div((values - low) * 255, span.clamp(min=1), rounding_mode="floor").to(torch.uint8)
    return ((values - low) * scale).to(torch.float32)
