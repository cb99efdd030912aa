"""Pixels in files that any reader of pictures takes; written without a library of pictures."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np


def encoded(pixels: np.ndarray[Any, Any]) -> memoryview:
    """Pixels as PNM, or as PNG where they have alpha, which PNM lacks. Uncompressed.

    `pixels`: uint8 or uint16; height × width × 1, 3 (RGB) or 4 (RGBA), none of these 0.
    """
    height, width, channels = pixels.shape
    content = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">"))
    if channels == 4:
        return _png(content.view(np.uint8).reshape(height, -1), width, 8 * pixels.itemsize)
    form, most = 5 if channels == 1 else 6, np.iinfo(pixels.dtype).max
    return memoryview(b"".join([b"P%d %d %d %d\n" % (form, width, height, most), content.data]))


def _png(rows: np.ndarray[Any, Any], width: int, depth: int) -> memoryview:
    # Each row begins with the number of its filter; 0 is none.
    filtered = np.zeros((rows.shape[0], rows.shape[1] + 1), np.uint8)
    filtered[:, 1:] = rows
    pieces = [b"\x89PNG\r\n\x1a\n"]
    for name, data in (
        (b"IHDR", struct.pack(">2I5B", width, rows.shape[0], depth, 6, 0, 0, 0)),
        (b"IDAT", zlib.compress(filtered.data, 0)),
        (b"IEND", b""),
    ):
        check = zlib.crc32(data, zlib.crc32(name))
        pieces += [struct.pack(">I", len(data)), name, data, struct.pack(">I", check)]
    return memoryview(b"".join(pieces))
