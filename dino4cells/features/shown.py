"""Which of its channels a network is shown at extraction: `embedding.keep_channels`.

A channel that is not shown is black before any transform, as `remove_channel` makes it in training. An input of the image mode without any
shown channel (such as one channel apart) is left out, and its features with it; of inputs that come to the same, the first stays.

Dimensions: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dino4cells.config import Config
from dino4cells.data.channels import Names, are_numbered
from dino4cells.data.source import ImageSource
from dino4cells.errors import ConfigError


@dataclass(frozen=True)
class ShownChannels:
    """Channels of a batch that the networks are shown.

    Attributes:
        positions: of the shown channels, among the kept ones of the image mode.
        inputs: of the image mode, those with a shown channel.
        count: kept channels.
    """

    positions: tuple[int, ...]
    inputs: tuple[tuple[int, ...], ...]
    count: int

    @classmethod
    def every(cls, source: ImageSource) -> ShownChannels:
        """All that the image mode uses."""
        count = len(source.mode.kept)
        return cls(tuple(range(count)), source.mode.inputs, count)

    @classmethod
    def from_config(cls, config: Config, source: ImageSource, channels: Names) -> ShownChannels:
        """Those of `embedding.keep_channels`; all of them where it is not given.

        Args:
            config: names the channels.
            source: the images, as the model takes them.
            channels: the model's names for its channels; the data's count where these are numbers.

        Raises:
            ConfigError: the model has no channel of such a name, or its image mode uses none of them.
        """
        wanted = config.embedding.keep_channels
        if wanted is None:
            return cls.every(source)
        channels = source.channels if are_numbered(channels) else channels
        names = [channels[position] for position in source.mode.kept]
        where = config.where("embedding", "keep_channels")
        unknown = [name for name in wanted if name not in channels]
        if unknown:
            raise ConfigError(f"{where}: the model has no channel '{unknown[0]}'; its channels are {', '.join(channels)}.")
        positions = tuple(position for position, name in enumerate(names) if name in wanted)
        if not positions:
            raise ConfigError(
                f"{where}: names none of the channels that the model's image mode uses; name some of {', '.join(dict.fromkeys(names))}."
            )
        looks = {given: tuple(position if position in positions else None for position in given) for given in source.mode.inputs}
        first = {look: given for given, look in reversed(looks.items()) if set(look) != {None}}
        return cls(positions, tuple(given for given in looks if given in first.values()), len(names))

    def of(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """The images with black in place of what is not shown; themselves where everything is."""
        if len(self.positions) == self.count:
            return images_BCHW
        shown_BCHW = images_BCHW.clone()
        for position in set(range(self.count)) - set(self.positions):  # index_fill does not know 16 bits
            shown_BCHW[:, position] = 0
        return shown_BCHW
