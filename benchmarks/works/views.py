"""Making the views of a batch: the published configuration's against one image after the other, and others by themselves; in one thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.measuring import Machine, Row, alternate
from benchmarks.reference.images import draw_cell
from benchmarks.reference.transforms import MultiCrop as PlainMultiCrop
from dino4cells.augment.views import MultiCrop
from dino4cells.config import Config, load_config, parse_config
from dino4cells.data.dataset import Batch

PUBLISHED = Path(__file__).parents[2] / "tests" / "unit" / "published_configs"
DRAWN = 4  # images; a batch repeats them


def measure(machine: Machine) -> list[Row]:
    """Milliseconds an image, from grey values of 8 bits to the views that the network is given."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [
            _row(machine, "the published configuration", load_config(preset="handbook"), 24, 512, 4, plain=PlainMultiCrop(), target=8),
            _row(machine, "the same, rounded to bfloat16", load_config(preset="handbook"), 24, 512, 4, dtype=torch.bfloat16),
            _row(machine, "Cell Painting's published one", load_config(str(PUBLISHED / "cell_painting.yaml")), 24, 160, 5),
            _row(machine, "the preset small", _with_numbers(load_config(preset="small")), 32, 64, 3),
        ]
    finally:
        torch.set_num_threads(threads)


def _row(
    machine: Machine,
    name: str,
    config: Config,
    count: int,
    side: int,
    channels: int,
    *,
    plain: PlainMultiCrop | None = None,
    dtype: torch.dtype = torch.float32,
    target: float | None = None,
) -> Row:
    batch, views = _batch(count, side, channels), MultiCrop.from_config(config)
    made = views(batch, dtype)
    sides: dict[str, Callable[[], object]] = {"ours": lambda: views(batch, dtype)}
    if plain is not None:
        sides["reference"] = lambda: [plain(image / 255) for image in batch.images_BCHW[:DRAWN]]
    seconds = alternate(sides, rounds=9)
    ours = seconds["ours"] / count
    reference = seconds["reference"] / DRAWN if plain is not None else None
    # At least the images are read and the views written.
    moved = batch.images_BCHW[0].nbytes + sum(kind[:, 0].nbytes for kind in made)
    return Row(
        f"views: {name}, {side} px, {channels} channels",
        None if reference is None else 1e3 * reference,
        1e3 * ours,
        "ms/image",
        None if reference is None else reference / ours,
        share_of_peak=moved / ours / (machine.copied_bytes / machine.cores),
        target=target,
        note=f"a core each; a batch of {count} is {1e3 * seconds['ours']:.0f} ms; the peak is that of copying images and views once",
    )


def _batch(count: int, side: int, channels: int) -> Batch:
    drawn = torch.stack([torch.from_numpy(draw_cell(side, channels, seed)).permute(2, 0, 1) for seed in range(DRAWN)])
    images_BCHW = drawn.repeat(-(-count // DRAWN), 1, 1, 1)[:count].contiguous()
    return Batch(images_BCHW, torch.full((count, 2), side), torch.arange(count), torch.zeros(count, dtype=torch.int64))


def _with_numbers(config: Config) -> Config:
    """The configuration with numbers where it says `data`."""
    return parse_config(config.to_yaml().replace("mean: data, std: data", "mean: 0.1, std: 0.1"))
