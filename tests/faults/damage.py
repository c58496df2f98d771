"""Damage: what storage, transfers, programs and attackers do to the bytes of a file."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from random import Random

PNG_HEADER = 8
"""Bytes before the first chunk of a PNG."""


def cut(content: bytes, random: Random) -> bytes:
    """The beginning alone."""
    return content[: random.randrange(len(content))]


def flipped(content: bytes, random: Random) -> bytes:
    """One to eight bits the other way round, half of the time in the header, where they matter most."""
    damaged = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8))):
        place = random.randrange(min(len(damaged), 256) if random.random() < 0.5 else len(damaged))
        damaged[place] ^= 1 << random.randrange(8)
    return bytes(damaged)


def overwritten(content: bytes, random: Random) -> bytes:
    """A run of bytes replaced by others: zeros, ones, noise, or a number that programs stumble over."""
    number = random.choice((0, 1, 0x7F, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
    piece = random.choice(
        (bytes(random.randrange(1, 64)), b"\xff" * 4, random.randbytes(8), struct.pack("<I", number), struct.pack(">I", number))
    )
    place = random.randrange(min(len(content), 256) if random.random() < 0.5 else len(content))
    return content[:place] + piece + content[place + len(piece) :]


def without_a_piece(content: bytes, random: Random) -> bytes:
    """A piece of the middle missing, as where a part of a transfer was lost."""
    first = random.randrange(len(content))
    return content[:first] + content[first + random.randrange(1, 128) :]


def repeated(content: bytes, random: Random) -> bytes:
    """A piece of the middle twice."""
    first = random.randrange(len(content))
    return content[: first + random.randrange(1, 128)] + content[first:]


def followed(content: bytes, random: Random) -> bytes:
    """The whole file, and something behind it."""
    return content + random.choice((b"\0" * 100, random.randbytes(40), content, b"<script>"))


def of_another_kind(content: bytes, random: Random) -> bytes:
    """The beginning of the file, and the rest of something else."""
    return content[: random.randrange(1, 32)] + random.choice((random.randbytes(300), bytes(300), b"file,ID\n" * 40))


DAMAGES: tuple[Callable[[bytes, Random], bytes], ...] = (
    cut, flipped, flipped, flipped, overwritten, overwritten, without_a_piece, repeated, followed, of_another_kind,
)  # fmt: skip


def damaged(content: bytes, random: Random) -> tuple[bytes, str]:
    """The content with a damage, now and then with two, and the name of the first."""
    damage = random.choice(DAMAGES)
    hurt = damage(content, random)
    if hurt and random.random() < 0.2:
        hurt = random.choice(DAMAGES)(hurt, random)
    return hurt, damage.__name__


def with_right_checksums(png: bytes) -> bytes:
    """A damaged PNG whose chunks agree with their checksums, as an attacker writes it."""
    start, whole = PNG_HEADER, png[:PNG_HEADER]
    while start + 12 <= len(png):
        length = int.from_bytes(png[start : start + 4], "big")
        content = png[start + 4 : start + 8 + length]
        if len(content) < 4 + length:
            break
        whole += struct.pack(">I", length) + content + struct.pack(">I", zlib.crc32(content))
        start += 12 + length
    return whole + png[start:]
