"""Packed images drawn in the order of blocks: every block is read once, and kept while its images are drawn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dino4cells import storage
from dino4cells.data.shards import Content, Shards


@dataclass(eq=False)
class BlockBuffer:
    """Reads members by whole blocks, and keeps the blocks that were used last.

    One thread reads at a time. A buffer as large as a process has lanes open (`BlockOrder.open_blocks`) reads no block twice: between two
    images of a block, the order takes images from the other lanes alone.

    Attributes:
        shards: of the packed directory.
        blocks: how many are kept between two calls.
        fetched: blocks that were read so far.
    """

    shards: Shards
    blocks: int
    fetched: int = 0
    _kept: OrderedDict[int, Content] = field(default_factory=OrderedDict)

    def read(self, members: Sequence[int]) -> list[Content]:
        """The contents of members; the blocks that are missing are asked for at once."""
        blocks = self.shards.blocks_of(np.asarray(members, np.int64)).tolist()
        missing = [block for block in dict.fromkeys(blocks) if block not in self._kept]
        read = storage.read_ranges([self.shards.block_range(block) for block in missing], self.shards.cache)
        self.fetched += len(missing)
        self._kept.update(zip(missing, read, strict=True))
        contents: list[Content] = []
        for member, block in zip(members, blocks, strict=True):
            self._kept.move_to_end(block)
            contents.append(self.shards.member(member, self._kept[block], int(self.shards.offset_M[self.shards.block_starts_K[block]])))
        for block, content in zip(missing, read, strict=True):
            if not isinstance(content, bytes):
                del self._kept[block]  # what failed is asked for again
        while len(self._kept) > self.blocks:
            self._kept.popitem(last=False)
        return contents
