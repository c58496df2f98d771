"""TIFF, OME-TIFF and NPY: channels wherever a microscope's program has put them, with all their bits, and what is refused."""

from __future__ import annotations

import io
import lzma
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from dino4cells.data.images import decode, decode_picture
from dino4cells.errors import DataError

HEIGHT, WIDTH = 20, 30
Array = NDArray[np.generic]


def pixels(channels: int, kind: type[np.generic] = np.uint8) -> Array:
    return np.random.default_rng(channels).integers(0, np.iinfo(kind).max, (channels, HEIGHT, WIDTH), dtype=kind, endpoint=True)


def tiff(array: Array, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def refused(content: bytes) -> str:
    with pytest.raises(DataError) as caught:
        decode(content, "cell.tif")
    assert str(caught.value).startswith("cell.tif: not an image that can be read (")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def expect(content: bytes, array_CYX: Array) -> None:
    """The content decodes to these channels with all their bits."""
    image = decode(content, "cell.tif")
    assert image.dtype == (torch.uint8 if array_CYX.dtype == np.uint8 else torch.uint16)
    assert np.array_equal(image.numpy(), array_CYX)


# Where the channels are


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", range(1, 13))
def test_pages_are_channels(channels: int, kind: type[np.generic]) -> None:
    array = pixels(channels, kind)
    expect(tiff(array, photometric="minisblack"), array)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 3, 5, 12])
def test_samples_and_planes_are_channels(channels: int, kind: type[np.generic]) -> None:
    array = pixels(channels, kind)
    photometric = "rgb" if channels == 3 else "minisblack"
    expect(tiff(np.moveaxis(array, 0, -1), photometric=photometric, planarconfig="contig"), array)
    expect(tiff(array, photometric=photometric, planarconfig="separate"), array)


def test_pages_that_were_written_one_at_a_time_are_channels() -> None:
    array, buffer = pixels(4, np.uint16), io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for channel in array:
            writer.write(channel)
    expect(buffer.getvalue(), array)


def test_an_imagej_hyperstack_of_channels_is_read() -> None:
    array = pixels(5, np.uint16)
    expect(tiff(array, imagej=True, metadata={"axes": "CYX"}), array)


@pytest.mark.parametrize("axes", ["CYX", "TCZYX", "CZYX", "ZCYX", "YXC"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_the_axes_of_ome_metadata_are_followed(axes: str, kind: type[np.generic]) -> None:
    array = pixels(3, kind)
    stored = (
        np.moveaxis(array, 0, -1) if axes == "YXC" else array.reshape([{"C": 3, "Y": HEIGHT, "X": WIDTH}.get(axis, 1) for axis in axes])
    )
    axes = axes.replace("YXC", "YXS")
    expect(tiff(stored, ome=True, photometric="rgb" if axes == "YXS" else "minisblack", metadata={"axes": axes}), array)


def test_ome_metadata_name_the_channels() -> None:
    content = tiff(pixels(2), ome=True, photometric="minisblack", metadata={"axes": "CYX", "Channel": {"Name": ["DNA", "ER"]}})
    assert decode_picture(content, "cell.ome.tif").channels == ("DNA", "ER")
    assert decode_picture(content, "cell.ome.tif").kind == "8-bit TIFF"
    unnamed = tiff(pixels(2), ome=True, photometric="minisblack", metadata={"axes": "CYX"})
    assert decode_picture(unnamed, "cell.ome.tif").channels is None
    alike = tiff(pixels(2), ome=True, photometric="minisblack", metadata={"axes": "CYX", "Channel": {"Name": ["DNA", "DNA"]}})
    assert decode_picture(alike, "cell.ome.tif").channels is None


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_compressed_pages_are_read(compression: str, kind: type[np.generic]) -> None:
    array, buffer = pixels(3, kind), io.BytesIO()
    first, *others = [Image.fromarray(channel) for channel in array]
    first.save(buffer, "TIFF", compression=compression, save_all=True, append_images=others)
    expect(buffer.getvalue(), array)


def test_small_numbers_that_mean_bright_are_turned_round() -> None:
    array = pixels(1, np.uint16)
    expect(tiff(65535 - array[0], photometric="miniswhite"), array)


# What is no image of channels


@pytest.mark.parametrize(("axes", "shape", "what"), [("ZCYX", (5, 2), "5 planes along Z"), ("TCYX", (3, 2), "3 points in time")])
def test_depth_and_time_are_refused(axes: str, shape: tuple[int, int], what: str) -> None:
    stack = np.zeros((*shape, HEIGHT, WIDTH), np.uint8)
    for options in ({"ome": True}, {"imagej": True}):
        message = refused(tiff(stack, photometric="minisblack", metadata={"axes": axes}, **options))
        assert f"the TIFF has {what} and one is expected: choose one, or project them" in message


def test_several_images_in_one_ome_tiff_are_refused() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, ome=True) as writer:
        for _ in range(2):
            writer.write(pixels(2), photometric="minisblack", metadata={"axes": "CYX"})
    assert "the OME-TIFF holds 2 images; export each as a file of its own" in refused(buffer.getvalue())


def test_colours_in_each_of_several_channels_are_refused() -> None:
    content = tiff(np.zeros((2, HEIGHT, WIDTH, 3), np.uint8), ome=True, photometric="rgb", metadata={"axes": "CYXS"})
    assert "has the axes CYXS of sizes (2, 20, 30, 3), and channels × height × width are expected" in refused(content)


def test_a_palette_is_refused() -> None:
    colours = np.zeros((3, 256), np.uint16)
    assert "has a palette, whose numbers are no intensities" in refused(tiff(pixels(1)[0], photometric="palette", colormap=colours))


# Floating point numbers


@pytest.mark.parametrize("write", [tiff, npy])
def test_floating_point_numbers_from_zero_to_one_are_kept(write: object) -> None:
    array = np.random.default_rng(0).random((2, HEIGHT, WIDTH), dtype=np.float32)
    assert callable(write)
    image = decode(write(array), "cell")
    assert image.dtype == torch.float32
    assert np.array_equal(image.numpy(), array)
    assert decode_picture(write(array), "cell").kind.startswith("float32 ")


@pytest.mark.parametrize(("value", "said"), [(1.5, "from 0 to 1.5"), (-0.1, "from -0.1 to 0"), (np.nan, "from nan to nan")])
def test_floating_point_numbers_elsewhere_are_refused(value: float, said: str) -> None:
    array = np.zeros((2, HEIGHT, WIDTH), np.float32)
    array[1, 3, 4] = value
    assert f"NPY of floating point numbers {said}, which must lie in [0, 1]; divide all images by one number" in refused(npy(array))


# NPY


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", range(1, 13))
def test_an_array_has_its_channels_first_or_last(channels: int, kind: type[np.generic]) -> None:
    array = pixels(channels, kind)
    expect(npy(array), array)
    expect(npy(np.moveaxis(array, 0, -1)), array)
    expect(npy(np.asfortranarray(array)), array)


def test_an_array_of_two_dimensions_is_one_channel() -> None:
    array = pixels(1)
    expect(npy(array[0]), array)


def test_an_array_of_the_other_byte_order_is_read() -> None:
    array = pixels(2, np.uint16)
    expect(npy(array.astype(">u2")), array)


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.zeros((2, HEIGHT, WIDTH), np.int64), "NPY of type int64; uint8, uint16 and floating point numbers in [0, 1] are supported"),
        (np.zeros((2, 2, HEIGHT, WIDTH), np.uint8), "NPY of shape (2, 2, 20, 30); channels × height × width is expected"),
        (np.zeros((13, HEIGHT, WIDTH), np.uint8), "NPY of shape (13, 20, 30) has more than 12 channels"),
        (np.zeros((0, HEIGHT, WIDTH), np.uint8), "NPY of shape (0, 20, 30)"),
        (np.array([[{"a": 1}]], dtype=object), "NPY of type object"),
        (np.zeros((HEIGHT, WIDTH), [("a", "u1")]), "which holds no numbers alone"),
    ],
    ids=["int64", "stack", "13 channels", "no channel", "objects", "fields"],
)
def test_an_array_that_is_no_image_says_why(array: Array, what: str) -> None:
    assert what in refused(npy(array))


class Trap:
    """Whoever unpickles it, runs what it says."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("the array was unpickled",)


def test_an_array_that_runs_code_when_it_is_unpickled_never_is() -> None:
    assert "NPY of type object" in refused(npy(np.array([Trap()], dtype=object)))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.99])
def test_a_truncated_array_is_an_error(share: float) -> None:
    content = npy(pixels(3))
    assert refused(content[: max(8, int(len(content) * share))])


@pytest.mark.parametrize("compression", ["deflate", "lzma"])
def test_a_strip_that_unpacks_to_far_more_than_its_pixels_is_refused_before_it_does(compression: str) -> None:
    if compression == "deflate":
        packer = zlib.compressobj(1)
        packed = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
        again = zlib.compressobj(1, wbits=-15)
        strip = packed + (again.compress(bytes(2**20)) + again.flush(zlib.Z_FULL_FLUSH)) * 1000  # 1 GiB of zeros
    else:
        strip = lzma.compress(bytes(2**26), preset=0)
    content = bytearray(tiff(np.zeros((1, HEIGHT, WIDTH), np.uint8), compression="deflate"))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        tags = file.pages.first.tags
        places = {name: tags[name].valueoffset for name in ("StripOffsets", "StripByteCounts", "Compression")}
    struct.pack_into("<I", content, places["StripOffsets"], len(content))
    struct.pack_into("<I", content, places["StripByteCounts"], len(strip))
    struct.pack_into("<H", content, places["Compression"], 8 if compression == "deflate" else 34925)
    tracemalloc.start()
    said = refused(bytes(content) + strip)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "unpacks to more than the 600 bytes of its pixels" in said
    assert most < 2**25
