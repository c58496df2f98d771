"""Which files hold an image: a column, a pattern of columns, a file per channel, a Cell Painting strip; and what a table says wrongly."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from dino4cells import storage
from dino4cells.config import ModelConfig
from dino4cells.data.dataset import CellImages
from dino4cells.data.layout import Layout
from dino4cells.data.metadata import Metadata, read_metadata
from dino4cells.data.source import image_source
from dino4cells.errors import ConfigError, DataError

HEIGHT, WIDTH = 9, 7
WELLS = ("A01", "A02", "B01")


def channel(well: int, number: int) -> NDArray[np.uint8]:
    return np.random.default_rng((well, number)).integers(1, 256, (HEIGHT, WIDTH), dtype=np.uint8)


def expected(well: int, channels: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.stack([channel(well, number) for number in channels]))


def table(directory: Path, text: str, layout: Layout | None = None, channels: str = "") -> Metadata:
    (directory / "metadata.csv").write_text(text)
    if channels:
        (directory / "channels.txt").write_text(channels.replace(",", "\n") + "\n")
    return read_metadata(str(directory), layout=layout)


def images_of(metadata: Metadata, **model: object) -> torch.Tensor:
    images = CellImages(image_source(metadata, ModelConfig.model_validate(model)))
    batch = images.__getitems__([(0, row) for row in range(len(metadata))])
    assert batch.failures == ()
    return batch.images_BCHW


@pytest.fixture
def file_per_channel(tmp_path: Path) -> Path:
    for well, name in enumerate(WELLS):
        (tmp_path / "007" / name).mkdir(parents=True)
        for number, stain in enumerate(("DNA", "ER", "actin")):
            Image.fromarray(channel(well, number)).save(tmp_path / "007" / name / f"{stain}.png")
    return tmp_path


WELL_TABLE = "plate,well\n" + "".join(f"007,{well}\n" for well in WELLS)
PATTERN = Layout(file_pattern="{plate}/{well}/{channel}.png")


# A file per channel


def test_a_pattern_of_columns_gives_the_file_of_each_channel(file_per_channel: Path) -> None:
    images = images_of(table(file_per_channel, WELL_TABLE, PATTERN, "DNA,ER,actin"))
    assert torch.equal(images, torch.stack([expected(well, (0, 1, 2)) for well in range(3)]))


def test_names_in_the_configuration_choose_and_order_the_files(file_per_channel: Path) -> None:
    metadata = table(file_per_channel, WELL_TABLE, PATTERN, "DNA,ER,actin")
    assert torch.equal(images_of(metadata, channels=["actin", "DNA"])[1], expected(1, (2, 0)))
    (file_per_channel / "channels.txt").unlink()
    unnamed = read_metadata(str(file_per_channel), layout=PATTERN)
    assert torch.equal(images_of(unnamed, channels=["ER", "DNA"])[2], expected(2, (1, 0)))


def test_files_of_channels_that_are_not_used_are_not_fetched(file_per_channel: Path) -> None:
    metadata = table(file_per_channel, WELL_TABLE, PATTERN, "DNA,ER,actin")
    source = image_source(metadata, ModelConfig(channels=["actin"]))
    assert source.files(0) == (f"{file_per_channel}/007/A01/actin.png",)


def test_a_file_cell_may_hold_the_channel_itself(file_per_channel: Path) -> None:
    text = "file\n" + "".join(f"007/{well}/{{channel}}.png\n" for well in WELLS)
    images = images_of(table(file_per_channel, text, channels="ER,DNA,actin"))
    assert torch.equal(images[0], expected(0, (1, 0, 2)))


def test_all_files_of_a_batch_are_asked_for_at_once(file_per_channel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    read_many = storage.read_many
    metadata = table(file_per_channel, WELL_TABLE, PATTERN, "DNA,ER,actin")
    images = CellImages(image_source(metadata, ModelConfig()))
    monkeypatch.setattr(storage, "read_many", lambda urls, *how: asked.append(len(urls)) or read_many(urls, *how))
    images.__getitems__([(0, 0), (0, 1), (0, 2)])
    assert asked == [9]


def test_channels_without_names_are_refused_where_they_name_files(file_per_channel: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"metadata\.csv, cell 1 \(.*\{channel\}\.png\): .*name them in model\.channels, or in channels\.txt"
    ):
        image_source(table(file_per_channel, WELL_TABLE, PATTERN), ModelConfig())


def test_a_missing_file_of_one_channel_is_a_failure_of_its_row(file_per_channel: Path) -> None:
    (file_per_channel / "007" / "A02" / "ER.png").unlink()
    metadata = table(file_per_channel, WELL_TABLE, PATTERN, "DNA,ER,actin")
    batch = CellImages(image_source(metadata, ModelConfig())).__getitems__([(0, 0), (0, 1)])
    assert batch.failures == ((1, f"{file_per_channel}/007/A02/ER.png: no such file or directory; check the path."),)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((HEIGHT, WIDTH, 3), np.uint8), "ER.png: has 3 channels and is the file of one; save it in grey."),
        (np.zeros((HEIGHT, 5), np.uint8), "ER.png: the channels of one image have different sizes (9×5 and 9×7 px, "),
    ],
)
def test_files_that_are_no_channels_of_one_image_are_failures(file_per_channel: Path, array: NDArray[np.uint8], said: str) -> None:
    Image.fromarray(array).save(file_per_channel / "007" / "A02" / "ER.png")
    metadata = table(file_per_channel, WELL_TABLE, PATTERN, "DNA,ER,actin")
    batch = CellImages(image_source(metadata, ModelConfig())).__getitems__([(0, 1)])
    assert said in batch.failures[0][1]


def test_channels_of_8_and_16_bits_meet_between_zero_and_one(file_per_channel: Path) -> None:
    deep = channel(0, 1).astype(np.uint16) * 257
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, deep)
    (file_per_channel / "007" / "A01" / "ER.png").write_bytes(buffer.getvalue())
    metadata = table(file_per_channel, WELL_TABLE, PATTERN, "DNA,ER,actin")
    batch = CellImages(image_source(metadata, ModelConfig())).__getitems__([(0, 0)])
    torch.testing.assert_close(batch.images_BCHW[0], expected(0, (0, 1, 2)) / 255)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{plate/{well}.tif", "'{plate/{well}.tif' has a brace without a name"),
        ("{}.tif", "'{}.tif' has a brace without a name"),
        ("image.tif", "names no column, so that every row would have the same file"),
        ("{channel}.tif", "names no column"),
    ],
)
def test_a_pattern_that_cannot_be_read_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Layout.of(ModelConfig(file_pattern=pattern))
    assert str(caught.value).startswith("model.file_pattern: ")
    assert said in str(caught.value)


def test_a_pattern_with_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no column 'wel' \(model\.file_pattern '\{wel\}\.png'\); did you mean 'well'\?"):
        table(tmp_path, WELL_TABLE, Layout(file_pattern="{wel}.png"))


def test_an_empty_cell_of_a_pattern_is_named_by_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"metadata\.csv, line 3: the column 'well' is empty; name the image of this cell or delete the row\."
    ):
        table(tmp_path, "plate,well\n1,A\n2,\n", PATTERN)


# Cell Painting


def strip(well: int, tiles: int, mask: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    parts = [channel(well, number) for number in range(tiles)]
    return np.hstack(parts if mask is None else [*parts, mask])


STRIPS = Layout(datatype="CellPainting")
STRIP_TABLE = "Image_Name,channel_width,Target\n" + "".join(f"{well}.png,{WIDTH},DMSO\n" for well in WELLS)


@pytest.fixture
def strips(tmp_path: Path) -> Path:
    half = np.zeros((HEIGHT, WIDTH), np.uint8)
    half[:, :3] = 255
    for well, name in enumerate(WELLS):
        Image.fromarray(strip(well, 5, half)).save(tmp_path / f"{name}.png")
    return tmp_path


def test_the_mask_of_a_strip_is_dropped(strips: Path) -> None:
    images = images_of(table(strips, STRIP_TABLE, STRIPS), datatype="CellPainting")
    assert torch.equal(images, torch.stack([expected(well, (0, 1, 2, 3, 4)) for well in range(3)]))


def test_the_mask_of_a_strip_is_applied(strips: Path) -> None:
    layout = STRIPS.model_copy(update={"mask": "apply"})
    images = images_of(table(strips, STRIP_TABLE, layout), datatype="CellPainting")
    assert torch.equal(images[..., :3], torch.stack([expected(well, (0, 1, 2, 3, 4)) for well in range(3)])[..., :3])
    assert not images[..., 3:].any()


def test_the_last_tile_of_a_strip_may_be_a_channel(strips: Path) -> None:
    layout = STRIPS.model_copy(update={"mask": "ignore"})
    images = images_of(table(strips, STRIP_TABLE, layout), datatype="CellPainting")
    assert images.shape[1] == 6
    assert torch.equal(images[0, :5], expected(0, (0, 1, 2, 3, 4)))


def test_the_channels_of_strips_have_names_with_or_without_the_mask(strips: Path) -> None:
    for names in ("DNA,RNA,ER,AGP,Mito", "DNA,RNA,ER,AGP,Mito,mask"):
        metadata = table(strips, STRIP_TABLE, STRIPS, names)
        source = image_source(metadata, ModelConfig(datatype="CellPainting", channels=["ER", "DNA"]))
        assert torch.equal(CellImages(source)[(0, 1)].images_BCHW[0], expected(1, (2, 0)))


def test_the_published_settings_for_strips_are_taken(strips: Path) -> None:
    settings = {"datatype": "CellPainting", "image_mode": "normalized_4_channels", "num_channels": 5}
    assert images_of(table(strips, STRIP_TABLE, STRIPS), **settings).shape[1] == 5


def test_every_row_has_a_width_of_its_own(strips: Path) -> None:
    Image.fromarray(np.hstack([channel(7, 0)[:, :4], channel(7, 1)[:, :4]])).save(strips / "narrow.png")
    layout = STRIPS.model_copy(update={"mask": "ignore"})
    Image.fromarray(strip(1, 2)).save(strips / "wide.png")
    text = f"Image_Name,channel_width\nwide.png,{WIDTH}\nnarrow.png,4.0\n"
    batch = CellImages(image_source(table(strips, text, layout), ModelConfig(datatype="CellPainting"))).__getitems__([(0, 0), (0, 1)])
    assert batch.sizes_B2.tolist() == [[HEIGHT, WIDTH], [HEIGHT, 4]]
    assert torch.equal(batch.images_BCHW[0], expected(1, (0, 1)))


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("odd", "(metadata.csv, cell 2): the strip is 41 px wide, which is no multiple of its channel_width of 7 px; correct the column."),
        ("colour", "(metadata.csv, cell 2): has 3 values a pixel, and a CellPainting strip is grey"),
        ("mask alone", "(metadata.csv, cell 2): the strip has one tile of 7 px, which is the mask"),
    ],
)
def test_a_strip_that_cannot_be_cut_is_a_failure_of_its_row(strips: Path, file: str, said: str) -> None:
    whole = strip(0, 6)
    array = {"odd": whole[:, :-1], "colour": np.stack([whole] * 3, axis=-1), "mask alone": whole[:, :WIDTH]}[file]
    Image.fromarray(array).save(strips / "A02.png")
    batch = CellImages(image_source(table(strips, STRIP_TABLE, STRIPS), ModelConfig(datatype="CellPainting"))).__getitems__([(0, 1)])
    assert said in batch.failures[0][1].replace(f"{strips}/metadata.csv", "metadata.csv")
    assert batch.failures[0][1].startswith(f"{strips}/A02.png (")


@pytest.mark.parametrize(
    ("width", "said"), [("0", "is '0'"), ("-3", "is '-3'"), ("7.5", "is '7.5'"), ("", "is empty"), ("wide", "is 'wide'")]
)
def test_a_wrong_width_is_named_by_line_and_column(strips: Path, width: str, said: str) -> None:
    text = f"Image_Name,channel_width\nA01.png,7\nA02.png,{width}\nB01.png,1.5\n"
    with pytest.raises(DataError) as caught:
        table(strips, text, STRIPS)
    assert str(caught.value).startswith(f"{strips}/metadata.csv, line 3: the column 'channel_width' {said} and must be the width of one")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,channel_width\na.png,7\n", "there is no column 'Image_Name'"),
        ("Image_Name,width\na.png,7\n", "there is no column 'channel_width'"),
        ("Image_Name,channel_width\na.png,7\n,7\n", "line 3: the column 'Image_Name' is empty"),
    ],
)
def test_a_table_that_is_not_of_cell_painting_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        table(tmp_path, text, STRIPS)
    assert said in str(caught.value)


def test_strips_cannot_have_a_file_per_channel() -> None:
    with pytest.raises(ConfigError, match="gives each channel a file, and the images of datatype CellPainting are strips"):
        Layout.of(ModelConfig(datatype="CellPainting", file_pattern="{plate}/{channel}.png"))


def test_a_balanced_table_is_read_as_any_other(tmp_path: Path) -> None:
    Image.fromarray(channel(0, 0)).save(tmp_path / "a.png")
    metadata = table(tmp_path, "file,ID\na.png,1\n", Layout.of(ModelConfig(datatype="HPABalanced")))
    assert torch.equal(images_of(metadata, datatype="HPABalanced")[0], expected(0, (0,)))
