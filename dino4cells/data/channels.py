"""Names of channels: what the data call theirs, and which of them a configuration or a model wants, in which order. Nothing is guessed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from dino4cells.errors import ConfigError, DataError

Names = tuple[str, ...]

_NUMBERED = re.compile(r"channel_\d+")


def numbered(count: int) -> Names:
    """Names for channels that have none: `channel_0`, `channel_1`, …"""
    return tuple(f"channel_{index}" for index in range(count))


def are_numbered(names: Sequence[str]) -> bool:
    """Whether these are the names of channels that have none."""
    return all(_NUMBERED.fullmatch(name) for name in names)


def asked_for(wanted: Sequence[str], found: Names, where: str) -> tuple[int, ...]:
    """Positions among the data's channels of those that a configuration names.

    Args:
        wanted: `model.channels`.
        found: what the data call their channels.
        where: the table, for the message.

    Raises:
        ConfigError: the data have no channel of such a name; says both lists.
    """
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ConfigError(
            f"{where}: model.channels names {', '.join(wanted)} and the data's channels are {', '.join(found)}, so that there is no "
            f"{' and no '.join(missing)}; name channels that the data have, or correct the data's names."
        )
    return tuple(found.index(name) for name in wanted)


def matched_to_model(wanted: Names, found: Names, mapping: Sequence[str] | None, where: str) -> tuple[int, ...]:
    """Positions among the data's channels of those that a model takes, in the model's order.

    Args:
        wanted: the model's channels.
        found: the data's channels.
        mapping: `embedding.channels`: the data's name for each of the model's, in the model's order, or pairs `model=data`.
        where: the table, for the message.

    Raises:
        DataError: the channels differ in number, name or order and no mapping mends it; says both lists and the option that would.
        ConfigError: the mapping names a channel that is not there, or one twice.
    """
    if mapping:
        return tuple(found.index(name) for name in mapped(wanted, found, mapping))
    anonymous = are_numbered(wanted) or are_numbered(found)
    if len(wanted) == len(found) and (anonymous or wanted == found):
        return tuple(range(len(found)))
    lists = f"{where}: the channels are {', '.join(found)} and the model was trained on {', '.join(wanted)}"
    raise DataError(f"{lists}; {_mend(wanted, found)}.")


def mapped(wanted: Names, found: Names | None, mapping: Sequence[str]) -> Names:
    """The data's name for each of the model's channels.

    Args:
        wanted, mapping: as `matched_to_model` takes them.
        found: the data's channels, or None where nothing but the mapping names them.

    Raises:
        ConfigError: the mapping names a channel that is not there, or one twice, or does not say all of them.
    """
    ours, theirs = f"the model's channels are {', '.join(wanted)}", f"the data's channels are {', '.join(found or ())}"
    if any("=" in item for item in mapping):
        pairs = [item.partition("=")[::2] if "=" in item else ("", item) for item in mapping]
        pairs = [(model.strip(), data.strip()) for model, data in pairs]
        for model, data in pairs:
            if model not in wanted or not data or [other for other, _ in pairs].count(model) > 1:
                written = f"{model}={data}" if model else data
                raise ConfigError(f"embedding.channels: '{written}' is no pair model=data for one of the model's channels; {ours}.")
        names = tuple(dict(pairs).get(name, name) for name in wanted)
    else:
        names = tuple(item.strip() for item in mapping)
        if len(names) != len(wanted):
            raise ConfigError(
                f"embedding.channels: names {len(names)} channels ({', '.join(names)}) and the model takes {len(wanted)}; "
                f"name one for each: {ours}."
            )
    for name in names:
        if found is not None and name not in found:
            raise ConfigError(f"embedding.channels: there is no channel '{name}' in the data; {theirs}, and {ours}.")
        if names.count(name) > 1:
            raise ConfigError(f"embedding.channels: the channel '{name}' stands for two of the model's; {theirs}, and {ours}.")
    return names


def _mend(wanted: Names, found: Names) -> str:
    """What to do about channels that are not the model's."""
    if len(found) < len(wanted):
        return "give data with the model's channels"
    if set(wanted) <= set(found):
        return f"if these are the same stains, add --channels {shlex.quote(','.join(wanted))}"
    free = [name for name in found if name not in wanted]
    pairs = ",".join(f"{name}={name if name in found else '…'}" for name in wanted if name not in found)
    return f"say which of them stands for which, with one of {', '.join(free)} for each …: add --channels {shlex.quote(pairs)}"
