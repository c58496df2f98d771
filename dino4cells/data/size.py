"""How large an image may be. A file of a kilobyte can promise more pixels than any memory holds, so the promise is looked at first."""

from __future__ import annotations

MAX_BYTES = 2**28
"""Bytes of an image's pixels as stored, 256 MiB: sixteen times what five channels of a camera of four million pixels with 8 bits fill."""


def check_size(width: int, height: int, channels: int, bytes_per_value: int = 1) -> None:
    """Refuse an image that would take more memory than a picture of cells does.

    Raises:
        ValueError: says the sizes.
    """
    size = width * height * channels * bytes_per_value
    if size > MAX_BYTES:
        raise ValueError(
            f"it has {width:,} × {height:,} pixels and {channels:,} {'channel' if channels == 1 else 'channels'}, {size / 2**20:,.0f} MiB, "
            f"and at most {MAX_BYTES // 2**20} MiB are read; crop it to its cells"
        )
