"""What a checkpoint says about its run, besides the networks, and whether a run may go on from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dino4cells.config import Config
from dino4cells.data.metadata import Metadata
from dino4cells.data.sampler import Order
from dino4cells.errors import CheckpointError
from dino4cells.training import checkpoint as checkpoints


@dataclass(frozen=True)
class RunIdentity:
    """What decides the outcome of a run: a checkpoint of another one is not continued.

    Attributes:
        data: URL of the table of cells, for messages.
        data_fingerprint: of the table and the channels.
        settings: `Config.training_settings` before statistics of the data were filled in, as JSON.
        order: fingerprint of the order in which images are drawn, where these do not decide it.
    """

    data: str
    data_fingerprint: str
    settings: str
    order: str = ""

    @classmethod
    def of(cls, config: Config, metadata: Metadata, order: Order) -> RunIdentity:
        return cls(metadata.source, metadata.fingerprint, json.dumps(config.training_settings()), order.fingerprint)

    def stamp(self) -> dict[str, str]:
        """What a checkpoint keeps of it."""
        return {"data_fingerprint": self.data_fingerprint, "config": self.settings, "order": self.order}

    def find(self, directory: str) -> checkpoints.Checkpoint | None:
        """The latest checkpoint of this run in a directory, or None where there is none.

        Raises:
            CheckpointError: it is of a run on other data or with another configuration.
        """
        found = checkpoints.load_latest(directory)
        if found is None:
            return None
        if found.get("data_fingerprint") != self.data_fingerprint:
            raise CheckpointError(
                f"{directory}: holds checkpoints of an unfinished run on other data than {self.data}; "
                "choose another output, or delete them to start anew."
            )
        before = json.loads(found.get("config", self.settings))
        changed = _first_difference(_by_key(before), _by_key(json.loads(self.settings)))
        if changed:
            raise CheckpointError(
                f"{directory}: holds checkpoints of an unfinished run with another configuration ({changed}); "
                "change it back, choose another output, or delete them to start anew."
            )
        if found.get("order", "") != self.order:
            raise CheckpointError(
                f"{directory}: holds checkpoints of an unfinished run that drew the same cells in another order, from files of their own "
                "or with another model.shuffle_blocks; change it back, choose another output, or delete them to start anew."
            )
        return found


def _by_key(settings: dict[str, Any]) -> dict[str, object]:
    """The settings as the configuration's sections, each a mapping; those of transforms by name, and their order last."""
    views = {
        name: {**dict(transforms), "order": [transform for transform, _ in transforms]} for name, transforms in settings["views"].items()
    }
    return {**{key: value for key, value in settings.items() if key != "views"}, **views}


def _first_difference(before: Mapping[str, object], now: Mapping[str, object], section: str = "") -> str | None:
    """The first key in which two nested mappings differ, with both values: `model.lr was 0.001 and is 0.002`."""
    for key in dict.fromkeys([*now, *before]):
        old, new, name = before.get(key), now.get(key), f"{section}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            inside = _first_difference(old, new, f"{name}.")
            if inside:
                return inside
        elif old != new:
            return f"{name} was {_said(old)} and is {_said(new)}"
    return None


def _said(value: object) -> str:
    return "not given" if value is None else str(value)
