"""Pixels in files that any reader of pictures takes; written without a library of pictures."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


def encoded(pixels: Pixels) -> memoryview:
    """Pixels as PNM, or as PNG where they have alpha, which PNM lacks. Uncompressed.

    `pixels`: height × width × 1, 3 (RGB) or 4 (RGBA), none of these 0.
    """
    height, width, channels = pixels.shape
    if channels == 4:
        return _png(pixels)
    head = b"P%d %d %d 255\n" % (5 if channels == 1 else 6, width, height)
    return memoryview(head + pixels.tobytes())


def _png(pixels: Pixels) -> memoryview:
    height, width, _ = pixels.shape
    # Each row begins with the number of its filter; 0 is none.
    rows = np.zeros((height, 1 + 4 * width), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    pieces = [b"\x89PNG\r\n\x1a\n"]
    for name, data in (
        (b"IHDR", struct.pack(">2I5B", width, height, 8, 6, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.data, 0)),
        (b"IEND", b""),
    ):
        check = zlib.crc32(data, zlib.crc32(name))
        pieces += [struct.pack(">I", len(data)), name, data, struct.pack(">I", check)]
    return memoryview(b"".join(pieces))
