"""Images of every kind that a microscope, a browser or an attacker writes: whole ones with the pixels that they hold, and lying ones.

Dimensions: C channels, H height, W width.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
import tifffile
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.generic]
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
SIGNATURE = b"\x89PNG\r\n\x1a\n"
SAMPLES = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG's colour type by the number of channels."""


@dataclass(frozen=True)
class Picture:
    """A file and what it holds.

    Attributes:
        content: of the file.
        array_CHW: its pixels; None where it is no image that is read here.
        exact: False where the file's kind loses something.
    """

    content: bytes
    array_CHW: Array | None = None
    exact: bool = True


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def drawn(random: Random, channels: int, bits: int = 8, height: int | None = None, width: int | None = None) -> Array:
    """Pixels (C, H, W): noise, or a gradient, which compresses."""
    height = height or random.choice((1, 2, 7, 16, 33))
    width = width or random.choice((1, 3, 8, 20, 41))
    values = np.random.default_rng(random.getrandbits(32)).integers(0, 2**bits, (channels, height, width), endpoint=False)
    if random.random() < 0.3:
        values = np.broadcast_to(np.linspace(0, 2**bits - 1, width).astype(np.int64), values.shape)
    return values.astype(np.uint8 if bits == 8 else np.uint16)


# PNG


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    array_CHW: Array, *, interlaced: bool = False, header: tuple[int, ...] = (), before: bytes = b"", behind: bytes = b"", level: int = 6
) -> bytes:
    """A PNG of 8 or 16 bits; `header` (width, height, bits, colour type, …) in place of the true one, chunks around the pixels."""
    array = np.moveaxis(array_CHW, 0, -1)
    height, width, channels = array.shape
    parts = [array[top::down, left::right] for top, left, down, right in ADAM7] if interlaced else [array]
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for part in parts if part.size for row in part)
    true = (width, height, 8 * array.dtype.itemsize, SAMPLES[channels], 0, 0, int(interlaced))
    fields = (*header, *true[len(header) :])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *fields))
    return SIGNATURE + head + before + chunk(b"IDAT", zlib.compress(rows, level)) + behind + chunk(b"IEND", b"")


def png_of_any_kind(random: Random) -> Picture:
    kind = random.choice(("plain", "plain", "interlaced", "animated", "extra chunks", "palette", "bits", "grey palette"))
    array = drawn(random, random.choice((1, 2, 3, 4)), random.choice((8, 8, 16)))
    if kind == "interlaced":
        return Picture(png(array, interlaced=True), array)
    if kind == "animated":
        frames = [Image.fromarray(np.moveaxis(drawn(random, 3, height=9, width=12), 0, -1)) for _ in range(3)]
        content = saved(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=10)
        return Picture(content, np.moveaxis(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")), -1, 0))
    if kind == "extra chunks":
        text = chunk(b"tEXt", b"Title\0<script>\x1b[31m") + chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 10000))
        return Picture(png(array, before=text + chunk(b"gAMA", struct.pack(">I", 45455)), behind=chunk(b"tIME", bytes(7))), array)
    if kind == "palette":
        image = Image.fromarray(np.moveaxis(drawn(random, 3), 0, -1)).quantize(random.choice((2, 4, 16, 200)))
        options = {"transparency": 1} if random.random() < 0.3 else {}
        return Picture(saved(image, "PNG", **options), np.moveaxis(np.asarray(image.convert("RGB")), -1, 0))
    if kind == "bits":
        image = Image.fromarray(drawn(random, 1)[0] > 100)
        return Picture(saved(image, "PNG"), np.asarray(image)[None].astype(np.uint8) * np.uint8(255))
    if kind == "grey palette":
        image = Image.fromarray(drawn(random, 1)[0]).convert("P")
        return Picture(saved(image, "PNG"), np.moveaxis(np.asarray(image.convert("RGB")), -1, 0))
    return Picture(png(array, level=random.choice((0, 1, 9))), array)


@cache
def zeros(count: int) -> bytes:
    """So many compressed zeros."""
    packer, piece = zlib.compressobj(1), bytes(2**20)
    pieces = [packer.compress(piece) for _ in range(count // 2**20)]
    return b"".join([*pieces, packer.compress(bytes(count % 2**20)), packer.flush()])


def lying_png(random: Random) -> Picture:
    """A header that promises another image than there is, pixels without end, chunks that unpack to gigabytes."""
    small = drawn(random, random.choice((1, 3, 4)), height=9, width=9)
    kind = random.choice(("header", "header", "bomb", "endless pixels", "profile", "text", "no pixels", "palette"))
    huge = random.choice((0, 10, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1))
    if kind == "header":
        fields = [(huge, 9), (9, huge), (huge, huge), (9, 9, random.choice((0, 1, 2, 3, 4, 7, 16, 32)), random.randrange(8))]
        return Picture(png(small, header=random.choice(fields), interlaced=random.random() < 0.2))
    if kind == "bomb":
        side = random.choice((12000, 40000))
        body, head = zeros(12000 * 12001), struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        return Picture(SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    if kind == "endless pixels":
        head = struct.pack(">IIBBBBB", 4, 4, random.choice((8, 16)), random.choice((0, 2, 3, 6)), 0, 0, 0)
        palette = chunk(b"PLTE", bytes(12))
        return Picture(SIGNATURE + chunk(b"IHDR", head) + palette + chunk(b"IDAT", zeros(12000 * 12001)) + chunk(b"IEND", b""))
    if kind in ("profile", "text"):
        name = b"iCCP" if kind == "profile" else random.choice((b"zTXt", b"iTXt"))
        text = b"a\0\1\0\0\0" if name == b"iTXt" else b"a\0\0"
        return Picture(png(small, before=chunk(name, text + zeros(12000 * 12001))))
    if kind == "palette":
        head = struct.pack(">IIBBBBB", random.choice((9, huge)), random.choice((9, 40000)), random.choice((1, 2, 4, 8)), 3, 0, 0, 0)
        palette = random.choice((b"", chunk(b"PLTE", b""), chunk(b"PLTE", bytes(5)), chunk(b"PLTE", bytes(3)), chunk(b"PLTE", bytes(900))))
        pixels = zlib.compress(random.randbytes(200))
        return Picture(SIGNATURE + chunk(b"IHDR", head) + palette + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return Picture(SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0)) + chunk(b"IEND", b""))


# JPEG


def jpeg_of_any_kind(random: Random) -> Picture:
    channels = random.choice((1, 3, 3, 4))
    array = np.moveaxis(drawn(random, channels), 0, -1)
    image = Image.fromarray(array[..., 0] if channels == 1 else array, {1: "L", 3: "RGB", 4: "CMYK"}[channels])
    content = saved(
        image, "JPEG", quality=random.choice((20, 75, 95)), progressive=random.random() < 0.3, subsampling=random.choice((0, 1, 2))
    )
    return Picture(content, np.moveaxis(np.atleast_3d(np.asarray(Image.open(io.BytesIO(content)))), -1, 0), exact=False)


def lying_jpeg(random: Random) -> Picture:
    """A frame header (ITU-T T.81, B.2.2) with other sizes, components or sampling than the scan has."""
    content = bytearray(jpeg_of_any_kind(random).content)
    place = next((at for at in (content.find(bytes((0xFF, kind))) for kind in (0xC0, 0xC2)) if at >= 0), 0)
    size = random.choice((0, 1, 17, 2000, 65500, 65535))
    match random.choice(("size", "components", "sampling", "precision", "restart")):
        case "size":
            struct.pack_into(">HH", content, place + 5, size, random.choice((size, 16)))
        case "components":
            content[place + 9] = random.choice((0, 1, 2, 4, 255))
        case "sampling":
            content[place + 11] = random.randrange(256)
        case "precision":
            content[place + 4] = random.choice((1, 12, 16))
        case "restart":
            content[place:place] = b"\xff\xdd\x00\x04" + random.randbytes(2)
    return Picture(bytes(content))


# TIFF


def tiff(array: Array, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def tiff_of_any_kind(random: Random) -> Picture:
    channels, bits = random.choice((1, 2, 3, 5, 12)), random.choice((8, 16))
    array = drawn(random, channels, bits, height=random.choice((13, 20)), width=random.choice((16, 31)))
    common = {
        "byteorder": random.choice("<>"),
        "bigtiff": random.random() < 0.2,
        "compression": random.choice((None, None, "zlib")),
        "photometric": "minisblack",
    }
    kind = random.choice(("pages", "samples", "planes", "tiles", "ome", "imagej", "strips", "pillow", "bits", "fractions", "one by one"))
    if kind == "samples" and channels > 1:
        return Picture(tiff(np.ascontiguousarray(np.moveaxis(array, 0, -1)), planarconfig="contig", **common), array)
    if kind == "planes" and channels > 1:
        return Picture(tiff(array, planarconfig="separate", **common), array)
    if kind == "tiles":
        return Picture(tiff(array, tile=(16, 16), **common), array)
    if kind == "ome":
        names = [f"channel {number}" for number in range(channels)]
        return Picture(tiff(array, ome=True, metadata={"axes": "CYX", "Channel": {"Name": names}}, **common), array)
    if kind == "imagej":
        return Picture(tiff(array, imagej=True, metadata={"axes": "CYX"}), array)
    if kind == "strips":
        return Picture(tiff(array, rowsperstrip=random.choice((1, 5)), **common), array)
    if kind == "pillow":
        first, *others = [Image.fromarray(plane) for plane in array]
        compression = random.choice(("tiff_lzw", "tiff_deflate", "packbits"))
        return Picture(saved(first, "TIFF", compression=compression, save_all=True, append_images=others), array)
    if kind == "bits":
        mask = array[0] > 100
        return Picture(tiff(mask, photometric="minisblack"), mask[None].astype(np.uint8) * np.uint8(255))
    if kind == "fractions":
        real = (array / np.iinfo(array.dtype).max).astype(random.choice((np.float16, np.float32)))
        return Picture(tiff(real, **common), real.astype(np.float32))
    if kind == "one by one":
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer) as writer:
            for plane in array:
                writer.write(plane, photometric="minisblack")
        return Picture(buffer.getvalue(), array)
    return Picture(tiff(array, **common), array)


def tiff_that_is_no_image(random: Random) -> Picture:
    """Whole files of what is not read here: numbers out of range, palettes, CMYK, depth, complex and signed numbers."""
    match random.choice(("nan", "infinite", "large", "palette", "cmyk", "depth", "type", "jpeg")):
        case "nan" | "infinite" | "large" as kind:
            real = (
                np.random.default_rng(random.getrandbits(32))
                .random((2, 16, 16))
                .astype(random.choice((np.float16, np.float32, np.float64)))
            )
            real[0, 3, 4] = {"nan": np.nan, "infinite": np.inf, "large": 7}[kind]
            return Picture(tiff(real, photometric="minisblack"))
        case "palette":
            return Picture(saved(Image.fromarray(np.moveaxis(drawn(random, 3), 0, -1)).quantize(8), "TIFF"))
        case "cmyk":
            return Picture(saved(Image.fromarray(np.moveaxis(drawn(random, 4), 0, -1), "CMYK"), "TIFF"))
        case "depth":
            return Picture(tiff(np.zeros((3, 2, 16, 16), np.uint8), ome=True, metadata={"axes": random.choice(("ZCYX", "TCYX"))}))
        case "jpeg":
            return Picture(saved(Image.fromarray(np.moveaxis(drawn(random, 3), 0, -1)), "TIFF", compression="jpeg"))
        case _:
            return Picture(tiff(np.zeros((16, 16), random.choice((np.int8, np.int16, np.int32, np.uint32, np.int64, np.complex64)))))


Entry = tuple[int, int, int, bytes]
"""Of a directory of a TIFF: tag, type, count, value or its place."""


def classic_tiff(directories: list[list[Entry]], links: list[int] | None = None, behind: bytes = b"") -> bytes:
    """A TIFF of these directories, one behind the other (TIFF 6.0, section 2); `links` are the numbers of those that follow each."""
    places, place = [], 8
    for directory in directories:
        places.append(place)
        place += 2 + 12 * len(directory) + 4
    parts = [b"II*\0", struct.pack("<I", 8)]
    for number, directory in enumerate(directories):
        parts.append(struct.pack("<H", len(directory)))
        parts += [struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")[:4] for tag, kind, count, value in directory]
        following = links[number] if links else number + 1 if number + 1 < len(directories) else -1
        parts.append(struct.pack("<I", places[following] if following >= 0 else 0))
    return b"".join(parts) + behind


def entries(width: int, height: int, /, **more: Entry) -> list[Entry]:
    """The tags of a page of 8 bits, whose pixels are said to begin at byte 8."""
    tags = {
        256: (256, 4, 1, struct.pack("<I", width)),
        257: (257, 4, 1, struct.pack("<I", height)),
        258: (258, 3, 1, struct.pack("<H", 8)),
        259: (259, 3, 1, struct.pack("<H", 1)),
        262: (262, 3, 1, struct.pack("<H", 1)),
        273: (273, 4, 1, struct.pack("<I", 8)),
        277: (277, 3, 1, struct.pack("<H", 1)),
        278: (278, 4, 1, struct.pack("<I", height)),
        279: (279, 4, 1, struct.pack("<I", width * height % 2**32)),
    }
    tags.update({entry[0]: entry for entry in more.values()})
    return [tags[tag] for tag in sorted(tags)]


@cache
def many_pages(count: int) -> bytes:
    """Directories that all mean the same pixels."""
    return classic_tiff([entries(4, 4)] * count)


def lying_tiff(random: Random) -> Picture:
    """Directories in a ring, without number or without end, counts and sizes that are not true, and metadata that promise planes."""
    huge = random.choice((0, 65535, 2**20, 2**31 - 1, 2**32 - 1))
    match random.choice(
        ("ring", "pages", "size", "tiles", "deflate", "ome", "ome", "imagej", "shaped", "subdirectories", "tags", "entry", "entry", "entry")
    ):
        case "ring":
            count = random.randrange(1, 5)
            return Picture(classic_tiff([entries(4, 4)] * count, [random.randrange(count) for _ in range(count)], bytes(64)))
        case "pages":
            return Picture(many_pages(random.choice((13, 1000, 20000, 200000))))
        case "size":
            return Picture(classic_tiff([entries(huge, random.choice((4, huge)))], behind=bytes(64)))
        case "tiles":
            more = {
                "width": (322, 4, 1, struct.pack("<I", random.choice((16, huge)))),
                "length": (323, 4, 1, struct.pack("<I", 16)),
                "places": (324, 4, random.choice((1, 4, 2**20)), struct.pack("<I", random.choice((0, 8, huge)))),
                "counts": (325, 4, random.choice((1, 4, 2**20)), struct.pack("<I", random.choice((0, 256, huge)))),
            }
            return Picture(classic_tiff([entries(random.choice((64, huge)), 64, **more)], behind=bytes(64)))
        case "deflate":
            side = random.choice((64, 12000, 40000))
            body = zeros(12000 * 12001)
            more = {"compression": (259, 3, 1, struct.pack("<H", 8)), "count": (279, 4, 1, struct.pack("<I", len(body)))}
            page = entries(side, side, **more, place=(273, 4, 1, struct.pack("<I", 8 + 2 + 12 * 9 + 4)))
            return Picture(classic_tiff([page], behind=body))
        case "ome":
            size = random.choice((1, 2, 1000, 10**6, 10**9, 10**12))
            other = random.choice(
                ('IFD="0" PlaneCount="{0}"', 'IFD="{0}"', 'FirstZ="{0}"', 'NumPlanes="{0}" FirstC="{0}"', 'IFD="-{0}"')
            ).format(size)
            uuid = random.choice(("", '<UUID FileName="/etc/passwd">urn:uuid:1</UUID>', '<UUID FileName="../other.tif">urn:uuid:2</UUID>'))
            modulo = (
                '<StructuredAnnotations><XMLAnnotation ID="a" Namespace="x/modulo"><Value><Modulo>'
                f'<ModuloAlongZ Start="0" End="{size}" Step="1"/></Modulo></Value></XMLAnnotation></StructuredAnnotations>'
            )
            entity = random.choice(
                ("", '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">]>')
            )
            xml = (
                f'<?xml version="1.0"?>{entity}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
                f'{random.choice(("", modulo))}<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" '
                f'SizeX="{random.choice((20, size))}" SizeY="16" SizeC="{random.choice((1, size))}" SizeZ="{random.choice((1, size))}" '
                f'SizeT="1"><Channel ID="c" SamplesPerPixel="{random.choice((1, 0, size))}"/>'
                f"<TiffData {other}>{uuid}</TiffData></Pixels></Image></OME>"
            )
            return Picture(tiff(np.zeros((16, 20), np.uint8), description=xml, metadata=None))
        case "imagej":
            counts = [random.choice((1, 2, 10**6, 10**9)) for _ in range(4)]
            text = "ImageJ=1.11a\nimages={}\nchannels={}\nslices={}\nframes={}\nhyperstack=true\n".format(*counts)
            return Picture(tiff(np.zeros((16, 20), np.uint8), description=text, metadata=None))
        case "shaped":
            shape = random.choice(([16, 20], [10**9, 16, 20], [0], [-1, 20], ["a"], [16, 20, 1] * 40, [10**6, 10**6]))
            text = json.dumps({"shape": shape, "axes": random.choice(("YX", "CYX", "", "Q" * 50)), "truncated": random.random() < 0.5})
            return Picture(tiff(np.zeros((16, 20), np.uint8), description=text, metadata=None))
        case "subdirectories":
            count = random.choice((1, 3, 1000))
            return Picture(classic_tiff([entries(4, 4, sub=(330, 13, count, struct.pack("<I", 8)))], behind=bytes(64)))
        case "tags":
            return Picture(
                classic_tiff(
                    [entries(4, 4, more=(random.randrange(65536), random.randrange(20), huge, random.randbytes(4)))], behind=bytes(64)
                )
            )
        case _:
            content = bytearray(tiff_of_any_kind(random).content)
            if content[:4] not in (b"II*\0", b"MM\0*"):
                return Picture(bytes(content))
            order = "<" if content[:2] == b"II" else ">"
            (place,) = struct.unpack_from(f"{order}I", content, 4)
            (count,) = struct.unpack_from(f"{order}H", content, place)
            entry = place + 2 + 12 * random.randrange(count)
            field, size = random.choice(((2, "H"), (4, "I"), (8, "I"), (8, "H")))
            value = random.choice((0, 1, 2, 3, 7, 16, 255, 65535, huge)) & (0xFFFF if size == "H" else 0xFFFFFFFF)
            struct.pack_into(f"{order}{size}", content, entry + field, value)
            return Picture(bytes(content))


# NPY


def numpy_file(array: Array, version: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    npy.write_array(buffer, array, version)
    return buffer.getvalue()


def npy_of_any_kind(random: Random) -> Picture:
    channels = random.choice((1, 2, 3, 12))
    array = drawn(random, channels, random.choice((8, 16)), height=random.choice((13, 20)), width=random.choice((13, 31)))
    version = random.choice((None, (1, 0), (2, 0), (3, 0)))
    match random.choice(("plain", "by column", "big endian", "channels last", "fractions", "flat", "truth")):
        case "by column":
            return Picture(numpy_file(np.asfortranarray(array), version), array)
        case "big endian":
            return Picture(numpy_file(array.astype(array.dtype.newbyteorder(">")), version), array)
        case "channels last":
            return Picture(numpy_file(np.ascontiguousarray(np.moveaxis(array, 0, -1)), version), array)
        case "fractions":
            real = (array / np.iinfo(array.dtype).max).astype(random.choice((np.float16, np.float32, np.float64)))
            return Picture(numpy_file(real, version), real.astype(np.float32))
        case "flat":
            return Picture(numpy_file(array[0], version), array[:1])
        case "truth":
            return Picture(numpy_file(array > 100, version), (array > 100).astype(np.uint8) * np.uint8(255))
    return Picture(numpy_file(array, version), array)


class Code:
    """Would run when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os._exit, (99,)


def lying_npy(random: Random) -> Picture:
    """Pickles, records, and headers that promise more than any memory holds."""
    match random.choice(("objects", "records", "text", "header", "header", "header", "nan")):
        case "objects":
            holder = np.empty((3, 16, 16), dtype=object)
            holder[...] = None
            holder[0, 0, 0] = Code()
            return Picture(numpy_file(holder))
        case "records":
            return Picture(numpy_file(np.zeros((3, 16), [("a", "u1"), ("b", "O" if random.random() < 0.5 else "f4")])))
        case "text":
            return Picture(numpy_file(np.full((16, 16), "x" * 9)))
        case "nan":
            real = np.zeros((3, 16, 16), random.choice((np.float16, np.float32)))
            real[1, 2, 3] = np.nan
            return Picture(numpy_file(real))
    shape = random.choice(
        (
            "(3, 16, 16)",
            "(10**9, 10**9)",
            "(1000000000, 1000000000, 3)",
            "(-3, 16, 16)",
            "(0, 16, 16)",
            "(16,)",
            "((3,),)",
            "(3.5, 16)",
            "(True, 16, 16)",
            "__import__('os')._exit(99)",
            f"({'1,' * 100})",
            f"{'(' * 300}3{')' * 300}",
        )
    )
    kind = random.choice(("'|u1'", "'<u2'", "'|O'", "'|V5'", "'<M8[s]'", "'|S0'", "[('a', '|u1')]", "'<f2'", "'u1,u1'", "''", "5"))
    header = f"{{'descr': {kind}, 'fortran_order': {random.choice(('False', 'True', '3'))}, 'shape': {shape}, }}".encode()
    header = header.ljust(118 if len(header) < 118 else len(header)) + b"\n"
    length = random.choice((len(header), len(header), 10, 65535))
    return Picture(b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + header + bytes(3 * 16 * 16))


MAKERS: dict[str, tuple[Callable[[Random], Picture], ...]] = {
    "PNG": (png_of_any_kind, lying_png),
    "JPEG": (jpeg_of_any_kind, lying_jpeg),
    "TIFF": (tiff_of_any_kind, tiff_of_any_kind, tiff_that_is_no_image, lying_tiff, lying_tiff),
    "NPY": (npy_of_any_kind, lying_npy),
}


def of_no_kind(random: Random) -> bytes:
    """What is none of these, and would like to be taken for one."""
    magic = random.choice(
        (b"", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"II+\0", b"\xff\xd8\xff", b"\x93NUMPY", b"BM", b"GIF89a", b"RIFF", b"\0")
    )
    return magic + random.choice(
        (b"", random.randbytes(random.randrange(1, 400)), bytes(200), b"<html>Access denied</html>", b"\xff" * 100)
    )
