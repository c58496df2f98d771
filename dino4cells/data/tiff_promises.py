"""What a TIFF promises before its pixels are read: pages, and planes of OME metadata, which cost memory by their number alone, and
strips that unpack to more than they should.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from xml.etree import ElementTree

MAX_PAGES = 1000
"""Pages, or planes that metadata count; an image of channels has at most a dozen, and a stack that is refused by name some hundreds."""
DEFLATED, LZMA = (8, 32946), 34925
"""Compressions that tifffile undoes by itself, without a bound (TIFF technical note 2; libtiff's registry)."""
DEFLATE_RATIO = 1032
"""Times that deflate makes anything smaller, at most (zlib's technical details)."""
UNLOOKED_AT = 2**30
"""Bytes that a strip may fill in the worst case without being unpacked a second time to see."""
_COUNTS = ("IFD", "NumPlanes", "PlaneCount", "FirstC", "FirstZ", "FirstT", "SamplesPerPixel")
_SIZES = ("SizeC", "SizeZ", "SizeT")


class TooManyPages(ValueError):
    """The file is a stack of another order than an image of channels is."""


def check_pages(content: bytes) -> None:
    """Follow the chain of directories (TIFF 6.0, section 2; BigTIFF has numbers of 8 bytes).

    Raises:
        TooManyPages: it is longer than `MAX_PAGES`.
        ValueError: it goes in a ring, or leads out of the file, where tifffile would follow what it finds there.
    """
    order = "<" if content[:1] == b"I" else ">"
    is_big = content[2:4] in (b"\x2b\0", b"\0\x2b")
    link, count, entry = (struct.Struct(f"{order}{kind}") for kind in (("Q", "Q", "20s") if is_big else ("I", "H", "12s")))
    seen: set[int] = set()
    place = 8 if is_big else 4
    while place + link.size <= len(content):
        (page,) = link.unpack_from(content, place)
        if page == 0:
            return
        if page in seen:
            raise ValueError("its pages follow each other in a ring")
        seen.add(page)
        if len(seen) > MAX_PAGES:
            raise TooManyPages(f"the TIFF has more than {MAX_PAGES:,} pages, which are no channels of one image")
        if page + count.size > len(content):
            break
        place = page + count.size + count.unpack_from(content, page)[0] * entry.size
    raise ValueError("the list of its pages is cut off")


def check_ome(xml: str) -> None:
    """Look at the planes that OME metadata promise.

    Raises:
        TooManyPages: they are more than `MAX_PAGES`.
        ValueError: a number is none.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return
    for element in root.iter():
        planes = 1
        for name in _SIZES:
            planes *= max(1, int(element.get(name, "1")))
        steps = 0.0
        if "Start" in element.attrib and "End" in element.attrib:
            steps = (float(element.attrib["End"]) - float(element.attrib["Start"])) / (float(element.get("Step", "1")) or 1.0)
        counts = [int(element.get(name, "0")) for name in _COUNTS]
        if planes > MAX_PAGES or not abs(steps) <= MAX_PAGES or any(abs(count) > MAX_PAGES for count in counts):
            raise TooManyPages(f"the OME metadata of the TIFF tell of more than {MAX_PAGES:,} planes, which are no channels of one image")


def check_inflated(strip: memoryview, compression: int, size: int, bits: int) -> None:
    """Unpack a strip or tile up to the size that it should have.

    Args:
        strip: as it stands in the file.
        compression: the number of its kind.
        size: in bytes, of its pixels.
        bits: of a value; fewer than 8 become 8.

    Raises:
        ValueError: there is more in it.
    """
    if compression in DEFLATED and len(strip) * DEFLATE_RATIO * max(1, 8 // bits) > UNLOOKED_AT:
        unpacker: zlib._Decompress | lzma.LZMADecompressor = zlib.decompressobj()
    elif compression == LZMA:
        unpacker = lzma.LZMADecompressor()
    else:
        return
    if len(unpacker.decompress(strip, size + 1)) > size:
        raise ValueError(f"a strip or a tile of it unpacks to more than the {size:,} bytes of its pixels")
