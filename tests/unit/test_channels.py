"""Channels have names: what the configuration asks for and what a model takes are found by name, or refused with both lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from dino4cells.config import ModelConfig
from dino4cells.data.channels import mapped, matched_to_model
from dino4cells.data.dataset import CellImages
from dino4cells.data.metadata import Metadata, read_metadata
from dino4cells.data.source import ImageSource, image_source, source_for_model
from dino4cells.errors import ConfigError, DataError

HPA = ("microtubules", "protein", "nucleus", "ER")


def table(directory: Path, channels: int, named: Sequence[str] = (), in_file: Sequence[str] = ()) -> Metadata:
    """One image whose channel k is k + 1 everywhere, named in channels.txt, in the file, or nowhere."""
    array = np.stack([np.full((4, 4), place + 1, np.uint8) for place in range(channels)])
    options = {"ome": True, "metadata": {"axes": "CYX", "Channel": {"Name": list(in_file)}}} if in_file else {}
    tifffile.imwrite(directory / "cell.tif", array, photometric="minisblack", **options)
    (directory / "metadata.csv").write_text("file\ncell.tif\n")
    if named:
        (directory / "channels.txt").write_text("\n".join(named) + "\n")
    return read_metadata(str(directory))


def order(source: ImageSource) -> list[int]:
    """Which of the stored channels a batch holds."""
    values: torch.Tensor = CellImages(source)[(0, 0)].images_BCHW[0, :, 0, 0] - 1
    return values.tolist()


def sentence(error: type[Exception], metadata: Metadata, wanted: Sequence[str], **options: object) -> str:
    with pytest.raises(error) as caught:
        source_for_model(metadata, tuple(wanted), "normalized", **options)  # type: ignore[arg-type]
    return str(caught.value)


# Training


def test_names_come_from_the_configuration_the_data_or_the_file_in_this_order(tmp_path: Path) -> None:
    assert image_source(table(tmp_path, 2), ModelConfig()).channels == ("channel_0", "channel_1")
    assert image_source(table(tmp_path, 2), ModelConfig(channels=["x", "y"])).channels == ("x", "y")
    named_in_file = table(tmp_path, 2, in_file=("DNA", "ER"))
    assert image_source(named_in_file, ModelConfig()).channels == ("DNA", "ER")
    assert image_source(named_in_file, ModelConfig(channels=["x", "y"])).channels == ("x", "y")
    assert image_source(table(tmp_path, 2, ("a", "b"), ("DNA", "ER")), ModelConfig()).channels == ("a", "b")


@pytest.mark.parametrize("place", ["channels.txt", "the file"])
def test_channels_are_chosen_and_ordered_by_name(tmp_path: Path, place: str) -> None:
    metadata = table(tmp_path, 4, HPA if place == "channels.txt" else (), HPA if place == "the file" else ())
    for wanted in (["ER", "protein"], ["nucleus"], list(reversed(HPA)), list(HPA)):
        source = image_source(metadata, ModelConfig(channels=wanted, num_channels=len(wanted)))
        assert source.channels == tuple(wanted)
        assert source.in_channels == len(wanted)
        assert order(source) == [HPA.index(name) for name in wanted]


@pytest.mark.parametrize("wanted", [["DNA", "protein"], ["x", "y", "z", "w"]])
def test_names_that_the_data_do_not_have_are_refused_with_both_lists(tmp_path: Path, wanted: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        image_source(table(tmp_path, 4, HPA), ModelConfig(channels=wanted))
    assert str(caught.value).startswith(f"{tmp_path}/metadata.csv: model.channels names {', '.join(wanted)} and the data's channels are ")
    assert f"{', '.join(HPA)}, so that there is no {wanted[0]}" in str(caught.value)


def test_one_name_of_the_file_among_those_of_the_configuration_makes_it_count(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.channels names DNA, x and the data's channels are DNA, ER"):
        image_source(table(tmp_path, 2, in_file=("DNA", "ER")), ModelConfig(channels=["DNA", "x"]))


def test_a_file_that_contradicts_channels_txt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"calls its channels DNA, ER and channels\.txt ER, DNA, the same in another order"):
        image_source(table(tmp_path, 2, ("ER", "DNA"), ("DNA", "ER")), ModelConfig())


def test_the_number_of_channels_may_be_that_of_the_network(tmp_path: Path) -> None:
    metadata = table(tmp_path, 4, HPA)
    for mode, number in (("single_channel_g", 3), ("one_channel", 1), ("two_channels", 2), ("single_channel_r_no_triple", 1)):
        assert image_source(metadata, ModelConfig(image_mode=mode, num_channels=number)).in_channels == number
    assert image_source(metadata, ModelConfig(num_channels=1), one_channel_views=True).in_channels == 4
    with pytest.raises(DataError, match="has 4 channels and the configuration expects 1"):
        image_source(metadata, ModelConfig(num_channels=1))


# A trained model


def test_the_models_channels_in_its_order_are_taken(tmp_path: Path) -> None:
    assert order(source_for_model(table(tmp_path, 4, HPA), HPA, "normalized")) == [0, 1, 2, 3]


@pytest.mark.parametrize("named", [(), ("a", "b", "c", "d")])
def test_without_names_on_one_side_the_number_decides(tmp_path: Path, named: tuple[str, ...]) -> None:
    metadata = table(tmp_path, 4, named)
    wanted = HPA if not named else ("channel_0", "channel_1", "channel_2", "channel_3")
    assert order(source_for_model(metadata, wanted, "normalized")) == [0, 1, 2, 3]
    assert "the channels are " in sentence(DataError, metadata, wanted[:3])


@pytest.mark.parametrize(
    ("found", "mend"),
    [
        (("protein", "microtubules", "nucleus", "ER"), "add --channels microtubules,protein,nucleus,ER."),
        (("DNA", *HPA), "add --channels microtubules,protein,nucleus,ER."),
        (("microtubules", "protein", "DAPI", "ER"), "with one of DAPI for each …: add --channels nucleus=…."),
        (("microtubules", "protein", "nucleus"), "give data with the model's channels."),
    ],
)
def test_other_channels_are_refused_with_both_lists_and_what_would_mend_it(tmp_path: Path, found: tuple[str, ...], mend: str) -> None:
    message = sentence(DataError, table(tmp_path, len(found), found), HPA)
    lists = f"the channels are {', '.join(found)} and the model was trained on microtubules, protein, nucleus, ER; "
    assert message.startswith(f"{tmp_path}/metadata.csv: {lists}")
    assert message.replace("--channels '", "--channels ").replace("'.", ".").endswith(mend)


def test_the_call_that_a_refusal_prints_mends_it(tmp_path: Path) -> None:
    metadata = table(tmp_path, 5, ("DNA", *reversed(HPA)))
    asked = sentence(DataError, metadata, HPA).rpartition("--channels ")[2].rstrip(".")
    assert order(source_for_model(metadata, HPA, "normalized", mapping=asked.split(","))) == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (["Tub", "AB", "DAPI", "ConA"], [3, 2, 0, 1]),
        (["nucleus=DAPI", "microtubules=Tub", "protein=AB", "ER=ConA"], [3, 2, 0, 1]),
        (["ER = DAPI", "nucleus=ConA", "protein=AB", "microtubules=Tub"], [3, 2, 1, 0]),
    ],
)
def test_a_mapping_gives_the_datas_channel_for_each_of_the_models(tmp_path: Path, mapping: list[str], expected: list[int]) -> None:
    metadata = table(tmp_path, 5, ("DAPI", "ConA", "AB", "Tub", "Mito"))
    source = source_for_model(metadata, HPA, "normalized", mapping=mapping)
    assert order(source) == expected
    assert source.channels == tuple(("DAPI", "ConA", "AB", "Tub", "Mito")[place] for place in expected)


def test_pairs_need_only_say_what_is_called_otherwise(tmp_path: Path) -> None:
    metadata = table(tmp_path, 4, ("ER", "DAPI", "protein", "microtubules"))
    assert order(source_for_model(metadata, HPA, "normalized", mapping=["nucleus=DAPI"])) == [3, 2, 1, 0]


def test_a_mapping_may_name_the_channels_of_data_without_names(tmp_path: Path) -> None:
    metadata = table(tmp_path, 4)
    assert order(source_for_model(metadata, ("a", "b"), "normalized", mapping=["channel_3", "channel_0"])) == [3, 0]


def test_a_mode_finds_its_channel_by_the_models_names(tmp_path: Path) -> None:
    metadata = table(tmp_path, 4, ("DAPI", "ConA", "AB", "Tub"))
    source = source_for_model(metadata, HPA, "protein_channel", mapping=["Tub", "AB", "DAPI", "ConA"])
    assert order(source) == [2]
    unnamed = ("channel_0", "channel_1", "channel_2", "channel_3")
    assert order(source_for_model(table(tmp_path, 4, ("protein", "nucleus", "x", "y")), unnamed, "protein_channel")) == [0]


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        (["DAPI", "AB"], "names 2 channels (DAPI, AB) and the model takes 4; name one for each: the model's channels are micro"),
        (
            ["Tub", "AB", "DAPY", "ConA"],
            "there is no channel 'DAPY' in the data; the data's channels are DAPI, ConA, AB, Tub, and the model's",
        ),
        (["Tub", "AB", "DAPI", "DAPI"], "the channel 'DAPI' stands for two of the model's"),
        (["nucleus=DAPI"], "there is no channel 'microtubules' in the data"),
        (["nuclei=DAPI"], "'nuclei=DAPI' is no pair model=data for one of the model's channels; the model's channels are micro"),
        (["nucleus=DAPI", "nucleus=AB"], "'nucleus=DAPI' is no pair"),
        (["nucleus=DAPI", "AB"], "'AB' is no pair"),
        (["nucleus="], "'nucleus=' is no pair"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(tmp_path: Path, mapping: list[str], said: str) -> None:
    message = sentence(ConfigError, table(tmp_path, 4, ("DAPI", "ConA", "AB", "Tub")), HPA, mapping=mapping)
    assert message.startswith("embedding.channels: ")
    assert said in message


def test_a_mapping_names_the_files_of_channels(tmp_path: Path) -> None:
    for place, name in enumerate(("DAPI", "AB")):
        tifffile.imwrite(tmp_path / f"cell_{name}.tif", np.full((4, 4), place + 1, np.uint8))
    (tmp_path / "metadata.csv").write_text("file\ncell_{channel}.tif\n")
    metadata = read_metadata(str(tmp_path))
    assert order(source_for_model(metadata, ("protein", "nucleus"), "normalized", mapping=["AB", "DAPI"])) == [1, 0]
    assert order(source_for_model(metadata, ("AB", "DAPI"), "normalized")) == [1, 0]


def test_positions_are_never_taken_twice() -> None:
    assert matched_to_model(("a", "b"), ("b", "a"), ["a=b", "b=a"], "cells") == (0, 1)
    assert mapped(("a", "b"), None, ["x", "y"]) == ("x", "y")
