"""Where a vision transformer looks: the attention of its class token in the last block, over cells and their channels.

Dimensions: N heads, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from matplotlib import colormaps
from torch.nn import functional as F

from dino4cells.augment.draws import sample_keys
from dino4cells.augment.views import ViewKind
from dino4cells.data.dataset import CellImages
from dino4cells.data.metadata import Metadata
from dino4cells.errors import Dino4CellsError
from dino4cells.features.extract import check_network, source_of
from dino4cells.models.artifact import TrainedModel
from dino4cells.report.cells import merge, stretch, stretch_limits
from dino4cells.report.elements import image
from dino4cells.report.palette import channel_colours, css
from dino4cells.report.pictures import fitted, sheet_jpeg
from dino4cells.report.text import escape

MOST_CLASSES = 12
TILE_PIXELS, SHOWN_PIXELS = 160, 92


@dataclass(frozen=True)
class Attention:
    """What a network sees of one cell, and where it looks.

    Attributes:
        view_CHW: the cell as the network is given it, float.
        maps_NHW: of each head, enlarged to the view's size; 0 to 1 where it looks most.
    """

    view_CHW: np.ndarray
    maps_NHW: np.ndarray


@dataclass(frozen=True)
class AttentionExamples:
    """One cell of each class.

    Attributes:
        channels: what the network is given.
        by_class: class → attention.
        absence: a sentence that says why there are none, or "".
        left_out: number of classes beyond those that are shown.
    """

    channels: tuple[str, ...] = ()
    by_class: Mapping[str, Attention] = field(default_factory=dict)
    absence: str = ""
    left_out: int = 0


def attention_examples(model: TrainedModel | None, metadata: Metadata | None, chosen: Mapping[str, Sequence[int]]) -> AttentionExamples:
    """The attention on the first of the chosen rows of each class, of 12 classes at most, or the reason why there is none."""
    if model is None or metadata is None:
        lacking = " and ".join(what for what, given in (("the model", model), ("the images", metadata)) if given is None)
        return AttentionExamples(absence=f"There are no attention maps, for which {lacking} would be needed.")
    try:
        return _attention_on(model, metadata, chosen)
    except Dino4CellsError as error:  # a page without them is worth having
        return AttentionExamples(absence=f"There are no attention maps: {error}")


@torch.inference_mode()
def _attention_on(model: TrainedModel, metadata: Metadata, chosen: Mapping[str, Sequence[int]]) -> AttentionExamples:
    source, view = source_of(model, metadata, model.config), ViewKind.from_sections(model.config, ("testing_transfo",))
    check_network(model, source, view)
    given = list(source.mode.inputs[0])  # of a network that is shown several inputs, the first
    images, found = CellImages(source, cache_bytes=0), {}
    for name, rows in list(chosen.items())[:MOST_CLASSES]:
        batch = images.__getitems__([(0, row) for row in rows[:1]])
        if not len(batch):
            continue
        keys_BV = sample_keys(0, batch.epoch_B, batch.index_B, torch.zeros_like(batch.index_B))[:, None]
        view_BCHW = view.make(batch.images_BCHW[:, given], batch.sizes_B2, keys_BV)[0]
        if min(view_BCHW.shape[2:]) < model.backbone.smallest_side:
            continue
        maps_1NRC = model.attention_maps(view_BCHW)
        height, width = (model.card.patch_size * length for length in maps_1NRC.shape[2:])
        maps_NHW = F.interpolate(maps_1NRC, (height, width), mode="bilinear", align_corners=False)[0].numpy()
        found[name] = Attention(view_BCHW[0, :, :height, :width].numpy(), _unit(maps_NHW))
    if not found:
        return AttentionExamples(absence="There are no attention maps: none of the example cells can be read.")
    channels = tuple(source.kept_channels[position] for position in given)
    count = len(next(iter(found.values())).view_CHW)
    if len(channels) != count:
        channels = tuple(f"channel {number + 1}" for number in range(count))
    return AttentionExamples(channels, found, left_out=max(0, len(chosen) - MOST_CLASSES))


def attention_section(found: AttentionExamples) -> str:
    """A section of the page: of one cell of each class, where the heads look on average, in each channel, and head by head."""
    if not found.by_class:
        return f'<h2>Where the network looks</h2>\n<p class="quiet">{escape(found.absence)}</p>' if found.absence else ""
    examples, names = found.by_class, list(found.channels)
    views = [example.view_CHW for example in examples.values()]
    limits = stretch_limits(views, names)
    several = len(names) > 1
    head = "<th></th>" + ("<th scope=col>merged</th>" if several else "") + "<th scope=col>attention</th>"
    for channel, colour in zip(names, channel_colours(names), strict=True):
        dot = f'<span class="swatch" style="background:{css(colour)}"></span>' if several else ""
        head += f"<th scope=col>{dot}<bdi>{escape(channel)}</bdi></th>"
    body, heads = "", ""
    for name, example in examples.items():
        shown = stretch(example.view_CHW, limits)
        mean = _unit(example.maps_NHW.mean(axis=0, keepdims=True))[0]
        grey = shown.max(axis=0)
        pictures = [("merged", merge(shown, names))] if several else []
        pictures.append(("attention", _heat(grey, mean)))
        pictures += [(channel, plane * (0.12 + 0.88 * mean)) for channel, plane in zip(names, shown, strict=True)]
        tiles = "".join(f"<td>{_image(picture, f'{name}, {what}')}</td>" for what, picture in pictures)
        body += f"<tr><th scope=row><bdi>{escape(name)}</bdi></th>{tiles}</tr>"
        each = "".join(
            f"<td>{_image(_heat(grey, plane), f'{name}, head {number + 1}')}</td>" for number, plane in enumerate(example.maps_NHW)
        )
        heads += f"<tr><th scope=row><bdi>{escape(name)}</bdi></th>{each}</tr>"
    count = len(next(iter(examples.values())).maps_NHW)
    columns = "".join(f"<th scope=col>head {number + 1}</th>" for number in range(count))
    several_heads = f", mean of {count} heads" if count > 1 else ""
    rest = f" {found.left_out:,} more classes are not shown." if found.left_out else ""
    return (
        "<h2>Where the network looks</h2>\n"
        f'<p class="quiet">One cell of each class, and yellow where the network looks most (the attention of the class token in the last '
        f"block{several_heads}). The channels are bright where it looks, dark elsewhere; a patch counts for all channels at once. "
        f"Attention shows what is looked at, not what decides.{rest}</p>\n"
        + _table("Attention over the channels", head, body)
        + f"<details><summary>Head by head</summary>{_table('Attention head by head', f'<th></th>{columns}', heads)}</details>\n"
    )


def _table(name: str, head: str, body: str) -> str:
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table class="cells"><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _image(picture: np.ndarray, alternative: str) -> str:
    planes = np.moveaxis(np.atleast_3d(picture), 2, 0)
    tile = np.round(255 * np.moveaxis(fitted(planes, TILE_PIXELS), 0, 2)).astype(np.uint8)
    return image(sheet_jpeg([tile.squeeze(2) if tile.shape[2] == 1 else tile], 1), "jpeg", alternative, SHOWN_PIXELS)


def _heat(grey: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """(H, W, 3): the cell in grey under the attention in colour, which is the denser the higher it is."""
    density = 0.25 + 0.6 * attention[..., None]
    return np.asarray((1 - density) * grey[..., None] + density * colormaps["inferno"](attention)[..., :3])


def _unit(maps_NHW: np.ndarray) -> np.ndarray:
    """Maps from 0 to 1; the highest percent of each is 1."""
    low = maps_NHW.min(axis=(1, 2), keepdims=True)
    high = np.percentile(maps_NHW, 99, axis=(1, 2), keepdims=True)
    return np.asarray(((maps_NHW - low) / np.maximum(high - low, 1e-12)).clip(0, 1))
