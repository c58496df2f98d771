"""Decoding: what kinds of files become channels, and that no damaged one ends a run."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.reference.images import read_image, write_images
from dino4cells.data.images import decode, to_unit_range
from dino4cells.errors import DataError

HEIGHT, WIDTH = 20, 30
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))  # first row, column; steps
Array = NDArray[np.uint8] | NDArray[np.uint16]


def pixels(*shape: int, bits: int = 8) -> Array:
    return np.random.default_rng(0).integers(0, 2**bits, shape, dtype=np.uint8 if bits == 8 else np.uint16)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(array: Array) -> bytes:
    return saved(Image.fromarray(array))


def png_by_hand(array: Array, interlaced: bool = False, width: int | None = None, damage: bytes = b"") -> bytes:
    """A PNG as Pillow cannot write it, of 8 or 16 bits (PNG specification, §5, §8 and §11).

    Args:
        interlaced: in the seven passes of Adam7.
        width: what the header says, in place of the truth.
        damage: bytes at the beginning of the compressed pixels, whose checksum is right.
    """

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, true_width, channels = array.shape
    passes = [array[top::down, left::right] for top, left, down, right in ADAM7] if interlaced else [array]
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for part in passes if part.size for row in part)
    bits = 8 * array.dtype.itemsize
    header = struct.pack(">IIBBBBB", width or true_width, height, bits, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, interlaced)
    compressed = damage + zlib.compress(rows)[len(damage) :]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")


def tiff(array: Array, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def channels_first(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(np.atleast_3d(array), -1, 0).astype(np.int64))


def reason(content: bytes) -> str:
    with pytest.raises(DataError) as caught:
        decode(content, "s3://plates/cell.png")
    message = str(caught.value)
    assert message.startswith("s3://plates/cell.png: ")
    assert message.endswith("or delete its row.")
    assert "\n" not in message
    assert ".cpp" not in message
    return message


# Kinds


@pytest.mark.parametrize("channels", [(), (2,), (3,), (4,)], ids=["grey", "grey and alpha", "RGB", "RGBA"])
def test_a_png_of_8_bits_is_returned_as_stored(channels: tuple[int, ...]) -> None:
    array = pixels(HEIGHT, WIDTH, *channels)
    image = decode(png(array), "cell.png")

    assert image.dtype == torch.uint8
    assert torch.equal(image.long(), channels_first(array))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_of_16_bits_is_returned_as_stored(channels: int) -> None:
    array = pixels(HEIGHT, WIDTH, channels, bits=16)

    image = decode(png_by_hand(array), "cell.png")

    assert image.dtype == torch.uint16
    assert torch.equal(image.long(), channels_first(array))


def test_grey_values_become_fractions_of_the_largest_of_their_type() -> None:
    for kind, largest in ((torch.uint8, 255), (torch.uint16, 65535)):
        levels = torch.arange(largest + 1)
        assert torch.equal(to_unit_range(levels.to(kind)), levels / largest)
    fractions = torch.rand(9)
    assert to_unit_range(fractions) is fractions


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_an_interlaced_png_is_the_image_that_was_saved(bits: int, channels: int) -> None:
    array = pixels(HEIGHT, WIDTH, channels, bits=bits)

    assert torch.equal(decode(png_by_hand(array, interlaced=True), "cell.png"), decode(png_by_hand(array), "cell.png"))


@pytest.mark.parametrize(
    ("kind", "channels"), [("png", 1), ("png", 3), ("png", 4), ("png16", 1), ("png16", 4), ("tiff", 3), ("tiff", 4), ("tiff16", 4)]
)
def test_the_pixels_of_a_cell_are_those_that_scikit_image_reads(kind: str, channels: int, tmp_path: Path) -> None:
    """The drawn cells are compressed with all the filters that encoders choose from."""
    path = write_images(tmp_path, 1, side=67, channels=channels, format=kind)[0]
    expected = channels_first(read_image(path))
    image = decode(path.read_bytes(), str(path)).long()

    if kind == "png16" and channels > 1:
        image = image // 256  # all that scikit-image reads of it
    assert torch.equal(image, expected)


@pytest.mark.parametrize("transparency", [None, 3])
def test_a_png_with_a_palette_shows_its_colours(transparency: int | None) -> None:
    picture = Image.fromarray(pixels(HEIGHT, WIDTH, 3)).quantize(8)
    options = {} if transparency is None else {"transparency": transparency}

    assert torch.equal(decode(saved(picture, **options), "cell.png").long(), channels_first(np.array(picture.convert("RGB"))))


def test_a_black_and_white_png_is_black_and_white() -> None:
    array = pixels(HEIGHT, WIDTH) > 100

    assert torch.equal(decode(saved(Image.fromarray(array)), "mask.png").long()[0], torch.from_numpy(array * 255))


@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "RGB"])
def test_a_jpeg_is_decoded_within_its_losses(channels: tuple[int, ...]) -> None:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    array = np.broadcast_to((y * 5 + x * 3)[(..., *([None] * len(channels)))], (HEIGHT, WIDTH, *channels)).astype(np.uint8)
    image = decode(saved(Image.fromarray(array), "JPEG", quality=95), "cell.jpg")

    assert image.shape == (3 if channels else 1, HEIGHT, WIDTH)
    assert (image.long() - channels_first(array)).abs().max() <= 6


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_grey_tiff_of_either_byte_order_is_read(bits: int, byteorder: str, compression: str | None) -> None:
    array = pixels(HEIGHT, WIDTH, bits=bits)
    image = decode(tiff(array, byteorder=byteorder, compression=compression), "cell.tif")

    assert image.dtype == (torch.uint8 if bits == 8 else torch.uint16)
    assert torch.equal(image.long(), channels_first(array))


@pytest.mark.parametrize("channels", [2, 3, 5, 12])
def test_a_tiff_may_have_its_channels_first_or_last(channels: int) -> None:
    array = pixels(HEIGHT, WIDTH, channels, bits=16)
    first = np.ascontiguousarray(np.moveaxis(array, -1, 0))

    for content in (tiff(first, photometric="minisblack"), tiff(array, photometric="minisblack"), tiff(first, imagej=True)):
        assert torch.equal(decode(content, "cell.tif").long(), channels_first(array))


@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_a_colour_tiff_lower_than_twelve_pixels_keeps_its_channels(planes: str) -> None:
    array = pixels(10, WIDTH, 3)
    stored = array if planes == "contig" else np.ascontiguousarray(np.moveaxis(array, -1, 0))

    assert torch.equal(decode(tiff(stored, photometric="rgb", planarconfig=planes), "cell.tif").long(), channels_first(array))


def test_a_tiff_of_one_row_of_pixels_keeps_its_channels() -> None:
    assert decode(tiff(pixels(5, 1, WIDTH), photometric="minisblack"), "cell.tif").shape == (5, 1, WIDTH)


# What is no image that can be read


def test_an_empty_file_says_that_it_is_empty() -> None:
    assert "the file is empty" in reason(b"")


@pytest.mark.parametrize(
    "content",
    [b"file,ID\ncell.png,1\n", b"<html>Access denied</html>" * 20, b"\x89PN", b"\0" * 100, saved(Image.new("L", (9, 9)), "BMP")],
    ids=["a table", "a web page", "three bytes", "zeros", "a bitmap"],
)
def test_a_file_of_another_kind_says_what_is_read_here(content: bytes) -> None:
    assert "not an image that can be read (it does not begin as a PNG, JPEG, TIFF or NPY does)" in reason(content)


WHOLE = {
    "png": png(pixels(HEIGHT, WIDTH, 4)),
    "png of 16 bits": png_by_hand(pixels(HEIGHT, WIDTH, 3, bits=16)),
    "jpeg": saved(Image.fromarray(pixels(HEIGHT, WIDTH, 3)), "JPEG"),
    "tiff": tiff(pixels(HEIGHT, WIDTH, bits=16)),
    "compressed tiff": tiff(pixels(5, HEIGHT, WIDTH, bits=16), photometric="minisblack", compression="zlib"),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.8])
def test_a_truncated_file_is_an_error_and_no_crash(kind: str, share: float) -> None:
    content = WHOLE[kind][: max(9, int(share * len(WHOLE[kind])))]
    if kind == "compressed tiff" and share > 0.2:
        # Its first pages may be whole; then there are fewer channels, which the data set refuses.
        content = content[: int(0.2 * len(WHOLE[kind]))]

    assert "not an image that can be read (" in reason(content)


@pytest.mark.parametrize("kind", ["png", "png of 16 bits"])
def test_a_damaged_png_is_an_error_wherever_the_damage_is(kind: str) -> None:
    """torchvision 0.29 ends the process with a segmentation fault on most of these."""
    whole = WHOLE[kind]
    places = [*range(8, 60), *range(60, len(whole), 37), len(whole) - 1]

    for place in places:
        content = bytearray(whole)
        content[place] ^= 0x41
        assert "the PNG is truncated or damaged" in reason(bytes(content))


def test_a_png_that_promises_more_than_it_holds_takes_no_memory() -> None:
    for bits in (8, 16):
        array = pixels(HEIGHT, WIDTH, 4, bits=bits)
        assert "it cannot hold 2147483647 × 20 pixels" in reason(png_by_hand(array, width=2**31 - 1))
        assert "the PNG is truncated or damaged" in reason(png_by_hand(array, width=WIDTH + 1))


@pytest.mark.parametrize("damage", [b"\x78\x9c\xff", b"\0", b"\x78\x01\x01\0\0\xff\xff"], ids=["blocks", "header", "length"])
def test_a_png_whose_checksums_hide_damage_is_an_error(damage: bytes) -> None:
    for bits in (8, 16):
        assert "the PNG is truncated or damaged" in reason(png_by_hand(pixels(HEIGHT, WIDTH, 4, bits=bits), damage=damage))


@pytest.mark.parametrize("kind", ["jpeg", "tiff", "compressed tiff"])
def test_damage_elsewhere_is_an_error_or_wrong_pixels_and_nothing_else(kind: str) -> None:
    whole, random = WHOLE[kind], np.random.default_rng(0)

    for _ in range(150):
        content = bytearray(whole)
        for place in random.integers(len(whole), size=3):
            content[place] = random.integers(256)
        try:
            image = decode(bytes(content), "cell")
        except DataError:
            continue
        assert image.ndim == 3


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.zeros((HEIGHT, WIDTH), np.int32), "TIFF of type int32; uint8, uint16 and floating point numbers in [0, 1] are supported"),
        (
            np.zeros((2, 3, HEIGHT, WIDTH), np.uint8),
            "has the axes QQYX of sizes (2, 3, 20, 30), and channels × height × width are expected",
        ),
        (np.zeros((13, HEIGHT, WIDTH), np.uint8), "more than 12 channels"),
    ],
    ids=["32 bits", "stack", "13 channels"],
)
def test_a_tiff_that_is_no_image_of_channels_says_why(array: Array, what: str) -> None:
    assert what in reason(tiff(array, photometric="minisblack"))
