"""Keys that speak of the same thing, made to agree: the number of channels, the size of positions, the scale of local crops."""

from __future__ import annotations

from typing import Final

from dino4cells.config.model import IMAGE_MODE_CHANNELS
from dino4cells.config.values import read_field_text, read_pair
from dino4cells.config.yaml import Document, Path, Place

PRESET: Final = "preset "
"""What the name of a packaged preset starts with where it stands as a place."""


def settle(document: Document) -> None:
    """Makes a merged document agree with itself, in place; a warning says which of two keys is not used and why."""
    _settle_channels(document)
    _settle_image_size(document)
    _settle_local_crops_scale(document)


def _given_by_user(document: Document, path: Path) -> Place | None:
    """Where a file or an option gives a key; None where a preset or the models' defaults do."""
    place = document.places.get(path)
    return None if place is None or place.where.startswith(PRESET) else place


def _number(value: object) -> object:
    """A whole number, out of text where need be; what is none is for the model to refuse."""
    try:
        return read_field_text(value, int)
    except ValueError:
        return None


def _settle_channels(document: Document) -> None:
    """An image mode that says how many channels there are wins over `num_channels`: published files say 5 for images of 4."""
    model = document.values.get("model")
    if not isinstance(model, dict) or model.get("datatype") == "CellPainting":  # there the tiles of a strip are counted
        return
    mode = model.get("image_mode")
    number = IMAGE_MODE_CHANNELS.get(mode) if isinstance(mode, str) else None
    given = model.get("num_channels")
    count = _number(given)
    if number is None or type(count) is not int or count == number or (count == 1 and _keeps_one_channel(document)):
        return
    document.warnings.append(
        f"{document.place(('model', 'num_channels'))}: model.num_channels is {given}, and model.image_mode {mode} gives {number} "
        f"({document.place(('model', 'image_mode'))}); {number} is used"
    )
    model["num_channels"] = number


def _keeps_one_channel(document: Document) -> bool:
    section = document.values.get("normalization")
    entry = section.get("Get_specific_channel") if isinstance(section, dict) else None
    return bool(entry[0] if isinstance(entry, list) and entry else entry)


def _settle_image_size(document: Document) -> None:
    """Positions are made for `embedding.image_size` where `model.image_size`, which the handbook does not have, is not given."""
    model, embedding = document.values.get("model"), document.values.get("embedding")
    place = _given_by_user(document, ("embedding", "image_size"))
    if place is None or not isinstance(embedding, dict) or type(_number(embedding.get("image_size"))) is not int:
        return
    if _given_by_user(document, ("model", "image_size")) is not None and isinstance(model, dict) and "image_size" in model:
        return
    if not isinstance(model, dict):
        model = document.values["model"] = {}
    model["image_size"] = embedding["image_size"]
    document.places["model", "image_size"] = place


def _settle_local_crops_scale(document: Document) -> None:
    """`model.local_crops_scale` becomes the scale of local crops where the user's `local_transfo` gives none (handbook, config.yaml)."""
    model, section = document.values.get("model"), document.values.get("local_transfo")
    entry = section.get("RandomResizedCrop") if isinstance(section, dict) else None
    if not isinstance(model, dict) or not isinstance(section, dict) or not isinstance(entry, list) or not entry:
        return
    active, parameters = (*entry, None)[:2]
    by_position = parameters if isinstance(parameters, list) else None
    by_name = parameters if isinstance(parameters, dict) else {}
    given = by_position[1] if by_position is not None and len(by_position) > 1 else by_name.get("scale")
    try:
        wanted, scale = read_pair(model.get("local_crops_scale")), read_pair(given)
    except ValueError:  # the model says it better
        return
    if not isinstance(wanted, tuple) or wanted == scale:
        return
    place = document.place(("local_transfo", "RandomResizedCrop", "1", "scale"))
    if scale is not None and not place.where.startswith(PRESET):
        document.warnings.append(
            f"{document.place(('model', 'local_crops_scale'))}: model.local_crops_scale {wanted} is not used, since "
            f"local_transfo.RandomResizedCrop has the scale {scale} ({place}); make them agree, or delete one"
        )
        model["local_crops_scale"] = scale
    elif by_position is not None:
        section["RandomResizedCrop"] = [active, [*by_position[:1], list(wanted), *by_position[2:]]]
    else:
        section["RandomResizedCrop"] = [active, {**by_name, "scale": list(wanted)}]
