"""Which channels a network is shown, in every image mode."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dino4cells.config import Config
from dino4cells.config.model import ImageMode
from dino4cells.data.layout import Layout
from dino4cells.data.modes import mode_for
from dino4cells.data.source import ImageSource
from dino4cells.data.stored import StoredImages
from dino4cells.errors import ConfigError
from dino4cells.features.shown import ShownChannels

NAMES = ("microtubules", "protein", "nucleus", "ER")


def shown(make: Callable[..., Config], mode: ImageMode, *names: str, model: tuple[str, ...] = NAMES) -> ShownChannels:
    source = ImageSource(StoredImages("", ("a.png",), NAMES, Layout()), (0, 1, 2, 3), mode_for(mode, NAMES, where="cells"), whole=True)
    return ShownChannels.from_config(make({"embedding.keep_channels": list(names)} if names else {}), source, model)


@pytest.mark.parametrize(
    ("mode", "names", "inputs"),
    [
        ("normalized", ["ER"], ((0, 1, 2, 3),)),
        ("one_channel", ["ER", "protein"], ((1,), (3,))),
        ("two_channels", ["ER", "protein"], ((0, 1), (1, 1), (3, 1))),  # black beside the protein is one input, not two
        ("two_channels", ["ER"], ((3, 1),)),
        ("protein_channel", ["ER", "protein"], ((0,),)),
        ("single_channel_b", ["nucleus"], ((0, 0, 0),)),
    ],
)
def test_inputs_that_show_something_new_are_left(
    mode: ImageMode, names: list[str], inputs: tuple[tuple[int, ...], ...], tiny_config: Callable[..., Config]
) -> None:
    assert shown(tiny_config, mode, *names).inputs == inputs


def test_all_but_the_kept_channels_are_black_and_the_batch_itself_stays(tiny_config: Callable[..., Config]) -> None:
    images = torch.ones(2, 4, 3, 3, dtype=torch.uint8)
    assert shown(tiny_config, "normalized", "nucleus", "protein").of(images)[0, :, 0, 0].tolist() == [0, 1, 1, 0]
    assert images.all()
    assert shown(tiny_config, "normalized").of(images) is images


def test_names_are_the_models_or_the_datas_where_the_model_has_none(tiny_config: Callable[..., Config]) -> None:
    assert shown(tiny_config, "normalized", "DNA", model=("tubulin", "p", "DNA", "er")).positions == (2,)
    assert shown(tiny_config, "normalized", "nucleus", model=tuple(f"channel_{number}" for number in range(4))).positions == (2,)
    with pytest.raises(ConfigError, match="the model has no channel 'DNA'"):
        shown(tiny_config, "normalized", "DNA")
    with pytest.raises(ConfigError, match="none of the channels that the model's image mode uses; name some of protein"):
        shown(tiny_config, "protein_channel", "nucleus")
